//! The life of a task definition: what it becomes, how it changes, what happens when a secret is
//! missing, and what is left of it in the end.

use std::fmt::Debug;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job, JobCondition};
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use watchword_crds::{TaskDefinition, TaskRevision};
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn a_service_becomes_a_deployment_that_scales_rolls_out_and_rolls_back() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("service").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let service = |greeting: &str| {
            let web = task("web", &format!("echo \"{greeting} <$DB>\"; exec sleep 600"));
            json!({"tasks": [with_variable(web, "DB", &namespace.secret("db"))]})
        };

        namespace.define("web", &service("one")).await?;
        namespace.in_state("web", "TASK_RUNNING").await?;
        let deployment: Deployment = namespace.api().get("web").await?;
        assert_eq!(controller_of(&deployment)?, ("TaskDefinition".to_owned(), "web".to_owned()));
        let resolved = namespace.condition("web", "SecretsResolved", "True").await?;
        assert_eq!(resolved["message"], "The reference can be read.");
        namespace.condition("web", "Available", "True").await?;
        let first = namespace.another_revision("web", "").await?;
        // While the store is too busy to answer the controller, it is in TASK_STARTING again.
        wait_for("a table of one that runs", LIMIT, async || {
            let table = namespace.said(&["get", "td", "web"]).await?;
            let rows: Vec<Vec<&str>> =
                table.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
            let expected =
                [["NAME", "STATE", "READY", "REVISION"], ["web", "TASK_RUNNING", "1", &first]];
            ensure!(rows == expected, "{table}");
            Ok(())
        })
        .await?;

        // More of the same is no other revision.
        namespace.said(&["scale", "td", "web", "--replicas=2"]).await?;
        namespace.pods_ready(OF_WEB, 2, LIMIT).await?;
        assert_eq!(namespace.another_revision("web", "").await?, first);
        namespace.said(&["scale", "td", "web", "--replicas=1"]).await?;

        namespace.define("web", &service("two")).await?;
        let second = namespace.another_revision("web", &first).await?;
        namespace.rolled_out(&second, "two <s3cret-value>\n").await?;
        let mut kept = namespace.names::<TaskRevision>().await?;
        kept.sort();
        let mut expected = [first.clone(), second.clone()];
        expected.sort();
        assert_eq!(kept, expected);

        // Back to what it was is the old revision, and no third one.
        namespace.define("web", &service("one")).await?;
        assert_eq!(namespace.another_revision("web", &second).await?, first);
        namespace.rolled_out(&first, "one <s3cret-value>\n").await?;
        assert_eq!(namespace.names::<TaskRevision>().await?.len(), 2);
        anyhow::Ok(())
    });
}

#[test]
fn a_task_that_runs_once_becomes_a_job_that_finishes() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("once").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let migrate = task("migrate", "echo \"<$DB>\"");
        let migrate = with_variable(migrate, "DB", &namespace.secret("db"));

        namespace.define("migrate", &json!({"tasks": [migrate], "run": {"once": {}}})).await?;

        namespace.in_state("migrate", "TASK_FINISHED").await?;
        let job: Job = namespace.api().get("migrate").await?;
        assert_eq!(job.status.and_then(|status| status.succeeded), Some(1));
        let pod = namespace.pod_with("watchword.dev/task-definition=migrate", "Succeeded").await?;
        namespace.says(&pod.name_any(), None, "<s3cret-value>\n").await?;
        let available = namespace.condition("migrate", "Available", "True").await?;
        assert_eq!(available["reason"], "Finished");
        anyhow::Ok(())
    });
}

#[test]
fn a_schedule_becomes_a_cron_job_whose_runs_have_the_secret() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("schedule").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let report = task("report", "echo \"<$DB>\"");
        let report = with_variable(report, "DB", &namespace.secret("db"));
        let spec = json!({"tasks": [report], "run": {"schedule": {"cron": "* * * * *"}}});

        namespace.define("report", &spec).await?;

        // The next minute is the soonest that there is.
        let pod = namespace.pod_with("watchword.dev/task-definition=report", "Succeeded").await?;
        namespace.says(&pod.name_any(), None, "<s3cret-value>\n").await?;
        let cron_job: CronJob = namespace.api().get("report").await?;
        assert_eq!(controller_of(&cron_job)?, ("TaskDefinition".to_owned(), "report".to_owned()));
        namespace.in_state("report", "TASK_FINISHED").await?;

        // Put right when changed by hand, and gone with the definition.
        let yearly = r#"{"spec":{"schedule":"@yearly"}}"#;
        namespace.said(&["patch", "cronjob", "report", "--patch", yearly]).await?;
        wait_for("the schedule to be as defined", LIMIT, async || {
            let spec = namespace.api::<CronJob>().get("report").await?.spec.context("no spec")?;
            ensure!(spec.schedule == "* * * * *", "{}", spec.schedule);
            Ok(())
        })
        .await?;
        namespace.api::<TaskDefinition>().delete("report", &DeleteParams::default()).await?;
        namespace.gone::<CronJob>().await?;
        namespace.gone::<Job>().await?;
        namespace.gone::<Pod>().await?;
        namespace.gone::<TaskRevision>().await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_missing_secret_keeps_the_task_from_starting_says_which_and_is_enough_when_it_comes() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("missing").await?;
        let secret = namespace.secret("db");
        let start = "echo started; exec sleep 600";
        let by_variable = with_variable(task("web", start), "DB", &secret);
        let by_file = with_file(task("web", start), "db", "RO", &secret);

        namespace.define("variable", &json!({"tasks": [by_variable]})).await?;
        namespace.define("file", &json!({"tasks": [by_file]})).await?;

        for name in ["variable", "file"] {
            let status = namespace.in_state(name, "TASK_FAILED").await?.status;
            let status = status.context("no status")?;
            assert_eq!(status.reason.as_deref(), Some("REASON_CONTAINER_LAUNCH_FAILED"), "{name}");
            let message = status.message.unwrap_or_default();
            let expected = format!("Failed to launch container: there is no secret `{secret}`");
            assert_eq!(message, expected, "{name}");
            let resolved = namespace.condition(name, "SecretsResolved", "False").await?;
            assert_eq!(resolved["reason"], "NotFound", "{name}");
            namespace.event(name, "LaunchFailed", &format!("secrets: {expected}")).await?;
            namespace.never_started(&namespace.any_pod(name).await?, &expected).await?;
        }

        cluster.create_secret(&secret, "s3cret-value").await?;

        for name in ["variable", "file"] {
            namespace.in_state(name, "TASK_RUNNING").await?;
            namespace.says(&namespace.running_pod(name).await?, None, "started\n").await?;
            namespace.condition(name, "SecretsResolved", "True").await?;
        }
        anyhow::Ok(())
    });
}

#[test]
fn of_a_group_the_task_whose_secret_is_missing_does_not_start_and_the_state_says_so() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("missing-one").await?;
        let (there, missing) = (namespace.secret("there"), namespace.secret("missing"));
        cluster.create_secret(&there, "value of there").await?;
        let start = "echo started; exec sleep 600";
        let served = with_variable(task("served", start), "S", &there);
        let lacks = with_variable(task("lacks", start), "S", &missing);

        namespace.define("web", &json!({"tasks": [served, lacks]})).await?;

        let status = namespace.in_state("web", "TASK_FAILED").await?.status.context("no status")?;
        let expected = format!("Failed to launch container: there is no secret `{missing}`");
        assert_eq!(status.message.as_ref(), Some(&expected));
        // Containers of a pod start by themselves: the other one does not know.
        let pod = namespace.running_pod("web").await?;
        namespace.says(&pod, Some("served"), "started\n").await?;
        namespace.says(&pod, Some("lacks"), &format!("{expected}\n")).await?;

        cluster.create_secret(&missing, "value of missing").await?;
        namespace.in_state("web", "TASK_RUNNING").await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_job_with_a_missing_secret_does_not_use_up_its_attempts() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("attempts").await?;
        let secret = namespace.secret("db");
        let migrate = with_variable(task("migrate", "echo \"<$DB>\""), "DB", &secret);
        // One attempt, and no second one.
        let spec = json!({"tasks": [migrate], "run": {"once": {"backoffLimit": 0}}});

        namespace.define("migrate", &spec).await?;

        namespace.in_state("migrate", "TASK_FAILED").await?;
        wait_for("a second pod", LIMIT, async || {
            let pods = namespace.names::<Pod>().await?;
            ensure!(pods.len() > 1, "{pods:?}");
            Ok(())
        })
        .await?;
        let status = namespace.api::<Job>().get("migrate").await?.status.unwrap_or_default();
        assert_eq!(status.failed.unwrap_or_default(), 0);
        cluster.create_secret(&secret, "s3cret-value").await?;
        namespace.in_state("migrate", "TASK_FINISHED").await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_job_whose_own_program_ends_with_the_agents_exit_code_fails() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("own-code").await?;
        let secret = namespace.secret("db");
        cluster.create_secret(&secret, "s3cret-value").await?;
        let by_variable = with_variable(task("asks", "true"), "DB", &secret);
        let by_file = with_file(task("asks", "true"), "db", "RO", &secret);
        for (name, asks) in [("variable", by_variable), ("file", by_file)] {
            let own = task("own", "exit 78");

            let run = json!({"once": {"backoffLimit": 0}});
            namespace.define(name, &json!({"tasks": [asks, own], "run": run})).await?;

            wait_for("the Job to fail", LIMIT, async || {
                let status = namespace.api::<Job>().get(name).await?.status.unwrap_or_default();
                let conditions = status.conditions.unwrap_or_default();
                let failed = |one: &&JobCondition| one.type_ == "Failed" && one.status == "True";
                let failed = conditions.iter().find(failed);
                failed.map(drop).with_context(|| format!("{name}: {conditions:?}"))
            })
            .await?;
        }
        anyhow::Ok(())
    });
}

#[test]
fn what_is_changed_by_hand_is_put_right_again() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("drift").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let web = with_variable(task("web", "exec sleep 600"), "DB", &namespace.secret("db"));
        let spec = json!({"tasks": [web], "run": {"service": {"instances": 0}}});
        namespace.define("web", &spec).await?;
        let deployments: Api<Deployment> = namespace.api();
        let before =
            wait_for("the Deployment", LIMIT, async || deployments.get("web").await).await?;

        namespace.said(&["scale", "deployment", "web", "--replicas=1"]).await?;
        wait_for("the replicas to be as defined", LIMIT, async || {
            let is = deployments.get("web").await?;
            let (spec, before) = (is.spec.context("no spec")?, before.metadata.generation);
            ensure!(spec.replicas == Some(0), "{:?} replicas", spec.replicas);
            // Zero twice over: it was one in between.
            ensure!(is.metadata.generation >= before.map(|it| it + 2), "not changed yet");
            Ok(())
        })
        .await?;

        // What secrets are given out by is nobody's to change, not even for a moment.
        for patch in [
            json!({"metadata": {"labels": {"watchword.dev/task-definition": "other"}}}),
            json!({"spec": {"template": {"metadata": {"labels": {"mine": "yes"}}}}}),
        ] {
            let parameters = PatchParams::default();
            let denied = deployments.patch("web", &parameters, &Patch::Merge(&patch)).await;
            let said = denied.err().context("not denied")?.to_string();
            assert!(said.contains("change the task definition"), "{said}");
        }

        deployments.delete("web", &DeleteParams::background()).await?;
        wait_for("another Deployment", LIMIT, async || {
            let after = deployments.get("web").await?;
            ensure!(after.uid() != before.uid(), "still the same");
            Ok(())
        })
        .await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_service_that_becomes_a_job_leaves_no_deployment_and_a_deleted_definition_nothing() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("end").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let tasks = |script: &str| {
            json!([with_variable(task("web", script), "DB", &namespace.secret("db"))])
        };
        let service =
            json!({"tasks": tasks("exec sleep 600"), "run": {"service": {"instances": 1}}});
        namespace.define("web", &service).await?;
        namespace.in_state("web", "TASK_RUNNING").await?;

        let once = json!({"tasks": tasks("echo done; exec sleep 600"), "run": {"once": {}}});
        namespace.define("web", &once).await?;

        namespace.gone::<Deployment>().await?;
        namespace.gone::<ReplicaSet>().await?;
        let pod = namespace.pod_with("batch.kubernetes.io/job-name=web", "Running").await?;
        namespace.says(&pod.name_any(), None, "done\n").await?;
        assert_eq!(namespace.names::<Job>().await?, ["web"]);

        let definitions: Api<TaskDefinition> = namespace.api();
        definitions.delete("web", &DeleteParams::default()).await?;

        namespace.gone::<TaskDefinition>().await?;
        namespace.gone::<Job>().await?;
        namespace.gone::<Pod>().await?;
        namespace.gone::<TaskRevision>().await?;
        anyhow::Ok(())
    });
}

#[test]
fn what_runs_as_a_service_because_nothing_was_said_becomes_a_job_by_an_ordinary_apply() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("silent").await?;
        // As `kubectl apply` does it, which takes away only what it applied itself.
        let apply = async |spec: Value| {
            let definition = json!({
                "apiVersion": "watchword.dev/v1alpha1",
                "kind": "TaskDefinition",
                "metadata": {"name": "web", "namespace": namespace.name()},
                "spec": spec,
            });
            let (apply, definition) = (["apply", "-f", "-"], definition.to_string());
            let applied = cluster.kubectl_with(&apply, &definition).await?;
            ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
            Ok(())
        };
        let tasks = json!([task("web", "exec sleep 600")]);
        apply(json!({"tasks": tasks})).await?;
        namespace.in_state("web", "TASK_RUNNING").await?;
        assert_eq!(namespace.names::<Deployment>().await?, ["web"]);

        apply(json!({"tasks": tasks, "run": {"once": {}}})).await?;
        namespace.gone::<Deployment>().await?;
        wait_for("the Job", LIMIT, async || namespace.api::<Job>().get("web").await).await?;

        apply(json!({"tasks": tasks})).await?;
        namespace.gone::<Job>().await?;
        wait_for("the Deployment", LIMIT, async || namespace.api::<Deployment>().get("web").await)
            .await?;
        assert_eq!(namespace.names::<Deployment>().await?, ["web"]);
        namespace.in_state("web", "TASK_RUNNING").await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_namespace_goes_with_all_that_its_definitions_made() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("namespace").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let web = with_variable(task("web", "exec sleep 600"), "DB", &namespace.secret("db"));
        namespace.define("web", &json!({"tasks": [web]})).await?;
        namespace.in_state("web", "TASK_RUNNING").await?;

        namespace.delete().await?;

        let namespaces: Api<NamespaceObject> = Api::all(cluster.client());
        wait_for("the namespace to be gone", LIMIT, async || {
            match namespaces.get_opt(namespace.name()).await? {
                None => Ok(()),
                Some(is) => bail!("{}", serde_json::to_string(&is.status)?),
            }
        })
        .await
    });
}

/// The label of the pods of the definition `web`.
const OF_WEB: &str = "watchword.dev/task-definition=web";

/// What several of these stories ask for.
trait Lives {
    /// The revision that new pods get, once there is one that is not `before`.
    async fn another_revision(&self, definition: &str, before: &str) -> Result<String>;
    /// A pod of a definition, whatever it does.
    async fn any_pod(&self, definition: &str) -> Result<Pod>;
    /// Waits until an Event about a definition has this reason and this note.
    async fn event(&self, definition: &str, reason: &str, note: &str) -> Result<()>;
    /// Waits until there is no object of a kind.
    async fn gone<K: Kind>(&self) -> Result<()>;
    /// The names of all objects of a kind.
    async fn names<K: Kind>(&self) -> Result<Vec<String>>;
    /// Waits until there is no container for the program, or the agent's failure is all it said.
    async fn never_started(&self, pod: &Pod, failure: &str) -> Result<()>;
    /// Waits until the only pod of `web` is of this revision and has said this.
    async fn rolled_out(&self, revision: &str, text: &str) -> Result<()>;
    /// Runs kubectl and returns what it says.
    async fn said(&self, arguments: &[&str]) -> Result<String>;
}

impl Lives for Namespace {
    async fn another_revision(&self, definition: &str, before: &str) -> Result<String> {
        wait_for("a revision", LIMIT, async || {
            let status = self.definition(definition).await?.status.unwrap_or_default();
            let revision = status.current_revision.context("none yet")?;
            ensure!(revision != before, "still `{revision}`");
            Ok(revision)
        })
        .await
    }

    async fn any_pod(&self, definition: &str) -> Result<Pod> {
        let labels = format!("watchword.dev/task-definition={definition}");
        let pods = self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?;
        pods.items.into_iter().next().context("no pod")
    }

    async fn event(&self, definition: &str, reason: &str, note: &str) -> Result<()> {
        let events: Api<Event> = self.api();
        let fields = format!(
            "involvedObject.kind=TaskDefinition,involvedObject.name={definition},reason={reason}"
        );
        wait_for(&format!("an Event with {fields}"), LIMIT, async || {
            let events = events.list(&ListParams::default().fields(&fields)).await?.items;
            let notes: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
            ensure!(notes.iter().any(|one| one == note), "{notes:?}");
            Ok(())
        })
        .await
    }

    async fn gone<K: Kind>(&self) -> Result<()> {
        wait_for(&format!("no {}", K::plural(&())), LIMIT, async || {
            let names = self.names::<K>().await?;
            ensure!(names.is_empty(), "{names:?}");
            Ok(())
        })
        .await
    }

    async fn names<K: Kind>(&self) -> Result<Vec<String>> {
        let objects = self.api::<K>().list(&ListParams::default()).await?;
        Ok(objects.items.iter().map(|object| object.name_any()).collect())
    }

    async fn never_started(&self, pod: &Pod, failure: &str) -> Result<()> {
        let statuses = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
        let made = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.is_empty());
        if statuses.into_iter().all(|container| !made(&container.container_id)) {
            return Ok(());
        }
        // There is a container, in which the agent stands before the program.
        self.says(&pod.name_any(), None, &format!("{failure}\n")).await
    }

    async fn rolled_out(&self, revision: &str, text: &str) -> Result<()> {
        let pods = self.api::<Pod>();
        let pod = wait_for(&format!("only a pod of `{revision}`"), LIMIT, async || {
            let list = pods.list(&ListParams::default().labels(OF_WEB)).await?.items;
            let [pod] = list.as_slice() else { bail!("{} pods", list.len()) };
            let spec = serde_json::to_string(&pod.spec)?;
            ensure!(spec.contains(revision), "`{}` is of another", pod.name_any());
            Ok(pod.name_any())
        })
        .await?;
        self.says(&pod, None, text).await
    }

    async fn said(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).context("kubectl writes no text")
    }
}

/// A kind of objects that stand in namespaces.
trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// Kind and name of what controls an object.
fn controller_of(object: &impl Resource) -> Result<(String, String)> {
    let mut owners = object.meta().owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    let owner = owner.context("nobody controls it")?;
    Ok((owner.kind.clone(), owner.name.clone()))
}
