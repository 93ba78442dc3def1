//! What a watch tells of heads: their ciphertext, by name and revision.
//!
//! A watch lags behind, so what it told is never taken for the newest: it is handed out only to who
//! already knows the revision from a list, which spares one request per secret. It is bounded: when
//! it is full, further heads are not kept, and are fetched when they are needed. Without the right to
//! watch, or while the watch is interrupted, everything works as if there were no cache.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::task::AbortHandle;
use tracing::warn;
use watchword_crds::SealedRecord;

use super::{KIND_LABEL, stored};
use crate::backend::{Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

/// Heads that a watch has told of; the watch ends when this is dropped.
pub(super) struct Cache {
    heads: Arc<Mutex<Heads>>,
    watch: AbortHandle,
}

impl Cache {
    /// Follows the heads of a namespace, and keeps `capacity` bytes of them at most.
    pub(super) fn follow(api: Api<SealedRecord>, capacity: usize) -> Self {
        let heads = Arc::new(Mutex::new(Heads::new(capacity)));
        let watch = tokio::spawn(follow(api, Arc::clone(&heads))).abort_handle();
        Self { heads, watch }
    }

    pub(super) fn get(&self, name: &ObjectName, revision: &Revision) -> Option<Arc<[u8]>> {
        lock(&self.heads).get(name, revision)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn follow(api: Api<SealedRecord>, heads: Arc<Mutex<Heads>>) {
    let selector = format!("{KIND_LABEL}={}", ObjectKind::Head.as_str());
    let config = watcher::Config::default().labels(&selector);
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    // What a list that is under way has brought so far.
    let mut seen = HashSet::new();
    // What was said last of why it does not go on.
    let mut interruption = None;
    while let Some(event) = events.next().await {
        // A watch that begins has not brought anything yet.
        if matches!(&event, Ok(event) if !matches!(event, Event::Init)) {
            interruption = None;
        }
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => {
                if let Some(name) = keep(&heads, &object) {
                    seen.insert(name);
                }
            }
            Ok(Event::InitDone) => lock(&heads).retain(&std::mem::take(&mut seen)),
            Ok(Event::Apply(object)) => {
                keep(&heads, &object);
            }
            Ok(Event::Delete(object)) => {
                if let Some(name) = ObjectName::parse(&object.name_any()) {
                    lock(&heads).remove(&name);
                }
            }
            // It begins anew by itself, after a while.
            Err(error) => {
                let error: &(dyn Error + 'static) = &error;
                let text = error.to_string();
                if interruption.as_ref() != Some(&text) {
                    warn!(error, "cannot watch the heads, lists will be slow; trying again");
                }
                interruption = Some(text);
            }
        }
    }
}

fn keep(heads: &Mutex<Heads>, object: &SealedRecord) -> Option<ObjectName> {
    // The label is only for lists: a name says the kind.
    let name = ObjectName::parse(&object.name_any()).filter(|n| n.kind() == ObjectKind::Head)?;
    let Stored { bytes, revision } = stored(&name, object).ok()?;
    lock(heads).insert(name.clone(), revision, bytes.into());
    Some(name)
}

fn lock(heads: &Mutex<Heads>) -> MutexGuard<'_, Heads> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Heads {
    capacity: usize,
    bytes: usize,
    entries: HashMap<ObjectName, (Revision, Arc<[u8]>)>,
}

impl Heads {
    fn new(capacity: usize) -> Self {
        Self { capacity, bytes: 0, entries: HashMap::new() }
    }

    fn get(&self, name: &ObjectName, revision: &Revision) -> Option<Arc<[u8]>> {
        let (known, bytes) = self.entries.get(name)?;
        (known == revision).then(|| Arc::clone(bytes))
    }

    fn insert(&mut self, name: ObjectName, revision: Revision, bytes: Arc<[u8]>) {
        self.remove(&name);
        let cost = cost(&bytes);
        if self.bytes + cost <= self.capacity {
            self.bytes += cost;
            self.entries.insert(name, (revision, bytes));
        }
    }

    fn remove(&mut self, name: &ObjectName) {
        if let Some((_, bytes)) = self.entries.remove(name) {
            self.bytes -= cost(&bytes);
        }
    }

    /// Forgets what a list has not brought.
    fn retain(&mut self, names: &HashSet<ObjectName>) {
        self.entries.retain(|name, _| names.contains(name));
        self.bytes = self.entries.values().map(|(_, bytes)| cost(bytes)).sum();
    }
}

/// Names, revisions and the table weigh as much as a small head.
fn cost(bytes: &[u8]) -> usize {
    bytes.len() + 200
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> ObjectName {
        ObjectName::head(&[number; 32], &"a".parse().unwrap())
    }

    fn revision(number: u32) -> Revision {
        Revision(number.to_string().into())
    }

    #[test]
    fn only_the_revision_that_is_asked_for_is_handed_out() {
        let mut heads = Heads::new(10_000);
        heads.insert(name(1), revision(1), vec![1].into());
        heads.insert(name(1), revision(2), vec![2].into());

        assert_eq!(heads.get(&name(1), &revision(1)), None);
        assert_eq!(heads.get(&name(1), &revision(2)).as_deref(), Some(&[2][..]));
        assert_eq!(heads.get(&name(2), &revision(2)), None);
        assert_eq!(heads.bytes, 201);
    }

    #[test]
    fn the_bound_holds_and_what_is_gone_is_forgotten() {
        let mut heads = Heads::new(1000);
        for number in 0..20 {
            heads.insert(name(number), revision(1), vec![0; 50].into());
            assert!(heads.bytes <= 1000);
        }
        assert_eq!(heads.entries.len(), 4);

        heads.insert(name(0), revision(2), vec![0; 5000].into());
        assert_eq!(heads.get(&name(0), &revision(1)), None, "what has changed does not stay");
        heads.retain(&HashSet::from([name(2), name(9)]));

        assert_eq!((heads.entries.len(), heads.bytes), (1, 250));
        heads.remove(&name(2));
        assert_eq!((heads.entries.len(), heads.bytes), (0, 0));
    }
}
