//! Variables: from the store into the environment of the process that asked for them, and of no
//! other.

use serde_json::json;
use watchword_e2e::watchword::{task, with_plain, with_variable};
use watchword_e2e::{Cluster, run};

#[test]
fn a_variable_by_reference_reaches_the_process() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("variable").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let print = task("web", "echo \"<$DB> <$PLAIN>\"; exec sleep 600");
        let web = with_variable(print, "DB", &namespace.secret("db"));

        namespace.define("web", &json!({"tasks": [with_plain(web, "PLAIN", "plain")]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        assert_eq!(namespace.logs(&pod, None).await?, "<s3cret-value> <plain>\n");
        anyhow::Ok(())
    });
}
