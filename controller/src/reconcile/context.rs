//! What every reconcile shares, and what it remembers between two of them.
//!
//! Memory is for thrift only, never for decisions: it spares writes that would change nothing and
//! Events that were told. A controller that starts with none of it does the same, once more.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource as _};
use tokio::sync::mpsc;
use watchword_core::reconciliation::Outcome;
use watchword_crds::{TaskDefinition, TaskDefinitionStatus};

use super::bundle::Bundle;
use super::caches::{Caches, Guarded, reference};
use super::check::Checks;
use super::metrics::ReconcileMetrics;
use super::poke::Poker;
use super::roll::Roller;
use crate::backoff::Backoff;

/// What every reconcile shares.
pub(super) struct Context {
    pub(super) again: mpsc::UnboundedSender<ObjectRef<Guarded>>,
    pub(super) bundle: Bundle,
    pub(super) caches: Caches,
    pub(super) checks: Checks,
    pub(super) client: Client,
    /// How often each definition failed in a row.
    pub(super) failures: Backoff<Key>,
    pub(super) memory: Memory,
    pub(super) metrics: ReconcileMetrics,
    pub(super) poker: Poker,
    /// Who Events are from.
    pub(super) reporter: Reporter,
    pub(super) roller: Roller,
}

impl Context {
    /// Has the definitions reconciled of which this is true, although nothing of theirs changed.
    pub(super) fn wake(&self, which: impl Fn(&TaskDefinition) -> bool) {
        for definition in self.caches.definitions.state() {
            if definition.0.as_ref().is_ok_and(&which) {
                // The receiver being gone means that the controller is ending.
                _ = self.again.send(reference(Guarded::meta(&definition)));
            }
        }
    }
}

/// Namespace and name of a definition.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// Why a reconcile failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API server refused or did not answer.
    #[error("cannot {what}")]
    Api {
        what: String,
        #[source]
        source: kube::Error,
    },
    /// The definition's kind is namespaced, and yet it has no namespace, name or uid.
    #[error("the task definition has no {0}")]
    Incomplete(&'static str),
}

impl Error {
    /// For `map_err`: what was tried.
    pub(super) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }
}

/// What was done before.
#[derive(Default)]
pub(super) struct Memory {
    applied: Mutex<HashMap<Key, Applied>>,
    reported: Mutex<HashMap<Key, (String, TaskDefinitionStatus)>>,
    told: Mutex<HashMap<Key, HashSet<String>>>,
}

/// The last application of a workload.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub(super) at: Timestamp,
    /// The digest of what was applied.
    pub(super) digest: String,
    /// What the object looked like afterwards, see `observe::fingerprint`.
    pub(super) fingerprint: String,
    pub(super) outcome: Outcome,
}

impl Memory {
    pub(super) fn applied(&self, key: &Key) -> Option<Applied> {
        lock(&self.applied).get(key).cloned()
    }

    pub(super) fn remember_applied(&self, key: &Key, applied: Applied) {
        lock(&self.applied).insert(key.clone(), applied);
    }

    /// The status that was written last for the definition of this uid.
    pub(super) fn reported(&self, key: &Key, uid: &str) -> Option<TaskDefinitionStatus> {
        let reported = lock(&self.reported);
        reported.get(key).filter(|(of, _)| of == uid).map(|(_, status)| status.clone())
    }

    pub(super) fn remember_reported(&self, key: &Key, uid: &str, status: TaskDefinitionStatus) {
        lock(&self.reported).insert(key.clone(), (uid.to_owned(), status));
    }

    /// Of what is true now, what was not true last time; what is no longer true is forgotten.
    pub(super) fn news(&self, key: &Key, now: HashSet<String>) -> HashSet<String> {
        let mut told = lock(&self.told);
        let news = match told.get(key) {
            None => now.clone(),
            Some(before) => now.difference(before).cloned().collect(),
        };
        told.insert(key.clone(), now);
        news
    }

    /// Forgets a definition that is gone.
    pub(super) fn forget(&self, key: &Key) {
        lock(&self.applied).remove(key);
        lock(&self.reported).remove(key);
        lock(&self.told).remove(key);
    }
}

/// A poisoned map is still a map: what panicked held it only to insert or remove.
pub(super) fn lock<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
