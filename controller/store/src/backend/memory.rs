//! A back end that forgets, for tests: exact, and able to fail at any step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

/// Objects in memory. Clones share them, as replicas share a cluster.
#[derive(Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<ObjectName, (u64, Vec<u8>)>,
    revision: u64,
    /// How many changes still succeed, and how the one after them fails.
    failure: Option<(u64, Failure)>,
    changes: u64,
    calls: u64,
    /// Of how many calls one gets no answer.
    unanswered: Option<u64>,
}

/// How a change fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The change happened, and the answer is lost.
    After,
    /// The change did not happen.
    Before,
}

impl MemoryBackend {
    /// Lets `changes` more changes succeed and all further ones fail, the first of them in this
    /// way, the others before they happen: the end of a process as its objects see it.
    pub fn fail_after(&self, changes: u64, failure: Failure) {
        self.lock().failure = Some((changes, failure));
    }

    /// Does all that is asked, and leaves from now on every so many-th call without an answer, whatever it asks.
    pub fn leave_unanswered(&self, every: u64) {
        let mut inner = self.lock();
        (inner.calls, inner.unanswered) = (0, Some(every));
    }

    /// Lets everything succeed again.
    pub fn heal(&self) {
        let mut inner = self.lock();
        (inner.failure, inner.unanswered) = (None, None);
    }

    /// How many changes were asked for.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// All objects: what someone with access to the back end can see.
    pub fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        self.lock().objects.iter().map(|(name, (_, bytes))| (name.clone(), bytes.clone())).collect()
    }

    /// Writes an object past the store, as someone with access to the back end can.
    pub fn tamper(&self, name: &ObjectName, bytes: Option<Vec<u8>>) {
        let mut inner = self.lock();
        inner.revision += 1;
        let revision = inner.revision;
        match bytes {
            None => inner.objects.remove(name),
            Some(bytes) => inner.objects.insert(name.clone(), (revision, bytes)),
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T>(&self, operation: &'static str, answer: T) -> Result<T, BackendError> {
        let mut inner = self.lock();
        inner.calls += 1;
        match inner.unanswered.is_some_and(|every| inner.calls.is_multiple_of(every)) {
            true => Err(unanswered(operation)),
            false => Ok(answer),
        }
    }

    fn change(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut Inner, u64) -> Result<(), BackendError>,
    ) -> Result<Revision, BackendError> {
        let mut inner = self.lock();
        inner.changes += 1;
        let fails = match inner.failure.as_mut() {
            Some((0, failure)) => Some(std::mem::replace(failure, Failure::Before)),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if fails == Some(Failure::Before) {
            return Err(unanswered(operation));
        }
        inner.revision += 1;
        let revision = inner.revision;
        change(&mut inner, revision)?;
        if fails == Some(Failure::After) {
            return Err(unanswered(operation));
        }
        drop(inner);
        self.answer(operation, Revision(revision.to_string().into()))
    }
}

fn unanswered(operation: &'static str) -> BackendError {
    BackendError::Unavailable { operation, source: "as the test asked".into() }
}

impl Backend for MemoryBackend {
    fn is_current(&self, _name: &ObjectName, _revision: &Revision) -> bool {
        false
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        let stored = self.lock().objects.get(name).map(|(revision, bytes)| Stored {
            bytes: bytes.clone(),
            revision: Revision(revision.to_string().into()),
        });
        self.answer("get", stored)
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        self.change("create", |inner, revision| {
            if inner.objects.contains_key(name) {
                return Err(BackendError::Conflict { name: name.clone() });
            }
            inner.objects.insert(name.clone(), (revision, bytes.to_vec()));
            Ok(())
        })
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        expected: &Revision,
    ) -> Result<Revision, BackendError> {
        self.change("replace", |inner, revision| match inner.objects.get_mut(name) {
            Some(object) if object.0.to_string() == *expected.0 => {
                *object = (revision, bytes.to_vec());
                Ok(())
            }
            _ => Err(BackendError::Conflict { name: name.clone() }),
        })
    }

    async fn delete(
        &self,
        name: &ObjectName,
        expected: Option<&Revision>,
    ) -> Result<(), BackendError> {
        self.change("delete", |inner, _| {
            let changed = |revision: &u64| expected.is_some_and(|e| *e.0 != *revision.to_string());
            if inner.objects.get(name).is_some_and(|(revision, _)| changed(revision)) {
                return Err(BackendError::Conflict { name: name.clone() });
            }
            inner.objects.remove(name);
            Ok(())
        })
        .map(|_| ())
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        let listed = self
            .lock()
            .objects
            .iter()
            .filter(|(name, _)| name.kind() == kind)
            .map(|(name, (revision, _))| Listed {
                name: name.clone(),
                revision: Revision(revision.to_string().into()),
            })
            .collect();
        self.answer("list", listed)
    }
}
