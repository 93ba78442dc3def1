//! Poking: ends back-offs of Kubernetes' own controllers once their cause is gone.
//!
//! - A ReplicaSet whose pods were refused, because the webhook was away, tries again after pauses
//!   that double up to a quarter of an hour. Any update of it makes its controller try at once. A
//!   ReplicaSet is not ours to write; but the Deployment's controller copies annotations to it. One
//!   annotation is also all that Watchword may write on a Deployment which it adopts pods of (policy
//!   `watchword-controller-scope`).
//! - A pod in `CrashLoopBackOff` for want of a secret is deleted once the secret can be read: the
//!   next one starts at once. Only pods that a definition owns, by uids all the way.
//!
//! What else makes pods that are adopted waits its back-off out: a Job's controller a minute at
//! most, others up to a quarter of an hour.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, future};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::{debug, info};
use watchword_core::claim::{adopts, controller_of};
use watchword_core::injection;
use watchword_core::reconciliation::{Existing, Observed, retry};
use watchword_crds::{TaskDefinition, names};

use super::context::{Error, Key, lock};
use super::observe::of_deployment;
use crate::backoff::Backoff;
use crate::chain::Chain;

/// Who pokes, and when each was poked.
pub(super) struct Poker {
    /// How often each Deployment, by uid, was poked in vain.
    attempts: Backoff<String>,
    client: Client,
    /// For each definition that adopts: at what state of things nothing was found to poke.
    content: Mutex<HashMap<Key, State>>,
    /// The namespace of our own webhook.
    namespace: String,
    /// When each Deployment, by uid, may be poked next.
    next: Mutex<HashMap<String, Timestamp>>,
    /// How often the webhook came back.
    returns: AtomicU64,
}

/// What may end a back-off of adopted pods: the definition as it is, and the webhook's return.
#[derive(Debug, Eq, PartialEq)]
struct State {
    generation: Option<i64>,
    returns: u64,
    uid: Option<String>,
}

impl Poker {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self {
            attempts: Backoff::new(FIRST, LAST),
            client,
            content: Mutex::default(),
            namespace,
            next: Mutex::default(),
            returns: AtomicU64::default(),
        }
    }

    /// Pokes the definition's Deployment if Kubernetes has given up on its pods for now. Returns
    /// when to look again.
    pub(super) async fn poke(
        &self,
        observed: &Observed,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let Some(deployment) = observed.deployment() else { return Ok(None) };
        let Existing { name, progress, uid, .. } = deployment;
        if !is_refused(progress.replica_failure.as_deref()) {
            self.forget(uid);
            return Ok(None);
        }
        self.poke_one(name, uid, key, now).await?;
        Ok(Some(LOOK_AGAIN))
    }

    /// Pokes the Deployments whose pods the definition adopts and Kubernetes has given up on for
    /// now. Nobody watches them: they are looked at when the definition is new or another one, and
    /// when the webhook has come back. Returns when to look again.
    pub(super) async fn poke_adopted(
        &self,
        observed: &Observed,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let definition = &observed.definition;
        let state = State {
            generation: definition.metadata.generation,
            returns: self.returns.load(Ordering::Relaxed),
            uid: definition.metadata.uid.clone(),
        };
        // Pods of a refused definition, or of two, would be refused again.
        if observed.refusal.is_some()
            || !observed.rivals.is_empty()
            || lock(&self.content).get(key) == Some(&state)
        {
            return Ok(None);
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let all = api.list(&ListParams::default()).await;
        let all = all.map_err(Error::api("list the Deployments of the namespace"))?;
        let adopted = all.items.iter().filter(|one| makes_adopted(definition, one));
        let mut next = None;
        for deployment in adopted {
            let uid = deployment.uid().unwrap_or_default();
            if is_refused(of_deployment(deployment).replica_failure.as_deref()) {
                let again = self.poke_one(&deployment.name_any(), &uid, key, now).await?;
                next = next.into_iter().chain([again]).min();
            } else {
                self.forget(&uid);
            }
        }
        if next.is_none() {
            lock(&self.content).insert(key.clone(), state);
        }
        Ok(next)
    }

    /// Each time that the webhook has come back.
    pub(super) fn returns(&self) -> impl Stream<Item = ()> + '_ {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", names::WEBHOOK));
        let mut was_ready = true;
        let changes = watcher(api, config).default_backoff().applied_objects();
        changes.filter_map(move |webhook| {
            let Ok(webhook) = webhook else { return future::ready(None) };
            let is_ready = is_ready(&webhook);
            let returns = is_ready && !was_ready;
            was_ready = is_ready;
            if returns {
                self.returns.fetch_add(1, Ordering::Relaxed);
            }
            future::ready(returns.then_some(()))
        })
    }

    /// Pokes a Deployment unless that was done a moment ago or the webhook is away. Returns when to
    /// look at it again.
    async fn poke_one(
        &self,
        name: &str,
        uid: &str,
        key: &Key,
        now: Timestamp,
    ) -> Result<Duration, Error> {
        let next = lock(&self.next).get(uid).copied().filter(|next| now < *next);
        if let Some(next) = next {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            return Ok(wait.max(LOOK_AGAIN));
        }
        if !self.webhook_is_ready().await {
            return Ok(LOOK_AGAIN);
        }
        let manifest = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                "namespace": key.namespace,
                "uid": uid,
                "annotations": {POKED_AT: now.to_string()},
            },
        });
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::apply(POKER).force();
        api.patch(name, &parameters, &Patch::Apply(&manifest))
            .await
            .map_err(Error::api(format!("poke the Deployment `{name}`")))?;
        info!(name, namespace = key.namespace, "poked a Deployment");
        // What fails for another reason is not hammered.
        let wait = self.attempts.next_with(uid.to_owned(), 1.0);
        let next = now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_mins(1));
        lock(&self.next).insert(uid.to_owned(), next);
        Ok(LOOK_AGAIN)
    }

    /// Forgets a definition that is gone.
    pub(super) fn forget_definition(&self, key: &Key) {
        lock(&self.content).remove(key);
    }

    /// The pods of this Deployment are made again.
    fn forget(&self, uid: &str) {
        self.attempts.reset(&uid.to_owned());
        lock(&self.next).remove(uid);
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
        let Some(deployment) = observed.deployment() else { return Ok(0) };
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
            Ok(Some(webhook)) => is_ready(&webhook),
        }
    }
}

fn is_ready(webhook: &Deployment) -> bool {
    let ready = webhook.status.as_ref().and_then(|status| status.ready_replicas);
    ready.is_some_and(|ready| ready > 0)
}

/// Whether Kubernetes says that our webhook or our policies refuse pods.
fn is_refused(failure: Option<&str>) -> bool {
    failure.is_some_and(|failure| failure.contains(MARK))
}

/// Whether the Deployment's pods are such as the definition adopts.
fn makes_adopted(definition: &TaskDefinition, deployment: &Deployment) -> bool {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    template.and_then(|metadata| metadata.labels.as_ref()).is_some_and(|labels| {
        labels.get(names::INJECT_LABEL).map(String::as_str) == Some(names::INJECT_VALUE)
            && !labels.contains_key(names::TASK_DEFINITION_LABEL)
            && adopts(definition, labels)
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

/// How often a Deployment that waits is looked at, at most: the webhook may be back.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
