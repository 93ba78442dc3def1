//! Rolling: has the pods of a Deployment replaced that do not know the store's authority, a few
//! Deployments at a time. Which and when is decided in `watchword_core::reconciliation`.
//!
//! An annotation of the pod template changes, and the Deployment's controller does the rest, as
//! carefully as in any rollout. No revision has the annotation, so nothing else is another; and it
//! has a field manager of its own, so that the next application of the manifest leaves it alone.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tracing::info;
use watchword_core::reconciliation::{Budget, Check, Existing, Observed, strangers, to_roll};

use super::context::{Error, Key};

/// Who rolls, and what is being rolled.
pub(super) struct Roller {
    budget: Mutex<Budget>,
    client: Client,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Rolled {
    /// When to look again: others are being rolled.
    pub(super) again: Option<Duration>,
    /// What happened, for an Event: a reason and a note.
    pub(super) happened: Option<(&'static str, String)>,
}

impl Roller {
    pub(super) fn new(client: Client) -> Self {
        Self { budget: Mutex::default(), client }
    }

    /// Rolls the definition's Deployment if it is to be, and if there is room for one more.
    pub(super) async fn roll(
        &self,
        observed: &Observed,
        check: &Check,
        key: &Key,
        now: Timestamp,
    ) -> Result<Rolled, Error> {
        let Some(deployment) = to_roll(observed, check, now) else {
            if let Some(deployment) = observed.deployment()
                && strangers(observed, now).is_none()
            {
                self.budget(|budget| budget.done(&deployment.uid));
            }
            return Ok(Rolled::default());
        };
        if !self.budget(|budget| budget.start(&deployment.uid, now)) {
            return Ok(Rolled { again: Some(LOOK_AGAIN), happened: None });
        }
        if let Err(error) = self.annotate(deployment, key, now).await {
            self.budget(|budget| budget.done(&deployment.uid));
            return Err(error);
        }
        info!(name = deployment.name, namespace = key.namespace, "rolled a Deployment");
        let note = format!(
            "Rolled the Deployment `{}`: pods of it did not know the store's authority.",
            deployment.name
        );
        Ok(Rolled { again: None, happened: Some(("WorkloadRolled", note)) })
    }

    async fn annotate(
        &self,
        deployment: &Existing,
        key: &Key,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Existing { name, uid, .. } = deployment;
        let manifest = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": key.namespace, "uid": uid},
            "spec": {"template": {"metadata": {"annotations": {ROLLED_AT: now.to_string()}}}},
        });
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::apply(ROLLER).force();
        let patched = api.patch(name, &parameters, &Patch::Apply(&manifest)).await;
        patched.map(drop).map_err(Error::api(format!("roll the Deployment `{name}`")))
    }

    fn budget<T>(&self, ask: impl FnOnce(&mut Budget) -> T) -> T {
        ask(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The annotation of the pod template.
const ROLLED_AT: &str = "watchword.dev/rolled-at";

/// Its field manager.
const ROLLER: &str = "watchword-roll";

/// How often a Deployment that waits for its turn is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
