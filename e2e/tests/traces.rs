//! What the stories leave: the values of all of them are searched for where no application writes.
//!
//! Of the test programs this is the last in the alphabet, and so the last that cargo runs.

use anyhow::ensure;
use serde_json::json;
use watchword_e2e::search::{Places, forms, random_value, search};
use watchword_e2e::{Cluster, run, skip};

#[test]
fn no_value_of_any_story_is_left_where_no_application_writes() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only a local cluster lets itself be searched");
            return Ok(());
        };
        let values = node.stored_values()?;
        ensure!(!values.is_empty(), "no story has stored a value that can be searched for");
        let namespace = cluster.namespace("left").await?;
        let control = random_value()?;
        let left = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"},
            "data": {"here": control},
        });
        namespace.apply(&left.to_string()).await?;

        for (values, is_left) in [(values, false), ([control].into(), true)] {
            let needles: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
            let found = search(&cluster, &node, &needles, Places::NoApplications).await?;
            assert_eq!(!found.is_empty(), is_left, "one of {values:?} is found in {found:#?}");
        }
        Ok(())
    });
}
