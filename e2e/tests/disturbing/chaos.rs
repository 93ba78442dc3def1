//! Chaos: parts of Watchword are taken away, and nothing goes wrong that would stay wrong.
//!
//! The stories stop and kill Watchword's own pods, one story after the other, and put all back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;
use watchword_crds::{TaskDefinition, TaskRevision, names};
use watchword_e2e::images::PAUSE;
use watchword_e2e::roles::Role;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_plain, with_variable};
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
                let asked = tokio::join!(create(labelled.clone()), create(json!({"app": "app"})));
                node.signal(&pod, "/watchword-controller", "CONT")?;

                let ((labelled, waited), (plain, _)) = (asked.0?, asked.1?);
                let refusal = labelled.err().context("a labelled pod was let in")?.to_string();
                assert!(refusal.contains("watchword-injected"), "{refusal}");
                // The deadline is 3 s; what is not told has the API server's own, of 10.
                assert!(waited < Duration::from_secs(9), "it took {waited:?}");
                assert!(!is_ours(&plain?), "a plain pod is as it was sent");
                Ok(())
            })
            .await
    });
}

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

                let last = probes().await?;
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
                waits_and_says_why(&namespace, "late").await?;
                waits_and_says_why(&namespace, "late-file").await?;
                let pending = format!("{}=late-file", names::TASK_DEFINITION_LABEL);
                let file = namespace.pod_with(&pending, "Pending").await?.name_any();
                let late = namespace.running_pod("late").await?;
                let log = namespace.logs(&late, None).await?;
                assert!(log.contains("waiting for the secrets of container `late`"), "{log:?}");
                let output = namespace.output(&late, None).await?;
                assert_eq!(output, "", "the application has begun");
                let after = namespace.api::<Pod>().get(&early).await?;
                assert_eq!(restarts(&after), 0, "a healthy container was restarted");
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
fn a_controller_killed_at_any_moment_leaves_nothing_half_done() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["controller"], async |[controller]| {
                let namespace = cluster.namespace("killed").await?;
                let mut dice = Dice::new();
                let mut expected = BTreeMap::new();
                for round in 0..KILLS {
                    // Only one that works can be killed at its work.
                    leads(&controller).await?;
                    let moment = Duration::from_millis(dice.below(1500));
                    let kill = async {
                        // No condition is waited for: any moment will do.
                        sleep(moment).await;
                        controller.kill().await
                    };
                    let change = change_definitions(&namespace, round, &mut dice, &mut expected);
                    let (killed, changed) = tokio::join!(kill, change);
                    killed.and(changed)?;
                }

                for (name, value) in &expected {
                    wait_for(&format!("`{name}` to be {value:?}"), LIMIT, async || {
                        is_as_defined(&namespace, name, value.as_deref()).await
                    })
                    .await?;
                }
                let live = expected.values().flatten().count();
                let all = ListParams::default();
                let deployments = namespace.api::<Deployment>().list(&all).await?.items.len();
                let definitions = namespace.api::<TaskDefinition>().list(&all).await?.items.len();
                assert_eq!((definitions, deployments), (live, live));
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

/// Waits until status and Events of a definition tell that its pods wait for the store.
async fn waits_and_says_why(namespace: &Namespace, name: &str) -> Result<()> {
    const WHY: &str = "waiting for the secret store";
    let definition = namespace.in_state(name, "TASK_STARTING").await?;
    let events: Api<Event> = namespace.api();
    wait_for("an Event that says why", LIMIT, async || {
        let status = namespace.definition(name).await?.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        ensure!(message.contains(WHY), "{message}");
        let events = events.list(&ListParams::default()).await?.items;
        let events: Vec<_> = events
            .iter()
            .filter(|event| event.involved_object.uid == definition.metadata.uid)
            .map(|event| (event.reason.as_deref(), event.message.as_deref()))
            .collect();
        let told = events.iter().any(|(reason, message)| {
            *reason == Some("SecretsPending") && message.is_some_and(|text| text.contains(WHY))
        });
        told.then_some(()).with_context(|| format!("{events:?}"))
    })
    .await
}

fn restarts(pod: &Pod) -> i32 {
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// Since when the pod is Ready without a break.
fn ready_since(pod: &Pod) -> Result<String> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready");
    let ready = ready.next().context("no condition Ready")?;
    ensure!(ready.status == "True", "{ready:?}");
    Ok(serde_json::to_string(&ready.last_transition_time)?)
}

/// Waits until a pod that exists holds the controllers' lease.
async fn leads(controller: &Role) -> Result<()> {
    wait_for("a controller that leads", LIMIT, async || {
        let lease: Api<Lease> = controller.api();
        let holder = lease.get(names::CONTROLLER).await?.spec.and_then(|spec| spec.holder_identity);
        let holder = holder.filter(|holder| !holder.is_empty()).context("nobody leads")?;
        let pods = controller.pods().await?;
        let lives = pods.iter().any(|pod| holder.contains(&pod.name_any()));
        lives.then_some(()).with_context(|| format!("the lease is still of {holder}"))
    })
    .await
}

/// Creates, changes and deletes definitions; `expected` is what there shall be: the value of their
/// variable, or none for what is deleted. They have no instances: the objects are what counts.
async fn change_definitions(
    namespace: &Namespace,
    round: u64,
    dice: &mut Dice,
    expected: &mut BTreeMap<String, Option<String>>,
) -> Result<()> {
    let definitions: Api<TaskDefinition> = namespace.api();
    for step in 0..6 {
        let name = format!("task-{}", dice.below(4));
        let exists = expected.get(&name).is_some_and(Option::is_some);
        if exists && dice.below(3) == 0 {
            definitions.delete(&name, &DeleteParams::default()).await?;
            expected.insert(name, None);
            continue;
        }
        let value = format!("{round}-{step}");
        let task = with_variable(task("main", "exec sleep 600"), "S", &namespace.secret("s"));
        let task = with_plain(task, "VALUE", &value);
        let run = json!({"service": {"instances": 0}});
        namespace.define(&name, &json!({"tasks": [task], "run": run})).await?;
        expected.insert(name, Some(value));
    }
    Ok(())
}

/// Whether a definition's objects are what its last change says, and all that there is of it.
async fn is_as_defined(namespace: &Namespace, name: &str, value: Option<&str>) -> Result<()> {
    let revisions = namespace.api::<TaskRevision>().list(&ListParams::default()).await?.items;
    let revisions: Vec<String> = revisions
        .iter()
        .filter(|revision| revision.spec.definition == name)
        .map(ResourceExt::name_any)
        .collect();
    let deployment = namespace.api::<Deployment>().get_opt(name).await?;
    let Some(value) = value else {
        ensure!(deployment.is_none(), "its Deployment is still there");
        ensure!(revisions.is_empty(), "{revisions:?} are still there");
        return Ok(());
    };
    let definition = namespace.definition(name).await?;
    let status = definition.status.clone().unwrap_or_default();
    ensure!(status.observed_generation == definition.metadata.generation, "not yet looked at");
    let deployment = deployment.context("it has no Deployment")?;
    ensure!(
        deployment
            .owner_references()
            .iter()
            .all(|owner| Some(&owner.uid) == definition.uid().as_ref()),
        "its Deployment belongs to a predecessor"
    );
    let pod = deployment.spec.and_then(|spec| spec.template.spec).context("no pod template")?;
    let variable = |name: &str| {
        let mut variables = pod.containers[0].env.iter().flatten();
        variables.find(|one| one.name == name).and_then(|one| one.value.clone())
    };
    ensure!(variable("VALUE").as_deref() == Some(value), "VALUE is {:?}", variable("VALUE"));
    let current = variable("WATCHWORD_REVISION");
    ensure!(current == status.current_revision, "its Deployment names {current:?}");
    ensure!(current.iter().all(|one| revisions.contains(one)), "{revisions:?}, not {current:?}");
    Ok(())
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

/// Numbers that differ from run to run; the seed is printed, and shown when the story fails.
struct Dice(u64);

impl Dice {
    #[allow(clippy::print_stderr)] // the test runner shows it when the story fails
    fn new() -> Self {
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seed = u64::from(time.subsec_nanos()) | 1;
        eprintln!("the dice began with {seed}");
        Self(seed)
    }

    /// xorshift64
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// How often the controller is killed. A successor leads after 15 seconds, when the lease has run out.
const KILLS: u64 = 3;
