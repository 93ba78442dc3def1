//! Watchword as stories use it: secrets through the command line, task definitions through the API
//! server, and waiting for what a person would wait for.

use std::env;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::{TaskDefinition, names};

use crate::cache::Cache;
use crate::cluster::{Cluster, Namespace, wait_for};

/// How long anything that should happen may take: long, because test machines are slow and shared;
/// nothing waits longer than it must.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Parts of what `watchword` says of failures that are gone when one tries again.
const MAY_PASS: [&str; 15] = [
    "cannot be reached",
    "cannot be written",
    "cannot begin TLS",
    "cannot forward a port",
    "cannot have the",
    "cannot list the pods",
    "cannot look at the namespace",
    "cannot tell whose secrets",
    "has not confirmed",
    "ended the connection",
    "in time",
    "is ready",
    "the connection to the store broke",
    "took too long",
    "try again",
];

fn may_pass(refusal: &str) -> bool {
    MAY_PASS.iter().any(|text| refusal.contains(text))
}

impl Cluster {
    /// As [`Cluster::watchword`], and again as long as the store is too busy for an answer.
    ///
    /// # Errors
    ///
    /// It cannot be run, or there is no answer after [`LIMIT`].
    pub async fn watchword_answered(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        wait_for(&format!("an answer to `watchword {}`", arguments.join(" ")), LIMIT, async || {
            let output = self.watchword(arguments, input).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success() || !may_pass(&said), "{said}");
            Ok(output)
        })
        .await
    }

    /// Runs `watchword` with a standard input; its exit code is the caller's to judge.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub async fn watchword(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        self.run_with(&Self::cli()?, arguments, input).await
    }

    /// Where `watchword` is: `WATCHWORD_CLI` names it, else it is where `make programs` puts it.
    ///
    /// # Errors
    ///
    /// Nothing says where either is.
    pub fn cli() -> Result<PathBuf> {
        match env::var_os("WATCHWORD_CLI") {
            Some(program) => Ok(PathBuf::from(program)),
            None => Ok(Cache::from_env()?.path().join("programs/watchword")),
        }
    }

    /// Creates a secret.
    ///
    /// # Errors
    ///
    /// The store refuses it.
    pub async fn create_secret(&self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.store_secret("create", path, value.as_ref()).await
    }

    /// Gives a secret a new value.
    ///
    /// # Errors
    ///
    /// The store refuses it.
    pub async fn update_secret(&self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.store_secret("update", path, value.as_ref()).await
    }

    /// The value is remembered, to be searched for when all stories have been told. What a busy
    /// machine answers, that one should try again, is done: also where the attempt before was.
    async fn store_secret(&self, verb: &str, path: &str, value: &[u8]) -> Result<()> {
        if let Some(node) = self.local() {
            node.remember_value(value)?;
        }
        self.done(&["secret", verb, path, "--file", "-"], value, "already exists").await
    }

    /// Deletes a secret.
    ///
    /// # Errors
    ///
    /// The store refuses it.
    pub async fn delete_secret(&self, path: &str) -> Result<()> {
        self.done(&["secret", "delete", path], b"", "there is no secret").await
    }

    /// Runs a command of `watchword` until it succeeds, or says after a failed attempt what it says
    /// when there is nothing left to do.
    async fn done(&self, command: &[&str], input: &[u8], nothing_left: &str) -> Result<()> {
        let mut is_first = true;
        wait_for(&format!("`watchword {}`", command.join(" ")), LIMIT, async || {
            let output = self.watchword(command, input).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_done = output.status.success() || (!is_first && said.contains(nothing_left));
            let refusal = (!is_done).then(|| anyhow!("{}: {said}", command.join(" ")));
            is_first = false;
            match refusal {
                Some(refusal) if may_pass(&said) => Err(refusal),
                Some(refusal) => Ok(Err(refusal)),
                None => Ok(Ok(())),
            }
        })
        .await?
    }

    /// The audit lines of all replicas of the store that still have a log, oldest first for each.
    ///
    /// # Errors
    ///
    /// The logs cannot be read.
    pub async fn audit(&self) -> Result<Vec<Value>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), names::NAMESPACE);
        let of_store = ListParams::default().labels("app.kubernetes.io/component=store");
        let mut lines = Vec::new();
        for pod in pods.list(&of_store).await? {
            let text = pods.logs(&pod.name_any(), &LogParams::default()).await?;
            let entries = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.extend(entries.filter(|line: &Value| line["kind"] == "audit"));
        }
        Ok(lines)
    }
}

/// Makes a request again as long as the API server, or a webhook that it asks, is too busy for an
/// answer; then it returns whatever came of it.
///
/// # Errors
///
/// There is no answer after [`LIMIT`].
pub async fn judged<T>(request: impl AsyncFn() -> Result<T>) -> Result<Result<T>> {
    wait_for("the API server to answer", LIMIT, async || match request().await {
        Err(error) if is_busy(&format!("{error:#}")) => Err(error),
        outcome => Ok(outcome),
    })
    .await
}

/// Whether a refusal says only that the API server, or a webhook that it asks, did not answer: a
/// webhook that is late by more than its three seconds is passed over for a pod, which our policy
/// refuses then.
pub(crate) fn is_busy(refusal: &str) -> bool {
    ["TLS handshake timeout", "etcdserver: ", "failed calling webhook", "is the webhook running?"]
        .iter()
        .any(|text| refusal.contains(text))
}

impl Namespace {
    /// The path of a secret in this namespace's own space: `<namespace>/<name>`.
    pub fn secret(&self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }

    /// Applies a TaskDefinition with this `spec`, again if the webhook did not answer in time.
    ///
    /// # Errors
    ///
    /// The server refuses it; the error has its words.
    pub async fn define(&self, name: &str, spec: &Value) -> Result<()> {
        let definition = json!({
            "apiVersion": "watchword.dev/v1alpha1",
            "kind": "TaskDefinition",
            "metadata": {"name": name},
            "spec": spec,
        });
        let definition = definition.to_string();
        judged(async || self.apply(&definition).await).await?.map(drop)
    }

    /// The definition of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn definition(&self, name: &str) -> Result<TaskDefinition> {
        self.api().get(name).await.with_context(|| format!("cannot read task definition `{name}`"))
    }

    /// Waits until the definition is in this state of Mesos, and returns it.
    ///
    /// # Errors
    ///
    /// It is not, after [`LIMIT`].
    pub async fn in_state(&self, name: &str, state: &str) -> Result<TaskDefinition> {
        wait_for(&format!("`{name}` in {state}"), LIMIT, async || {
            let definition = self.definition(name).await?;
            let status = definition.status.clone().unwrap_or_default();
            if status.state.as_deref() == Some(state) {
                return Ok(definition);
            }
            bail!("{}", serde_json::to_string(&status).unwrap_or_default())
        })
        .await
    }

    /// Waits until the definition is in TASK_STARTING, and its status and an Event say this.
    ///
    /// # Errors
    ///
    /// They do not, after [`LIMIT`].
    pub async fn waits_because(&self, name: &str, why: &str) -> Result<()> {
        let definition = self.in_state(name, "TASK_STARTING").await?;
        let events: Api<Event> = self.api();
        wait_for(
            &format!("a status and an Event of `{name}` that say {why:?}"),
            LIMIT,
            async || {
                let status = self.definition(name).await?.status.unwrap_or_default();
                let message = status.message.unwrap_or_default();
                ensure!(message.contains(why), "{message}");
                let events = events.list(&ListParams::default()).await?.items;
                let events: Vec<_> = events
                    .iter()
                    .filter(|event| event.involved_object.uid == definition.metadata.uid)
                    .map(|event| (event.reason.as_deref(), event.message.as_deref()))
                    .collect();
                let told = events.iter().any(|(reason, message)| {
                    *reason == Some("SecretsPending")
                        && message.is_some_and(|text| text.contains(why))
                });
                told.then_some(()).with_context(|| format!("{events:?}"))
            },
        )
        .await
    }

    /// Waits until a condition of the definition has this status, and returns the condition.
    ///
    /// # Errors
    ///
    /// It has not, after [`LIMIT`].
    pub async fn condition(&self, name: &str, kind: &str, status: &str) -> Result<Value> {
        wait_for(&format!("`{name}` with {kind}={status}"), LIMIT, async || {
            let conditions = self.definition(name).await?.status.unwrap_or_default().conditions;
            let found = conditions.iter().find(|one| one.type_ == kind && one.status == status);
            let found = found.with_context(|| format!("{conditions:?}"))?;
            serde_json::to_value(found).context("a condition is JSON")
        })
        .await
    }

    /// Waits until a pod with these labels is in a phase, and returns the newest such pod.
    ///
    /// # Errors
    ///
    /// There is none, after [`LIMIT`].
    pub async fn pod_with(&self, labels: &str, phase: &str) -> Result<Pod> {
        let pods: Api<Pod> = self.api();
        wait_for(&format!("a pod with {labels} in phase {phase}"), LIMIT, async || {
            let list = pods.list(&ListParams::default().labels(labels)).await?;
            let phase_of = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let seen: Vec<_> = list.iter().map(|pod| (pod.name_any(), phase_of(pod))).collect();
            list.into_iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .filter(|pod| phase_of(pod).as_deref() == Some(phase))
                .max_by_key(|pod| pod.metadata.creation_timestamp.clone())
                .with_context(|| format!("{seen:?}"))
        })
        .await
    }

    /// What the application of a container, or of the only one, has printed: its log without the
    /// lines of an agent that had to wait, as on a busy machine any may have to.
    ///
    /// # Errors
    ///
    /// The container has not been started.
    pub async fn output(&self, pod: &str, container: Option<&str>) -> Result<String> {
        Ok(without_waiting(&self.logs(pod, container).await?))
    }

    /// Waits until the application of a container, or of the only one, has printed just this. A
    /// container counts as running while its agent still waits for the store, so a first look may
    /// come too early.
    ///
    /// # Errors
    ///
    /// It is another one, after [`LIMIT`].
    pub async fn says(&self, pod: &str, container: Option<&str>, text: &str) -> Result<()> {
        wait_for(&format!("pod `{pod}` to say {text:?}"), LIMIT, async || {
            let said = self.output(pod, container).await?;
            ensure!(said == text, "{said:?}");
            Ok(())
        })
        .await
    }

    /// The name of the definition's newest pod, once it runs.
    ///
    /// # Errors
    ///
    /// None runs, after [`LIMIT`].
    pub async fn running_pod(&self, definition: &str) -> Result<String> {
        let labels = format!("{}={definition}", names::TASK_DEFINITION_LABEL);
        Ok(self.pod_with(&labels, "Running").await?.name_any())
    }
}

/// A container's log without the lines of an agent that had to wait.
pub fn without_waiting(log: &str) -> String {
    let is_output = |line: &&str| !line.starts_with("watchword-agent: waiting for ");
    log.split_inclusive('\n').filter(is_output).collect()
}

/// A task of image busybox that runs a shell command.
pub fn task(name: &str, command: &str) -> Value {
    json!({
        "name": name,
        "command": {"value": command, "environment": {"variables": []}},
        "container": {
            "type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": crate::images::BUSYBOX}}},
            "volumes": [],
        },
        "kill_policy": {"grace_period": {"nanoseconds": 1_000_000_000}},
    })
}

/// Gives a task a secret variable. `secret` is a path, or `path@key`.
pub fn with_variable(mut task: Value, name: &str, secret: &str) -> Value {
    let variable = json!({"name": name, "type": "SECRET", "secret": reference(secret)});
    push(&mut task["command"]["environment"]["variables"], variable);
    task
}

/// Gives a task a plain variable.
pub fn with_plain(mut task: Value, name: &str, value: &str) -> Value {
    push(&mut task["command"]["environment"]["variables"], json!({"name": name, "value": value}));
    task
}

/// Gives a task a secret file. `secret` is a path, or `path@key`; `mode` is `RO` or `RW`.
pub fn with_file(mut task: Value, path: &str, mode: &str, secret: &str) -> Value {
    let source = json!({"type": "SECRET", "secret": reference(secret)});
    let volume = json!({"mode": mode, "container_path": path, "source": source});
    push(&mut task["container"]["volumes"], volume);
    task
}

fn reference(secret: &str) -> Value {
    let reference = match secret.split_once('@') {
        None => json!({"name": secret}),
        Some((name, key)) => json!({"name": name, "key": key}),
    };
    json!({"type": "REFERENCE", "reference": reference})
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
