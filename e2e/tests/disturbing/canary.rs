//! A value is where it was asked for and nowhere else.
//!
//! Random values are stored and delivered as variable, as file and to a probe, and fail to be
//! delivered, while every role logs all that it can. Then everything that the cluster keeps or says
//! is searched for them, in each form that bytes take on the way. A value that was left lying about
//! on purpose proves that the search finds what is there.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use watchword_crds::names;
use watchword_e2e::cluster::LocalNode;
use watchword_e2e::search::{Places, forms, hex, logs, metrics, random_value, search};
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run, skip, wait_for};

#[test]
fn a_value_is_found_nowhere_but_where_it_was_asked_for() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only a local cluster lets itself be searched");
            return Ok(());
        };
        cluster
            .disturb(["certificates", "controller", "webhook", "store"], async |roles| {
                let trace = roles.iter().map(|role| role.set_variable("RUST_LOG", "trace"));
                try_join_all(trace).await?;
                let namespace = cluster.namespace("canary").await?;
                deliver_and_search(&namespace, &node).await
            })
            .await
    });
}

async fn deliver_and_search(namespace: &Namespace, node: &LocalNode) -> Result<()> {
    let cluster = namespace.cluster();
    let [variable, file, member, broken, control] =
        [random_value()?, random_value()?, random_value()?, random_value()?, random_value()?];
    cluster.create_secret(&namespace.secret("variable"), &variable).await?;
    cluster.create_secret(&namespace.secret("file"), "the first version").await?;
    cluster.update_secret(&namespace.secret("file"), &file).await?;
    let object = json!({"password": member, "port": 1}).to_string();
    cluster.create_secret(&namespace.secret("object"), object).await?;
    cluster.create_secret(&namespace.secret("broken"), format!("{broken}\0")).await?;

    // One that gets all: as variables, as files of both kinds, in a probe.
    let web = task("web", "cat $MESOS_SANDBOX/sandbox-file /file > /dev/null && exec sleep 600");
    let web = with_variable(web, "VARIABLE", &namespace.secret("variable"));
    let web = with_variable(web, "MEMBER", &namespace.secret("object@password"));
    let web = with_file(web, "/file", "RO", &namespace.secret("file"));
    let mut web = with_file(web, "sandbox-file", "RW", &namespace.secret("file"));
    web["health_check"] = json!({
        "type": "COMMAND", "command": {"value": "test -n \"$VARIABLE\" && test -n \"$MEMBER\""},
        "interval_seconds": 1.0, "delay_seconds": 0.0,
    });
    namespace.define("web", &json!({"tasks": [web]})).await?;
    // One that fails on each: a member that is not there, no object at all, no text.
    let bad = |name: &str, secret: &str| {
        with_variable(task(name, "exec sleep 600"), "X", &namespace.secret(secret))
    };
    let failing =
        [bad("member", "object@none"), bad("text", "variable@none"), bad("zero", "broken")];
    namespace.define("failing", &json!({"tasks": failing})).await?;
    // What is left lying about: in an annotation, in arguments, in a log.
    let careless = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "careless", "annotations": {"note": hex(&control)}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "careless", "image": images::BUSYBOX,
                "command": ["sh", "-c", "echo $0; sleep 600; exit 1", control],
            }],
        },
    });
    namespace.apply(&careless.to_string()).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    let pod = namespace.running_pod("web").await?;
    namespace.pod_ready(&pod, LIMIT).await?;
    namespace.in_state("failing", "TASK_FAILED").await?;
    namespace.says("careless", None, &format!("{control}\n")).await?;
    // It has arrived, so it is not missing everywhere. The probe may succeed a moment before the
    // agent has become the application, and nobody may look into the agent.
    wait_for("the application to have its variables", LIMIT, async || {
        let environment =
            namespace.exec(&pod, None, &["cat", "/proc/1/environ"]).await?.success()?;
        ensure!(environment.contains(&variable) && environment.contains(&member), "no variable");
        Ok(())
    })
    .await?;
    let read = ["cat", "/file", "/mnt/mesos/sandbox/sandbox-file"];
    let read = namespace.printed(&pod, None, &read).await?;
    assert_eq!(read, format!("{file}{file}"));
    wait_for("the logs of all roles", LIMIT, async || {
        let said = logs(cluster).await?;
        for role in ["certificates", "controller", "webhook", "store"] {
            let pods = format!("{}/watchword-{role}-", names::NAMESPACE);
            let traces = |(source, text): &(String, String)| {
                source.starts_with(&pods) && text.contains("\"level\":\"TRACE\"")
            };
            ensure!(said.iter().any(traces), "{role} does not log at level trace");
        }
        Ok(())
    })
    .await?;

    let values = [&variable, &file, &member, &broken];
    let needles: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
    let found = search(cluster, node, &needles, Places::All).await?;
    assert!(found.is_empty(), "a secret is found in {found:#?}");

    let found = search(cluster, node, &forms(&control), Places::All).await?;
    for place in
        ["etcd /registry/pods/", "object Pod ", "log of ", "arguments of ", "file ", "/etcd/"]
    {
        assert!(found.iter().any(|one| one.contains(place)), "{place} is not in {found:#?}");
    }
    all_has_been_counted(cluster).await
}

/// What happened here is in the metrics, and there are none that no document speaks of.
async fn all_has_been_counted(cluster: &Cluster) -> Result<()> {
    let texts: Vec<String> = metrics(cluster).await?.into_iter().map(|(_, text)| text).collect();
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    for expected in [
        "watchword_decisions_total{event=\"resolve\",decision=\"allowed\"}",
        "watchword_launch_failures_total{cause=\"secrets\"}",
        "watchword_reviews_total{resource=\"pods\",answer=\"patched\"}",
        "watchword_sealed 0",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "no {expected}");
    }
    let names = lines.iter().filter_map(|line| line.strip_prefix("# TYPE watchword_"));
    for name in names.filter_map(|rest| rest.split(' ').next()) {
        assert!(DOCUMENT.contains(&format!("`watchword_{name}")), "nothing is said of {name}");
    }
    Ok(())
}

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");
