//! Rewrapping: moving all live records to the newest term.
//!
//! A record is moved by wrapping the same data key anew ([`crate::record`]); neither of its
//! ciphertexts changes. Each record is moved by one compare-and-swap of its own, versions before the
//! head that names them, and each is as good before as after: it can stop anywhere, and starting
//! again moves what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt};
use serde::Serialize;

use crate::backend::{Backend, BackendError};
use crate::cache::KnownHead;
use crate::head::Head;
use crate::insist::insist;
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::record::{OpenError, Record};
use crate::store::{AccessError, Keys, RewrapError, Store};

impl<B: Backend> Store<B> {
    /// Moves every head, tombstones too, and every version to the newest term. `progress` is called
    /// after each path. It may run beside readers and writers, may be dropped at any time, and
    /// finds nothing left to do when it is called again.
    ///
    /// # Errors
    ///
    /// [`RewrapError`]. A record that stands in the way by itself ([`RewrapError::record`]) is left
    /// as it is, with what belongs to it, and named at the end; all others are moved.
    pub async fn rewrap(
        &self,
        progress: impl Fn(Rewrapped) + Send + Sync,
    ) -> Result<Rewrapped, RewrapError> {
        let keys = self.keys().ok_or(RewrapError::Sealed)?;
        // Another replica may have rotated.
        let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
        let keys = &self.adopt(keyring, &keys);
        let heads = insist(|| self.backend.list(ObjectKind::Head)).await;
        let heads = heads.map_err(AccessError::Backend)?;
        let total = heads.len() as u64 + 1;
        let (done, moved) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = || Rewrapped {
            done: done.load(Ordering::Relaxed),
            moved: moved.load(Ordering::Relaxed),
            total,
        };

        let names = heads.into_iter().map(|head| head.name).chain([ObjectName::namespaces()]);
        let mut paths = stream::iter(names)
            .map(|name| {
                insist(move || self.rewrap_path(&keys.keyring, &keys.keyring, name.clone()))
            })
            .buffer_unordered(REQUESTS_AT_ONCE);
        let mut left = None;
        while let Some(path) = paths.next().await {
            match path {
                Ok(records) => moved.fetch_add(records, Ordering::Relaxed),
                Err(error) if error.record().is_some() => {
                    left.get_or_insert(error);
                    0
                }
                Err(error) => return Err(error),
            };
            done.fetch_add(1, Ordering::Relaxed);
            progress(state());
        }
        match left {
            None => Ok(state()),
            Some(error) => Err(error),
        }
    }

    /// To be called when an object was made that had not been there, with the keys that it was
    /// sealed with: nothing else tells its writer that the term has changed meanwhile (see the
    /// module `terms`).
    pub(super) async fn confirm_term(
        &self,
        keys: &Arc<Keys>,
        name: &ObjectName,
    ) -> Result<(), AccessError> {
        let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
        if keyring.current_term() == keys.keyring.current_term() {
            return Ok(());
        }
        let newer = self.adopt(keyring, keys);
        match self.rewrap_path(&keys.keyring, &newer.keyring, name.clone()).await {
            Ok(_) => Ok(()),
            Err(RewrapError::Access(error)) => Err(error),
            Err(RewrapError::Contended { .. } | RewrapError::Sealed) => {
                Err(BackendError::Conflict { name: name.clone() }.into())
            }
        }
    }

    /// Moves a head and the versions that it names, and returns how many records that were. `from`
    /// opens them, and need not be as new as `to`.
    async fn rewrap_path(
        &self,
        from: &Keyring,
        to: &Keyring,
        name: ObjectName,
    ) -> Result<u64, RewrapError> {
        let mut moved = 0;
        for _ in 0..MAX_ATTEMPTS {
            let Some(stored) = self.backend.get(&name).await.map_err(AccessError::Backend)? else {
                return Ok(moved);
            };
            let damaged = |source| AccessError::Damaged { object: name.clone(), source };
            let rewrapped = rewrapped(&stored.bytes, from, to, &name).map_err(damaged)?;
            let head = match name.kind() {
                ObjectKind::Head => {
                    Some(open_head(&stored.bytes, from, to, &name).map_err(damaged)?)
                }
                _ => None,
            };
            if let Some((sequence, head)) = &head {
                if *sequence < self.lock_heads().seen(&name) {
                    return Err(AccessError::RolledBack { object: name }.into());
                }
                for version in &head.versions {
                    moved += u64::from(self.rewrap_version(from, to, &version.object).await?);
                }
            }
            // The head comes last: its change is what tells writers who know only older terms.
            let Some(bytes) = rewrapped else { return Ok(moved) };
            match self.backend.replace(&name, &bytes, &stored.revision).await {
                Ok(revision) => {
                    if let Some((sequence, head)) = head {
                        self.remember(&name, KnownHead { sequence, revision, head });
                    }
                    return Ok(moved + 1);
                }
                Err(BackendError::Conflict { .. }) => {}
                Err(error) => return Err(AccessError::Backend(error).into()),
            }
        }
        Err(RewrapError::Contended { object: name })
    }

    /// Moves one version; `false` if it was moved already, or is gone.
    async fn rewrap_version(
        &self,
        from: &Keyring,
        to: &Keyring,
        name: &ObjectName,
    ) -> Result<bool, RewrapError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(stored) = self.backend.get(name).await.map_err(AccessError::Backend)? else {
                return Ok(false);
            };
            let Some(bytes) = rewrapped(&stored.bytes, from, to, name)
                .map_err(|source| AccessError::Damaged { object: name.clone(), source })?
            else {
                return Ok(false);
            };
            match self.backend.replace(name, &bytes, &stored.revision).await {
                Ok(_) => {
                    // What is in memory is of the older term, and of no use once that is gone.
                    self.lock_versions().remove(name);
                    return Ok(true);
                }
                Err(BackendError::Conflict { .. }) => {}
                Err(error) => return Err(AccessError::Backend(error).into()),
            }
        }
        Err(RewrapError::Contended { object: name.clone() })
    }
}

/// The record under the newest term of `to`; `None` if it is already.
fn rewrapped(
    bytes: &[u8],
    from: &Keyring,
    to: &Keyring,
    name: &ObjectName,
) -> Result<Option<Vec<u8>>, OpenError> {
    let record = Record::parse(bytes)?;
    if record.term() == to.current_term() {
        return Ok(None);
    }
    record.rewrap(opener(&record, from, to), to, name).map(Some)
}

fn open_head(
    bytes: &[u8],
    from: &Keyring,
    to: &Keyring,
    name: &ObjectName,
) -> Result<(u64, Head), OpenError> {
    Head::open(bytes, opener(&Record::parse(bytes)?, from, to), name)
}

/// Which of the two opens the record: the newer one may lack its term, the older one too.
fn opener<'a>(record: &Record<'_>, from: &'a Keyring, to: &'a Keyring) -> &'a Keyring {
    if from.terms().any(|(term, _)| term == record.term()) { from } else { to }
}

/// How far rewrapping has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Rewrapped {
    /// How many paths were looked at, with all that belongs to them.
    pub done: u64,
    /// How many records were moved to the newest term.
    pub moved: u64,
    /// How many paths there are, one for the uids of namespaces among them.
    pub total: u64,
}

/// How often a record that somebody else changes is tried again.
const MAX_ATTEMPTS: u32 = 64;

/// How many paths are worked on at once.
const REQUESTS_AT_ONCE: usize = 8;
