//! A controller that is killed at its work: its successor leaves nothing half done.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::sleep;
use watchword_crds::{TaskDefinition, TaskRevision, names};
use watchword_e2e::roles::Role;
use watchword_e2e::watchword::{LIMIT, task, with_plain, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

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
