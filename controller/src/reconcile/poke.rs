//! Poking: ends back-offs of Kubernetes' own controllers once their cause is gone.
//!
//! - A ReplicaSet whose pods were refused, because the webhook was away, tries again after pauses
//!   that double up to a quarter of an hour. Any update of it makes its controller try at once. A
//!   ReplicaSet is not ours to write; but the Deployment's controller copies annotations to it.
//! - A pod in `CrashLoopBackOff` for want of a secret is deleted once the secret can be read: the
//!   next one starts at once.
//!
//! Only workloads and pods that a definition owns, by uids all the way: adopted ones are their
//! owners' and wait their back-off out. A Job's controller waits a minute at most.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::{debug, info};
use watchword_core::claim::controller_of;
use watchword_core::injection;
use watchword_core::reconciliation::{Existing, Observed, owner, retry};
use watchword_core::workload::WorkloadKind;
use watchword_crds::names;

use super::context::{Error, Key, lock};
use crate::backoff::Backoff;
use crate::chain::Chain;

/// Who pokes, and when each was poked.
pub(super) struct Poker {
    /// How often each Deployment, by uid, was poked in vain.
    attempts: Backoff<String>,
    client: Client,
    /// The namespace of our own webhook.
    namespace: String,
    /// When each Deployment, by uid, may be poked next.
    next: Mutex<HashMap<String, Timestamp>>,
}

impl Poker {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { attempts: Backoff::new(FIRST, LAST), client, namespace, next: Mutex::default() }
    }

    /// Pokes the definition's Deployment if Kubernetes has given up on its pods for now. Returns
    /// when to look again.
    pub(super) async fn poke(
        &self,
        observed: &Observed,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let Some(deployment) = owned_deployment(observed) else { return Ok(None) };
        let uid = &deployment.uid;
        let failure = deployment.progress.replica_failure.as_deref();
        if !failure.is_some_and(|failure| failure.contains(MARK)) {
            self.attempts.reset(uid);
            lock(&self.next).remove(uid);
            return Ok(None);
        }
        if lock(&self.next).get(uid).is_some_and(|next| now < *next)
            || !self.webhook_is_ready().await
        {
            return Ok(Some(LOOK_AGAIN));
        }

        let manifest = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": deployment.name,
                "namespace": key.namespace,
                "uid": uid,
                "annotations": {POKED_AT: now.to_string()},
            },
        });
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::apply(POKER).force();
        api.patch(&deployment.name, &parameters, &Patch::Apply(&manifest))
            .await
            .map_err(Error::api(format!("poke the Deployment `{}`", deployment.name)))?;
        info!(name = deployment.name, namespace = key.namespace, "poked a Deployment");
        // What fails for another reason is not hammered.
        let wait = self.attempts.next_with(uid.clone(), 1.0);
        let next = now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_mins(1));
        lock(&self.next).insert(uid.clone(), next);
        Ok(Some(LOOK_AGAIN))
    }

    /// Deletes the pods that back off after a failure which ended before `since`. Returns how many.
    pub(super) async fn retry_pods(
        &self,
        observed: &Observed,
        current: &str,
        key: &Key,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let Some(deployment) = owned_deployment(observed) else { return Ok(0) };
        let mut retried = 0;
        for pod in &observed.pods {
            let is_current = injection::named_revision(pod) == Some(current);
            if is_current && retry(pod, since, now) && self.is_of(pod, deployment, key).await? {
                self.delete(pod, key).await?;
                retried += 1;
            }
        }
        Ok(retried)
    }

    /// Whether the pod's ReplicaSet is of this Deployment.
    async fn is_of(&self, pod: &Pod, deployment: &Existing, key: &Key) -> Result<bool, Error> {
        let Some(owner) = controller_of(&pod.metadata) else { return Ok(false) };
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let found = api
            .get_opt(&owner.name)
            .await
            .map_err(Error::api(format!("read the ReplicaSet `{}`", owner.name)))?;
        Ok(found.is_some_and(|set| {
            set.metadata.uid.as_ref() == Some(&owner.uid)
                && controller_of(&set.metadata).is_some_and(|one| one.uid == deployment.uid)
        }))
    }

    async fn delete(&self, pod: &Pod, key: &Key) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let name = pod.name_any();
        let only = Preconditions { resource_version: None, uid: pod.metadata.uid.clone() };
        match api.delete(&name, &DeleteParams::default().preconditions(only)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(Error::api(format!("delete the pod `{name}`"))(error)),
            Ok(_) => {
                info!(pod = name, namespace = key.namespace, "deleted a pod to end its back-off");
                Ok(())
            }
        }
    }

    async fn webhook_is_ready(&self) -> bool {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.get_opt(names::WEBHOOK).await {
            Err(error) => {
                debug!(error = %Chain(&error), "cannot read the webhook's Deployment");
                false
            }
            // It does not run in this cluster as a Deployment: then nothing is known of it.
            Ok(None) => true,
            Ok(Some(webhook)) => webhook
                .status
                .and_then(|status| status.ready_replicas)
                .is_some_and(|ready| ready > 0),
        }
    }
}

fn owned_deployment(observed: &Observed) -> Option<&Existing> {
    let owner = owner(&observed.definition)?;
    observed.workloads.iter().find(|one| {
        one.kind == WorkloadKind::Deployment && one.is_controlled_by(&owner) && !one.terminating
    })
}

/// What a refusal by our webhook or by our policies says in any case.
const MARK: &str = "watchword";

/// The annotation whose change makes the ReplicaSet's controller try again.
const POKED_AT: &str = "watchword.dev/poked-at";

/// The field manager of that annotation: applied by the manager of the manifest, the next
/// application of the manifest would take it away.
const POKER: &str = "watchword-poke";

/// How soon after a poke comes the next one at first.
const FIRST: Duration = Duration::from_secs(10);

/// How soon at last.
const LAST: Duration = Duration::from_mins(10);

/// How often a Deployment that waits is looked at: the webhook may be back.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
