//! A controller that is killed between two of its steps, for each step and each kind of workload.
//!
//! A policy of the API server keeps the controller from a step, so that it is killed after the ones
//! before. Its successor, which nothing hinders, brings all to its end.

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::{TaskRevision, names};
use watchword_e2e::cluster::Gate;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn a_controller_killed_between_any_two_steps_is_succeeded_by_one_that_goes_on() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["controller"], async |[controller]| {
                let namespace = cluster.namespace("steps").await?;
                namespace.account("app").await?;
                let secret = namespace.secret("s");
                cluster.create_secret(&secret, "value of s").await?;
                for step in [Step::Revision, Step::Workload, Step::Status] {
                    let gate = keep_from(&namespace, step).await?;
                    let told = async {
                        for kind in KINDS {
                            namespace.define(&kind.name(step), &kind.spec(&secret)).await?;
                        }
                        let before = KINDS.iter().map(|kind| kind.stands_before(&namespace, step));
                        try_join_all(before).await?;
                        controller.kill().await
                    }
                    .await;
                    gate.open().await?;
                    told?;
                    let ends = KINDS.iter().map(async |kind| {
                        let name = kind.name(step);
                        kind.ends(&namespace, &name).await?;
                        let revisions = revisions(&namespace, &name).await?;
                        ensure!(revisions.len() == 1, "{name} has {revisions:?}");
                        Ok(())
                    });
                    for ended in join_all(ends).await {
                        ended?;
                    }
                }
                Ok(())
            })
            .await
    });
}

#[test]
fn a_controller_killed_between_the_old_workload_and_the_new_one_is_succeeded_by_one_that_goes_on() {
    run(async |cluster: Cluster| {
        cluster
            .disturb(["controller"], async |[controller]| {
                let namespace = cluster.namespace("switch").await?;
                let secret = namespace.secret("s");
                cluster.create_secret(&secret, "value of s").await?;
                let once = |command: &str| {
                    let main = with_variable(task("main", command), "S", &secret);
                    json!({"tasks": [main], "run": {"once": {"replace": true}}})
                };
                // A service becomes a Job, a Job another one: the old is deleted before.
                let switches = [("switched", Kind::Service), ("replaced", Kind::Once)];
                namespace.define("switched", &Kind::Service.spec(&secret)).await?;
                namespace.define("replaced", &once("true")).await?;
                for (name, kind) in switches {
                    kind.ends(&namespace, name).await?;
                }

                let gate = keep_from(&namespace, Step::Workload).await?;
                let told = async {
                    for (name, kind) in switches {
                        namespace.define(name, &once("exit 0")).await?;
                        wait_for(&format!("`{name}` to have no workload"), LIMIT, async || {
                            let old = kind.workload(&namespace, name).await?;
                            let new = Kind::Once.workload(&namespace, name).await?;
                            ensure!(old.is_none() && new.is_none(), "it has one");
                            Ok(())
                        })
                        .await?;
                    }
                    controller.kill().await
                }
                .await;
                gate.open().await?;
                told?;

                for (name, _) in switches {
                    Kind::Once.ends(&namespace, name).await?;
                    namespace.in_state(name, "TASK_FINISHED").await?;
                    assert!(Kind::Service.workload(&namespace, name).await?.is_none(), "{name}");
                }
                Ok(())
            })
            .await
    });
}

/// What the controller writes for a definition, in its order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Revision,
    Workload,
    Status,
}

/// How the definition's tasks run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Adopt,
    Once,
    Schedule,
    Service,
}

const KINDS: [Kind; 4] = [Kind::Adopt, Kind::Once, Kind::Schedule, Kind::Service];

impl Kind {
    fn name(self, step: Step) -> String {
        format!("{self:?}-{step:?}").to_lowercase()
    }

    fn spec(self, secret: &str) -> Value {
        let run = match self {
            Self::Adopt => json!({"adopt": {
                "selector": {"matchLabels": {"app": "none"}}, "serviceAccountName": "app",
            }}),
            Self::Once => json!({"once": {}}),
            Self::Schedule => json!({"schedule": {"cron": "@yearly", "suspend": true}}),
            Self::Service => json!({"service": {"instances": 0}}),
        };
        let main = match self {
            Self::Adopt => json!({"name": "main", "command": {"environment": {"variables": []}}}),
            _ => task("main", "true"),
        };
        json!({"tasks": [with_variable(main, "S", secret)], "run": run})
    }

    /// The workload as it is in the cluster; adopted ones are somebody else's.
    async fn workload(self, namespace: &Namespace, name: &str) -> Result<Option<DynamicObject>> {
        let kind = match self {
            Self::Adopt => return Ok(None),
            Self::Once => GroupVersionKind::gvk("batch", "v1", "Job"),
            Self::Schedule => GroupVersionKind::gvk("batch", "v1", "CronJob"),
            Self::Service => GroupVersionKind::gvk("apps", "v1", "Deployment"),
        };
        let client = namespace.cluster().client();
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace.name(), &resource);
        Ok(api.get_opt(name).await?)
    }

    /// Waits until all is there that comes before the step, and the step itself is kept from
    /// happening.
    async fn stands_before(self, namespace: &Namespace, step: Step) -> Result<()> {
        let name = self.name(step);
        wait_for(&format!("`{name}` to stand before its step"), LIMIT, async || {
            let revisions = revisions(namespace, &name).await?;
            let workload = self.workload(namespace, &name).await?;
            let status = namespace.definition(&name).await?.status.unwrap_or_default();
            let is_hindered =
                status.message.as_deref().is_some_and(|said| said.contains(Gate::WORDS));
            match (step, self) {
                (Step::Revision, _) => {
                    ensure!(is_hindered, "not hindered yet: {:?}", status.message);
                    assert!(revisions.is_empty() && workload.is_none(), "{name}");
                }
                // There is no workload to make.
                (Step::Workload, Self::Adopt) => ensure!(!revisions.is_empty(), "no revision"),
                (Step::Workload, _) => {
                    // The revisions were looked at before the status.
                    ensure!(
                        is_hindered && !revisions.is_empty(),
                        "{revisions:?} {:?}",
                        status.message
                    );
                    assert!(workload.is_none(), "{name}");
                }
                (Step::Status, _) => {
                    ensure!(!revisions.is_empty(), "no revision");
                    ensure!(self == Self::Adopt || workload.is_some(), "no workload");
                    assert!(status.current_revision.is_none(), "{name}");
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until the definition has a revision, a workload that names it, and a status of both.
    async fn ends(self, namespace: &Namespace, name: &str) -> Result<()> {
        wait_for(&format!("`{name}` to come to its end"), LIMIT, async || {
            let definition = namespace.definition(name).await?;
            let status = definition.status.clone().unwrap_or_default();
            ensure!(status.observed_generation == definition.metadata.generation, "not looked at");
            let revision = status.current_revision.context("no revision")?;
            let revisions = revisions(namespace, name).await?;
            ensure!(revisions.contains(&revision), "{revision} is none of {revisions:?}");
            if self == Self::Adopt {
                return Ok(());
            }
            let workload = self.workload(namespace, name).await?.context("no workload")?;
            let owners = workload.owner_references();
            ensure!(
                owners.iter().any(|owner| Some(&owner.uid) == definition.uid().as_ref()),
                "its workload is another's"
            );
            let named = json!({"name": "WATCHWORD_REVISION", "value": revision}).to_string();
            ensure!(workload.data.to_string().contains(&named), "it names another revision");
            Ok(())
        })
        .await
    }
}

/// The names of a definition's revisions.
async fn revisions(namespace: &Namespace, definition: &str) -> Result<Vec<String>> {
    let all = namespace.api::<TaskRevision>().list(&ListParams::default()).await?;
    let of_definition = all.iter().filter(|revision| revision.spec.definition == definition);
    Ok(of_definition.map(ResourceExt::name_any).collect())
}

/// Keeps the controller from a step in one namespace.
async fn keep_from(namespace: &Namespace, step: Step) -> Result<Gate> {
    let resources = match step {
        Step::Revision => json!(["taskrevisions"]),
        Step::Workload => json!(["deployments", "jobs", "cronjobs"]),
        Step::Status => json!(["taskdefinitions/status"]),
    };
    let controller = format!("system:serviceaccount:{}:{}", names::NAMESPACE, names::CONTROLLER);
    let rule = json!({"apiGroups": ["apps", "batch", "watchword.dev"],
                      "operations": ["CREATE", "UPDATE"], "resources": resources});
    Gate::close(namespace, &controller, rule).await
}
