//! Without the webhook, and with one that does not answer: no pod starts uninjected.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::{TaskDefinition, names};
use watchword_e2e::images::PAUSE;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, run, skip, wait_for};

#[test]
fn without_the_webhook_no_pod_starts_uninjected_and_afterwards_all_come_up_by_themselves() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["webhook"], async |[webhook]| {
                let namespace = cluster.namespace("no-webhook").await?;
                let secret = namespace.secret("s");
                cluster.create_secret(&secret, "value of s").await?;
                let web = with_variable(task("web", "echo \"<$S>\"; exec sleep 600"), "S", &secret);
                let none = json!({"service": {"instances": 0}});
                namespace.define("web", &json!({"tasks": [web], "run": none})).await?;
                let idle = json!({"tasks": [task("gone", "true")], "run": none});
                namespace.define("gone", &idle).await?;
                adopt(&namespace).await?;
                namespace.condition("gone", "Accepted", "True").await?;
                namespace.condition("web", "Accepted", "True").await?;
                namespace.condition("app", "Accepted", "True").await?;

                webhook.scale(0).await?;
                scale_definition(&namespace, "web", 4).await?;
                namespace.apply(&adopted_deployment().to_string()).await?;
                hundred_pods(&namespace).await?;
                for deployment in ["web", "app"] {
                    refused(&namespace, deployment).await?;
                }
                let running = namespace.pods_ready("app=plain,runs=here", 2, LIMIT).await?;
                assert!(running.iter().all(|pod| !is_ours(pod)));
                assert_eq!(labelled(&namespace).await?.len(), 0, "no labelled pod exists");
                goes_in_the_foreground(&namespace, "gone").await?;

                webhook.scale(1).await?;
                for selector in ["watchword.dev/task-definition=web", "app=app"] {
                    let count = if selector == "app=app" { 1 } else { 4 };
                    let pods = namespace.pods_ready(selector, count, LIMIT).await?;
                    assert!(pods.iter().all(is_ours), "a pod without the agent: {selector}");
                    for pod in pods {
                        namespace.says(&pod.name_any(), None, "<value of s>\n").await?;
                    }
                }
                Ok(())
            })
            .await
    });
}

#[test]
fn pods_that_are_made_while_the_webhook_goes_are_injected_or_refused_and_nothing_between() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["webhook"], async |[webhook]| {
                let namespace = cluster.namespace("webhook-goes").await?;
                adopt(&namespace).await?;
                let pods: Api<Pod> = namespace.api();
                let try_pod = async |labels: Value| {
                    let pod = json!({
                        "metadata": {"name": "pod", "labels": labels},
                        "spec": {
                            "serviceAccountName": "app",
                            "containers": [{"name": "app", "image": PAUSE, "command": ["/pause"]}],
                        },
                    });
                    // All of admission, and no pod.
                    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
                    let created = pods.create(&dry_run, &serde_json::from_value(pod)?).await;
                    match created {
                        Ok(pod) => anyhow::Ok(Ok(is_ours(&pod))),
                        Err(kube::Error::Api(status)) => Ok(Err(status.message)),
                        Err(error) => Err(error.into()),
                    }
                };
                let labelled = json!({"app": "app", "watchword.dev/inject": "true"});
                wait_for("a pod to be injected", LIMIT, async || {
                    match try_pod(labelled.clone()).await? {
                        Ok(true) => Ok(()),
                        other => bail!("{other:?}"),
                    }
                })
                .await?;

                let gone = Cell::new(false);
                let go = async {
                    webhook.scale(0).await?;
                    gone.set(true);
                    anyhow::Ok(())
                };
                let make = async {
                    let (mut injected, mut refused) = (0, 0);
                    while !gone.get() || injected + refused < 50 || refused == 0 {
                        match try_pod(labelled.clone()).await? {
                            Ok(true) => injected += 1,
                            Err(message) if message.contains("watchword-injected") => refused += 1,
                            other => bail!("a labelled pod: {other:?}"),
                        }
                        let plain = try_pod(json!({"app": "app"})).await?;
                        ensure!(plain == Ok(false), "an unlabelled pod: {plain:?}");
                    }
                    Ok((injected, refused))
                };
                let ((), (injected, refused)) = tokio::try_join!(go, make)?;

                assert!(injected > 0 && refused > 0, "{injected} injected, {refused} refused");
                Ok(())
            })
            .await
    });
}

#[test]
fn a_webhook_that_takes_reviews_and_answers_none_holds_up_pods_for_seconds_only() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only processes of a local node can be stopped");
            return Ok(());
        };
        cluster
            .disturb(["webhook"], async |[webhook]| {
                let namespace = cluster.namespace("webhook-hangs").await?;
                adopt(&namespace).await?;
                namespace.condition("app", "Accepted", "True").await?;
                let pod = webhook.pods().await?[0].name_any();
                let pods: Api<Pod> = namespace.api();
                let dry_run = PostParams { dry_run: true, ..PostParams::default() };
                let create = async |labels: Value| {
                    let pod = json!({
                        "metadata": {"name": "pod", "labels": labels},
                        "spec": {
                            "serviceAccountName": "app",
                            "containers": [{"name": "app", "image": PAUSE, "command": ["/pause"]}],
                        },
                    });
                    let begun = Instant::now();
                    let created = pods.create(&dry_run, &serde_json::from_value(pod)?).await;
                    anyhow::Ok((created, begun.elapsed()))
                };
                let labelled = json!({"app": "app", "watchword.dev/inject": "true"});

                node.signal(&pod, "/watchword-controller", "STOP")?;
                // A busy machine adds to each, and not always as much.
                let mut asked = Vec::new();
                for _ in 0..3 {
                    let labelled = create(labelled.clone());
                    asked.push(tokio::join!(labelled, create(json!({"app": "app"}))));
                }
                node.signal(&pod, "/watchword-controller", "CONT")?;

                let mut waits = Vec::new();
                for (labelled, plain) in asked {
                    let ((labelled, waited), (plain, _)) = (labelled?, plain?);
                    let refusal = labelled.err().context("a labelled pod was let in")?.to_string();
                    assert!(refusal.contains("watchword-injected"), "{refusal}");
                    assert!(!is_ours(&plain?), "a plain pod is as it was sent");
                    waits.push(waited);
                }
                // The deadline is 3 s; what is not told has the API server's own, of 10. Who waited
                // less found nobody to ask any more.
                let least = waits.iter().filter(|waited| **waited >= Duration::from_secs(3)).min();
                assert!(least.is_some_and(|least| *least < Duration::from_secs(9)), "{waits:?}");
                Ok(())
            })
            .await
    });
}

/// Creates 50 pods with our label and 50 without, in turns and many at once: those with it are all
/// refused, those without are as they were sent. Most ask for a node that there is not.
async fn hundred_pods(namespace: &Namespace) -> Result<()> {
    let api: Api<Pod> = namespace.api();
    let pods = (0..100).map(|index| {
        let here = index == 1 || index == 3;
        let mut pod = json!({
            "metadata": {"name": format!("pod-{index}"), "labels": {"app": "plain"}},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": PAUSE, "command": ["/pause"]}],
                "terminationGracePeriodSeconds": 0,
            },
        });
        if index % 2 == 0 {
            pod["metadata"]["labels"] = json!({"app": "app", "watchword.dev/inject": "true"});
            pod["spec"]["serviceAccountName"] = json!("app");
        } else if here {
            pod["metadata"]["labels"]["runs"] = json!("here");
        } else {
            pod["spec"]["nodeSelector"] = json!({"watchword.dev/e2e": "nowhere"});
        }
        pod
    });
    let created = join_all(pods.map(|pod| {
        let api = api.clone();
        async move {
            let typed: Pod = serde_json::from_value(pod)?;
            anyhow::Ok((typed.clone(), api.create(&PostParams::default(), &typed).await))
        }
    }));
    for outcome in created.await {
        let (sent, created) = outcome?;
        let is_labelled = sent.labels().contains_key(names::INJECT_LABEL);
        match created {
            Err(kube::Error::Api(status)) if is_labelled => {
                ensure!(status.message.contains("watchword-injected"), "{}", status.message);
            }
            Ok(pod) if !is_labelled => {
                let (sent, pod) = (sent.spec.unwrap_or_default(), pod.spec.unwrap_or_default());
                ensure!(pod.volumes.is_none() && pod.init_containers.is_none(), "{pod:?}");
                let commands = [&sent, &pod].map(|spec| spec.containers[0].command.clone());
                ensure!(commands[0] == commands[1], "{commands:?}");
            }
            other => bail!("labelled: {is_labelled}, but {other:?}"),
        }
    }
    Ok(())
}

async fn adopt(namespace: &Namespace) -> Result<()> {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}});
    namespace.apply(&account.to_string()).await?;
    let adopt = json!({"selector": {"matchLabels": {"app": "app"}}, "serviceAccountName": "app"});
    let app = json!({"name": "app", "command": {"environment": {"variables": []}}});
    let app = with_variable(app, "S", &namespace.secret("s"));
    namespace.define("app", &json!({"tasks": [app], "run": {"adopt": adopt}})).await
}

fn adopted_deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app"},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app", "watchword.dev/inject": "true"}},
                "spec": {
                    "serviceAccountName": "app",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "app",
                        "image": watchword_e2e::images::BUSYBOX,
                        "command": ["sh", "-c", "echo \"<$S>\"; exec sleep 600"],
                    }],
                },
            },
        },
    })
}

/// Deletes a definition after all that it made, which takes an update: it loses a finalizer.
async fn goes_in_the_foreground(namespace: &Namespace, name: &str) -> Result<()> {
    let definitions: Api<TaskDefinition> = namespace.api();
    definitions.delete(name, &DeleteParams::foreground()).await?;
    wait_for("a deleted definition to be gone", LIMIT, async || {
        let left = definitions.get_opt(name).await?;
        ensure!(left.is_none(), "{:?}", left.map(|one| one.metadata));
        Ok(())
    })
    .await
}

/// By the subresource `scale`, which needs no webhook.
async fn scale_definition(namespace: &Namespace, name: &str, instances: i32) -> Result<()> {
    let scale = Patch::Merge(json!({"spec": {"replicas": instances}}));
    let api: Api<TaskDefinition> = namespace.api();
    api.patch_scale(name, &PatchParams::default(), &scale).await?;
    Ok(())
}

/// Waits until the pods of a Deployment were refused.
async fn refused(namespace: &Namespace, deployment: &str) -> Result<()> {
    wait_for(&format!("the pods of `{deployment}` to be refused"), LIMIT, async || {
        let sets: Api<ReplicaSet> = namespace.api();
        let sets = sets.list(&ListParams::default()).await?.items;
        let set = sets
            .into_iter()
            .find(|set| set.owner_references().iter().any(|owner| owner.name == deployment));
        let conditions = set.context("no ReplicaSet")?.status.unwrap_or_default().conditions;
        let failure = conditions.iter().flatten().find(|one| one.type_ == "ReplicaFailure");
        let message = failure.and_then(|one| one.message.as_deref()).context("not yet")?;
        ensure!(message.contains("watchword-injected"), "{message}");
        Ok(())
    })
    .await
}

async fn labelled(namespace: &Namespace) -> Result<Vec<Pod>> {
    let ours = ListParams::default().labels("watchword.dev/inject=true");
    Ok(namespace.api::<Pod>().list(&ours).await?.items)
}

/// Whether the pod's application starts through the agent.
fn is_ours(pod: &Pod) -> bool {
    let command = pod.spec.iter().flat_map(|spec| spec.containers[0].command.iter().flatten());
    command.into_iter().next().is_some_and(|program| program == "/watchword/agent")
}
