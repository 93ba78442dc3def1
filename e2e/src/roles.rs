//! Watchword's own Deployments, for stories that disturb them.
//!
//! [`Cluster::disturb`] is the only way to one that may be changed: one story at a time, and
//! whatever becomes of it, the Deployments are put back and waited for.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use watchword_crds::{TaskDefinition, names};

use crate::cluster::{Cluster, wait_for};
use crate::watchword::is_busy;

/// The Deployment of one role, such as `webhook`.
#[derive(Clone, Debug)]
pub struct Role {
    cluster: Cluster,
    role: String,
}

impl Cluster {
    /// Tells a story that changes the Deployments of `roles`, while no other such story is told in
    /// this process. Afterwards they are as they were, also if the story failed or panicked.
    ///
    /// # Errors
    ///
    /// If the story fails, or what it changed cannot be put back.
    pub async fn disturb<const N: usize, S>(&self, roles: [&str; N], story: S) -> Result<()>
    where
        S: AsyncFnOnce([Role; N]) -> Result<()>,
    {
        let _alone = ONE_AT_A_TIME.lock().await;
        let roles = roles.map(|role| Role { cluster: self.clone(), role: role.to_owned() });
        let mut before = Vec::new();
        for role in &roles {
            role.settled().await?;
            before.push(role.deployment().await?);
        }
        let told = AssertUnwindSafe(story(roles.clone())).catch_unwind().await;
        let mut restored = Ok(());
        for (role, before) in roles.iter().zip(before) {
            // All of them, even if one cannot be.
            let one = role.put_back(&before).await;
            restored = restored.and(one);
        }
        let reached = self.reaches_webhook().await;
        match told {
            Err(panic) => panic::resume_unwind(panic),
            Ok(told) => told.and(restored).and(reached),
        }
    }

    /// Kills a pod of Watchword's own at once: no SIGTERM, no time to tidy up. On a node that is not
    /// ours a kubelet gives it two seconds, also if it is told to give none.
    ///
    /// # Errors
    ///
    /// If the server refuses it; a pod that is gone is as it should be.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        if let Some(node) = self.local() {
            // One that has not started has no process.
            node.signal(pod, "/watchword-controller", "KILL").ok();
        }
        let pods: Api<Pod> = Api::namespaced(self.client(), names::NAMESPACE);
        match pods.delete(pod, &DeleteParams::default().grace_period(0)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot kill `{pod}`")),
            Ok(_) => Ok(()),
        }
    }

    /// Waits until the API server reaches the webhook: a pod is Ready a moment before its address
    /// stands in the node's rules, and on a busy machine some moments.
    async fn reaches_webhook(&self) -> Result<()> {
        let api: Api<TaskDefinition> = Api::namespaced(self.client(), "default");
        let definition = serde_json::from_value(json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
            "metadata": {"name": "asks"},
            "spec": {"tasks": [{"name": "asks", "command": {"value": "true"}}]},
        }))?;
        let only_asks = PostParams { dry_run: true, ..PostParams::default() };
        wait_for("the API server to reach the webhook", ROLLOUT, async || {
            match api.create(&only_asks, &definition).await {
                Err(error) if is_busy(&error.to_string()) => Err(error),
                // Whatever the webhook thinks of it.
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Role {
    /// Kills all pods of the role, see [`Cluster::kill`].
    ///
    /// # Errors
    ///
    /// As [`Cluster::kill`].
    pub async fn kill(&self) -> Result<()> {
        for pod in self.pods().await? {
            self.cluster.kill(&pod.name_any()).await?;
        }
        Ok(())
    }

    /// Changes the number of replicas and waits until there are exactly so many pods, all ready.
    ///
    /// # Errors
    ///
    /// If it does not come to that.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        self.patch(&Patch::Merge(json!({"spec": {"replicas": replicas}}))).await?;
        self.settled().await
    }

    /// Sets a variable of the role's container and waits until no pod without it is left.
    ///
    /// # Errors
    ///
    /// If it does not come to that.
    pub async fn set_variable(&self, name: &str, value: &str) -> Result<()> {
        self.change_container(json!({"env": [{"name": name, "value": value}]})).await
    }

    /// Changes fields of the role's container (a strategic merge) and waits for the rollout.
    ///
    /// # Errors
    ///
    /// If it does not come to its end.
    pub async fn change_container(&self, mut fields: Value) -> Result<()> {
        fields["name"] = json!(self.role);
        let template = json!({"spec": {"containers": [fields]}});
        self.patch(&Patch::Strategic(json!({"spec": {"template": template}}))).await?;
        self.settled().await
    }

    /// The value of a variable of the role's container.
    ///
    /// # Errors
    ///
    /// If the Deployment cannot be read.
    pub async fn variable(&self, name: &str) -> Result<Option<String>> {
        let spec = self.deployment().await?.spec.and_then(|spec| spec.template.spec);
        let containers = spec.map(|spec| spec.containers).unwrap_or_default();
        let mut variables = containers.into_iter().flat_map(|one| one.env.unwrap_or_default());
        Ok(variables.find(|one| one.name == name).and_then(|one| one.value))
    }

    /// The role's pods, those that are ending among them.
    ///
    /// # Errors
    ///
    /// If they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let labels = format!("app.kubernetes.io/component={}", self.role);
        Ok(self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?.items)
    }

    /// Waits until the Deployment is as its spec says: all pods of the newest template, all ready,
    /// and no other pod left.
    ///
    /// # Errors
    ///
    /// If that is not so in time.
    pub async fn settled(&self) -> Result<()> {
        wait_for(&format!("role {} to be settled", self.role), ROLLOUT, async || {
            let deployment = self.deployment().await?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let generation = deployment.metadata.generation;
            let status = deployment.status.unwrap_or_default();
            let counts = [status.replicas, status.updated_replicas, status.available_replicas]
                .map(Option::unwrap_or_default);
            let pods: Vec<_> = self.pods().await?.iter().map(ResourceExt::name_any).collect();
            if status.observed_generation == generation
                && counts == [wanted; 3]
                && usize::try_from(wanted).is_ok_and(|wanted| wanted == pods.len())
            {
                return Ok(());
            }
            bail!("{counts:?} of {wanted} replicas exist, are updated, are available: {pods:?}")
        })
        .await
    }

    async fn put_back(&self, before: &Deployment) -> Result<()> {
        let spec = serde_json::to_value(&before.spec).context("a Deployment is JSON")?;
        let part = |name: &str| {
            let path = format!("/spec/{name}");
            json!({"op": "replace", "path": path, "value": spec[name]})
        };
        let patch = serde_json::from_value(json!([part("replicas"), part("template")]))?;
        self.patch(&Patch::Json::<()>(patch)).await?;
        self.settled().await
    }

    async fn patch<P: serde::Serialize + std::fmt::Debug>(&self, patch: &Patch<P>) -> Result<()> {
        let api: Api<Deployment> = self.api();
        api.patch(&self.name(), &PatchParams::default(), patch)
            .await
            .with_context(|| format!("cannot change `{}`", self.name()))?;
        Ok(())
    }

    async fn deployment(&self) -> Result<Deployment> {
        let name = self.name();
        self.api().get(&name).await.with_context(|| format!("cannot read `{name}`"))
    }

    fn name(&self) -> String {
        format!("watchword-{}", self.role)
    }

    /// The API of one kind in Watchword's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client(), names::NAMESPACE)
    }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long a rollout may take: a pod has five seconds for its preStop hook alone.
const ROLLOUT: Duration = Duration::from_secs(300);
