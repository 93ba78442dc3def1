//! Delivery: however the agent comes into a pod, the pod has the same, also where only `restricted`
//! pods may be.
//!
//! The stories change the webhook's settings and put them back.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, run, skip, wait_for};

#[test]
fn an_init_container_delivers_the_agent() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["webhook"], async |[webhook]| {
                webhook.set_variable(DELIVERY, "init-container").await?;
                let namespace = cluster.namespace_with("init-container", &RESTRICTED).await?;

                let (both, variables) = define(&namespace).await?;

                assert_eq!(init_containers(&both), ["watchword-install", "watchword-files"]);
                assert_eq!(init_containers(&variables), ["watchword-install"]);
                assert_eq!(agent_volume(&both)["emptyDir"]["medium"], "Memory");
                Ok(())
            })
            .await
    });
}

#[test]
fn an_image_volume_delivers_the_agent_and_variables_need_no_init_container() {
    run(async |cluster: Cluster| {
        let version = cluster.client().apiserver_version().await?;
        if minor(&version.minor)? < 36 {
            // Not a failure: older nodes need a feature gate or a newer containerd.
            skip(&format!("Kubernetes 1.{} has no image volumes by default", version.minor));
            return Ok(());
        }
        cluster
            .disturb(["webhook"], async |[webhook]| {
                webhook.set_variable(DELIVERY, "image-volume").await?;
                let namespace = cluster.namespace_with("image-volume", &RESTRICTED).await?;

                let (both, variables) = define(&namespace).await?;

                assert_eq!(init_containers(&both), ["watchword-files"]);
                assert_eq!(init_containers(&variables), [""; 0]);
                assert!(agent_volume(&variables)["image"]["reference"].is_string());
                Ok(())
            })
            .await
    });
}

/// Defines a task with variable, file and exec probe, and one with a variable only; checks what
/// they have, and returns their pods.
async fn define(namespace: &Namespace) -> Result<(Value, Value)> {
    let secret = namespace.secret("s");
    namespace.cluster().create_secret(&secret, "value of s").await?;
    let command = "echo \"<$S> <$(cat /etc/secret)>\"; exec sleep 600";
    let mut both = with_variable(task("both", command), "S", &secret);
    both = with_file(both, "/etc/secret", "RO", &secret);
    both["health_check"] = json!({
        "type": "COMMAND",
        "command": {"value": "test \"$S\" = 'value of s' && touch /mnt/mesos/sandbox/probed"},
        "delay_seconds": 0.0,
        "grace_period_seconds": 0.0,
        "interval_seconds": 1.0,
    });
    let variables = with_variable(task("variables", "echo \"<$S>\"; exec sleep 600"), "S", &secret);

    // Fit for the strictest of namespaces, however the agent comes.
    let user = json!({"runAsNonRoot": true, "runAsUser": 1234, "runAsGroup": 1234});
    let template = json!({"spec": {"securityContext": user}});
    namespace.define("both", &json!({"tasks": [both], "template": template})).await?;
    namespace.define("variables", &json!({"tasks": [variables], "template": template})).await?;

    let both = output(namespace, "both", "<value of s> <value of s>\n").await?;
    let name = both["metadata"]["name"].as_str().context("a pod without a name")?;
    wait_for("the probe to have run", LIMIT, async || {
        let look = ["test", "-e", "/mnt/mesos/sandbox/probed"];
        namespace.exec(name, None, &look).await?.success()
    })
    .await?;
    Ok((both, output(namespace, "variables", "<value of s>\n").await?))
}

/// Waits for what the definition's pod prints, and returns the pod.
async fn output(namespace: &Namespace, definition: &str, expected: &str) -> Result<Value> {
    let labels = format!("{}={definition}", names::TASK_DEFINITION_LABEL);
    let pod: Pod = namespace.pod_with(&labels, "Running").await?;
    let name = pod.metadata.name.clone().context("a pod without a name")?;
    namespace.says(&name, None, expected).await?;
    serde_json::to_value(pod).context("a pod is JSON")
}

fn init_containers(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

fn agent_volume(pod: &Value) -> &Value {
    let volumes = pod["spec"]["volumes"].as_array();
    let agent = volumes.into_iter().flatten().find(|volume| volume["name"] == "watchword");
    agent.unwrap_or(&Value::Null)
}

/// Some servers say `36+`.
fn minor(text: &str) -> Result<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("what version is `{text}`?"))
}

const RESTRICTED: [(&str, &str); 1] = [("pod-security.kubernetes.io/enforce", "restricted")];

const DELIVERY: &str = "WATCHWORD_AGENT_DELIVERY";
