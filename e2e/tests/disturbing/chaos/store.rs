//! Without the store, and with one of two killed: who runs goes on, who starts waits.

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::cluster::restarts;
use watchword_e2e::roles::Role;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn without_the_store_running_pods_stay_and_new_ones_wait_and_say_why() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["store"], async |[store]| {
                let namespace = cluster.namespace("no-store").await?;
                let secret = namespace.secret("s");
                cluster.create_secret(&secret, "value of s").await?;
                let mut early = with_variable(task("early", "exec sleep 600"), "S", &secret);
                early["health_check"] = json!({
                    "type": "COMMAND",
                    "command": {"value": "test \"$S\" = 'value of s' && echo >> /mnt/mesos/sandbox/log"},
                    "delay_seconds": 0.0,
                    "grace_period_seconds": 0.0,
                    "interval_seconds": 1.0,
                    "timeout_seconds": 60.0,
                    "consecutive_failures": 1,
                });
                namespace.define("early", &json!({"tasks": [early]})).await?;
                let early = namespace.running_pod("early").await?;
                let probes = async || {
                    let count = ["wc", "-l", "/mnt/mesos/sandbox/log"];
                    let lines = namespace.exec(&early, None, &count).await?.success()?;
                    let count = lines.split(' ').next().unwrap_or_default();
                    count.parse::<usize>().with_context(|| lines.clone())
                };
                wait_for("the first probe", LIMIT, async || {
                    if probes().await? > 0 { Ok(()) } else { bail!("none has run") }
                })
                .await?;
                let before = namespace.pod_ready(&early, LIMIT).await?;

                store.scale(0).await?;

                let last = wait_for("the count of probes", LIMIT, &probes).await?;
                wait_for("three probe periods", LIMIT, async || {
                    let now = probes().await?;
                    if now > last + 3 { Ok(()) } else { bail!("{now} probes, {last} before") }
                })
                .await?;
                let late = task("late", "echo \"<$S>\"; exec sleep 600");
                let late = with_variable(late, "S", &secret);
                namespace.define("late", &json!({"tasks": [late]})).await?;
                // One whose files are written before any container of it is made.
                let file = task("late-file", "cat /etc/secret; echo; exec sleep 600");
                let file = with_file(file, "/etc/secret", "RO", &secret);
                namespace.define("late-file", &json!({"tasks": [file]})).await?;
                namespace.waits_because("late", WHY).await?;
                namespace.waits_because("late-file", WHY).await?;
                let pending = format!("{}=late-file", names::TASK_DEFINITION_LABEL);
                let file = namespace.pod_with(&pending, "Pending").await?.name_any();
                let late = namespace.running_pod("late").await?;
                let log = namespace.logs(&late, None).await?;
                assert!(log.contains("waiting for the secrets of container `late`"), "{log:?}");
                let output = namespace.output(&late, None).await?;
                assert_eq!(output, "", "the application has begun");
                let after = namespace.api::<Pod>().get(&early).await?;
                assert_eq!(restarts(&after), restarts(&before), "a healthy container was restarted");
                assert_eq!(ready_since(&after)?, ready_since(&before)?, "it was not always ready");

                store.scale(1).await?;
                namespace.in_state("late", "TASK_RUNNING").await?;
                namespace.says(&late, None, "<value of s>\n").await?;
                assert_eq!(restarts(&namespace.api::<Pod>().get(&late).await?), 0, "it waited");
                namespace.in_state("late-file", "TASK_RUNNING").await?;
                namespace.says(&file, None, "value of s\n").await?;
                Ok(())
            })
            .await
    });
}

#[test]
fn of_two_stores_one_may_be_killed_and_its_successor_unseals_by_itself() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["store"], async |[store]| {
                let namespace = cluster.namespace("two-stores").await?;
                let secret = namespace.secret("s");
                cluster.create_secret(&secret, "value of s").await?;
                store.scale(2).await?;
                unsealed(&store, 2).await?;

                let web = with_variable(task("web", "echo \"<$S>\"; exec sleep 600"), "S", &secret);
                let run = json!({"service": {"instances": 4}});
                namespace.define("web", &json!({"tasks": [web], "run": run})).await?;
                let killed = store.pods().await?[0].name_any();
                // From now on the pods ask.
                let resolves = resolves_of(&cluster, &namespace);
                wait_for("the first resolve", LIMIT, async || {
                    if resolves().await? > 0 { Ok(()) } else { bail!("none yet") }
                })
                .await?;
                cluster.kill(&killed).await?;

                let pods =
                    namespace.pods_ready("watchword.dev/task-definition=web", 4, LIMIT).await?;
                for pod in pods {
                    namespace.says(&pod.name_any(), None, "<value of s>\n").await?;
                    let pod = namespace.api::<Pod>().get(&pod.name_any()).await?;
                    assert_eq!(restarts(&pod), 0, "the agent asks again, and is not started again");
                }
                store.settled().await?;
                unsealed(&store, 2).await?;
                assert!(store.pods().await?.iter().all(|pod| pod.name_any() != killed));
                Ok(())
            })
            .await
    });
}

/// Since when the pod is Ready without a break.
fn ready_since(pod: &Pod) -> Result<String> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready");
    let ready = ready.next().context("no condition Ready")?;
    ensure!(ready.status == "True", "{ready:?}");
    Ok(serde_json::to_string(&ready.last_transition_time)?)
}

/// Waits until as many stores have unsealed, each of them by itself.
async fn unsealed(store: &Role, count: usize) -> Result<()> {
    wait_for(&format!("{count} unsealed stores"), LIMIT, async || {
        let pods = store.pods().await?;
        let logs = try_join_all(pods.iter().map(async |pod| {
            store.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await
        }));
        let unsealed = logs.await?.iter().filter(|log| log.contains("unsealed the store")).count();
        ensure!(unsealed == count && pods.len() == count, "{unsealed} of {} pods", pods.len());
        Ok(())
    })
    .await
}

/// Counts what the stores have released to pods of a namespace.
fn resolves_of(cluster: &Cluster, namespace: &Namespace) -> impl AsyncFn() -> Result<usize> {
    async move || {
        let lines = cluster.audit().await?;
        let of_namespace = |line: &&Value| {
            line["event"] == "resolve"
                && line["subject"]["container"]["namespace"] == namespace.name()
        };
        Ok(lines.iter().filter(of_namespace).count())
    }
}

const WHY: &str = "waiting for the secret store";
