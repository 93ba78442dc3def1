//! Writing and deleting.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt};

use crate::backend::{Backend, BackendError, Revision};
use crate::cache::KnownHead;
use crate::head::{About, Head, Meta, VersionMetadata};
use crate::name::ObjectName;
use crate::path::SecretPath;
use crate::random;
use crate::record::{self, Header, SealError};
use crate::secret::{MAX_VALUE_BYTES, Value};
use crate::store::turns::Turn;
use crate::store::{AccessError, DeleteError, Keys, Precondition, ReadError, Store, WriteError};

impl<B: Backend> Store<B> {
    /// Writes a new version of a secret and returns its number. When this returns, every replica
    /// reads it; versions beyond the number to keep are removed.
    ///
    /// Version numbers grow by one and are never used again, not even after a deletion.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. After `Access` the value may have been written; all other errors mean that it
    /// has not.
    pub async fn write(
        &self,
        path: &SecretPath,
        value: &Value,
        meta: &Meta,
        precondition: Precondition,
    ) -> Result<u64, WriteError> {
        self.write_if(path, value, meta, |head| check(path, head, precondition)).await
    }

    /// Makes an older version of a secret the newest, as a new version with the value and the kind
    /// of the old one, with what was said of it, and with author and time of `meta`; returns its
    /// number.
    ///
    /// # Errors
    ///
    /// [`WriteError`], as for [`Store::write`]; `VersionNotFound` when the version is not, or no
    /// longer, there.
    pub async fn roll_back(
        &self,
        path: &SecretPath,
        version: u64,
        meta: &Meta,
        precondition: Precondition,
    ) -> Result<u64, WriteError> {
        let gone = || WriteError::VersionNotFound { path: path.clone(), version };
        let old = self.read(path, Some(version)).await.map_err(|error| match error {
            ReadError::Access { path, source } => WriteError::Access { path, source },
            ReadError::NotFound { path } => WriteError::NotFound { path },
            ReadError::Sealed => WriteError::Sealed,
            ReadError::VersionNotFound { .. } => gone(),
        })?;
        // All of it, so that nothing of what the newest version says is kept.
        let About { description, labels } = old.meta.about.map(|about| *about).unwrap_or_default();
        let about = About {
            description: Some(description.unwrap_or_default()),
            labels: Some(labels.unwrap_or_default()),
        };
        let content_type = old.meta.content_type;
        let meta = Meta { about: Some(Box::new(about)), content_type, ..meta.clone() };
        self.write_if(path, &old.value, &meta, |head| {
            check(path, head, precondition)?;
            // It may have been deleted or trimmed since it was read, and must not come back.
            head.find(Some(version)).map(|_| ()).ok_or_else(|| match head.live() {
                Some(_) => gone(),
                None => WriteError::NotFound { path: path.clone() },
            })
        })
        .await
    }

    async fn write_if(
        &self,
        path: &SecretPath,
        value: &Value,
        meta: &Meta,
        check: impl Fn(&Head) -> Result<(), WriteError> + Send,
    ) -> Result<u64, WriteError> {
        let access = |source| WriteError::Access { path: path.clone(), source };
        let limit = self.config.max_value_bytes.min(MAX_VALUE_BYTES);
        if value.len() > limit {
            return Err(WriteError::TooLarge { bytes: value.len(), limit });
        }
        let name = self.keys().ok_or(WriteError::Sealed)?.keyring.head_name(path);
        let mut turn = self.turns.wait(&name).await;
        self.let_others_go(&turn, &name).await.map_err(|error| access(error.into()))?;

        let mut abandoned = Vec::new();
        let mut found = None;
        for _ in 0..MAX_ATTEMPTS {
            let keys = self.keys().ok_or(WriteError::Sealed)?;
            let known = match found.take() {
                Some(known) => known,
                None => self.stored_head(&keys, &name).await.map_err(access)?,
            };
            if known.is_none() {
                // No head tells of a newer term, and a new one of an older term helps nobody.
                self.refresh().await.map_err(access)?;
            }
            let keys = self.keys().ok_or(WriteError::Sealed)?;
            let (head, place) = split(known.as_deref());
            if let Err(error) = check(&head) {
                self.remove_all(abandoned).await;
                return Err(error);
            }

            let before = head.live().and_then(|live| live.meta.about.as_deref());
            let about = About::said(meta.about.as_deref(), before);
            let meta = &Meta { about, ..meta.clone() };

            // The version's object first: the head must never name what is not there.
            let version = head.newest + 1;
            let object = ObjectName::version(&name, version)
                .map_err(|error| WriteError::Seal { path: path.clone(), source: error.into() })?;
            let sealed = seal_version(&keys, &object, version, path, meta, value)
                .map_err(|source| WriteError::Seal { path: path.clone(), source })?;
            let mut garbage = head.garbage.clone();
            garbage.append(&mut abandoned);
            let (created, left) =
                futures::join!(self.backend.create(&object, &sealed), self.remove_all(garbage));
            match created {
                Ok(_) => {}
                Err(BackendError::Conflict { .. }) => continue,
                Err(error) => return Err(access(error.into())),
            }

            let keep = self.keep_versions.load(Ordering::Relaxed);
            let left = left.into_iter().map(|(object, _)| object).collect();
            let next = head.written(path, (version, object.clone()), meta.clone(), keep, left);
            match self.put_head(&keys, &name, next, place).await {
                Ok(stored) => {
                    self.lock_versions().insert(object, sealed.into());
                    // What cannot be removed now stands in the head and is removed another time.
                    self.remove_all(stored.head.garbage.clone()).await;
                    return Ok(version);
                }
                Err(PutHeadError::Seal(source)) => {
                    return Err(WriteError::SealHead { path: path.clone(), source });
                }
                Err(PutHeadError::Backend(BackendError::Conflict { .. })) => {
                    turn.contended();
                    // Usually another writer; but it may be this write's own answer that was lost
                    // and asked for again on the way.
                    let known = self.stored_head(&keys, &name).await.map_err(access)?;
                    if known.as_ref().is_some_and(|known| known.head.knows(&object)) {
                        self.confirm_term(&keys, &name).await.map_err(access)?;
                        return Ok(version);
                    }
                    // Without a detour: who starts again should be faster than who comes new.
                    abandoned.push(object);
                    found = Some(known);
                }
                Err(PutHeadError::Access(error)) => return Err(access(error)),
                // It may have happened: the object has to stay.
                Err(PutHeadError::Backend(error)) => return Err(access(error.into())),
            }
        }
        self.remove_all(abandoned).await;
        Err(WriteError::Contended { path: path.clone() })
    }

    /// Where the writer before met others, who are in other replicas, lets these go first now and
    /// then: for a few round trips to the back end, drawn by lot, so that no replica always loses.
    async fn let_others_go(&self, turn: &Turn, name: &ObjectName) -> Result<(), BackendError> {
        if turn.was_contended() {
            // Without randomness all are equally impatient.
            let [lot] = random::bytes().unwrap_or_default();
            for _ in 0..lot % MAX_WAIT {
                self.backend.get(name).await?;
            }
        }
        Ok(())
    }

    /// Deletes a secret with all its versions. When this returns, no replica reads it, and its
    /// objects are gone from the back end.
    ///
    /// # Errors
    ///
    /// [`DeleteError`]. After `Incomplete` the secret is deleted, but ciphertext is left.
    pub async fn delete(&self, path: &SecretPath) -> Result<(), DeleteError> {
        self.delete_if(path, None).await.map(drop)
    }

    /// Deletes a secret, as [`Store::delete`] does, if its newest version is `newest`; returns the
    /// newest version that there was.
    ///
    /// # Errors
    ///
    /// [`DeleteError`]; `Changed` when another version is the newest.
    pub async fn delete_if(
        &self,
        path: &SecretPath,
        newest: Option<u64>,
    ) -> Result<u64, DeleteError> {
        let access = |source| DeleteError::Access { path: path.clone(), source };
        let seal = |source| DeleteError::SealHead { path: path.clone(), source };
        let name = self.keys().ok_or(DeleteError::Sealed)?.keyring.head_name(path);
        let _turn = self.turns.wait(&name).await;

        for _ in 0..MAX_ATTEMPTS {
            let keys = self.keys().ok_or(DeleteError::Sealed)?;
            let known = self.stored_head(&keys, &name).await.map_err(access)?;
            let Some(known) = known else {
                return Err(DeleteError::NotFound { path: path.clone() });
            };
            let keys = self.keys().ok_or(DeleteError::Sealed)?;
            let tombstone = if let Some(live) = known.head.live() {
                if newest.is_some_and(|newest| newest != live.version) {
                    return Err(DeleteError::Changed { path: path.clone(), newest: live.version });
                }
                let (head, place) = split(Some(&known));
                match self.put_head(&keys, &name, head.deleted(), place).await {
                    Ok(stored) => stored,
                    Err(PutHeadError::Backend(BackendError::Conflict { .. })) => continue,
                    Err(PutHeadError::Backend(error)) => return Err(access(error.into())),
                    Err(PutHeadError::Access(error)) => return Err(access(error)),
                    Err(PutHeadError::Seal(source)) => return Err(seal(source)),
                }
            } else if known.head.garbage.is_empty() {
                return Err(DeleteError::NotFound { path: path.clone() });
            } else {
                // An earlier deletion did not come to its end.
                known
            };

            if let Some((_, source)) =
                self.remove_all(tombstone.head.garbage.clone()).await.into_iter().next()
            {
                return Err(DeleteError::Incomplete { path: path.clone(), source });
            }
            let (mut head, place) = split(Some(&tombstone));
            let newest = head.newest;
            head.garbage.clear();
            // Only tidiness: whoever changed the head meanwhile takes the list over.
            return match self.put_head(&keys, &name, head, place).await {
                Ok(_) | Err(PutHeadError::Access(_) | PutHeadError::Backend(_)) => Ok(newest),
                Err(PutHeadError::Seal(source)) => Err(seal(source)),
            };
        }
        Err(DeleteError::Contended { path: path.clone() })
    }

    /// Puts `head` in the place of the one that was read, with the next sequence. `keys` have to be
    /// as new as the head that was read: it may have brought a newer term.
    async fn put_head(
        &self,
        keys: &Arc<Keys>,
        name: &ObjectName,
        head: Head,
        place: Place,
    ) -> Result<Arc<KnownHead>, PutHeadError> {
        let (sequence, revision) = match place {
            Place::New => (1, None),
            Place::Replace { sequence, revision } => (sequence + 1, Some(revision)),
        };
        let sealed = head.seal(&keys.keyring, name, sequence).map_err(PutHeadError::Seal)?;
        let is_new = revision.is_none();
        let stored = match revision {
            None => self.backend.create(name, &sealed).await,
            Some(revision) => self.backend.replace(name, &sealed, &revision).await,
        };
        let revision = stored.map_err(PutHeadError::Backend)?;
        let known = self.remember(name, KnownHead { sequence, revision, head });
        if is_new {
            self.confirm_term(keys, name).await.map_err(PutHeadError::Access)?;
        }
        Ok(known)
    }

    /// Removes objects that no head names as versions; returns those that could not be.
    pub(super) async fn remove_all(
        &self,
        objects: Vec<ObjectName>,
    ) -> Vec<(ObjectName, BackendError)> {
        stream::iter(objects)
            .map(|object| async move {
                self.lock_versions().remove(&object);
                let error = self.backend.delete(&object, None).await.err()?;
                Some((object, error))
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .filter_map(|failed| async { failed })
            .collect()
            .await
    }
}

/// Where a head goes.
enum Place {
    New,
    Replace { sequence: u64, revision: Revision },
}

/// A head to change, and where the changed one goes.
fn split(known: Option<&KnownHead>) -> (Head, Place) {
    match known {
        None => (Head::default(), Place::New),
        Some(KnownHead { sequence, revision, head }) => {
            (head.clone(), Place::Replace { sequence: *sequence, revision: revision.clone() })
        }
    }
}

fn check(path: &SecretPath, head: &Head, precondition: Precondition) -> Result<(), WriteError> {
    let newest = head.live().map(|entry| entry.version);
    match (precondition, newest) {
        (Precondition::Any, _) | (Precondition::Create, None) | (Precondition::Update, Some(_)) => {
            Ok(())
        }
        (Precondition::Create, Some(_)) => Err(WriteError::Exists { path: path.clone() }),
        (Precondition::Update | Precondition::Version(_), None) => {
            Err(WriteError::NotFound { path: path.clone() })
        }
        (Precondition::Version(version), Some(newest)) if version == newest => Ok(()),
        (Precondition::Version(_), Some(newest)) => {
            Err(WriteError::Changed { path: path.clone(), newest })
        }
    }
}

fn seal_version(
    keys: &Keys,
    object: &ObjectName,
    version: u64,
    path: &SecretPath,
    meta: &Meta,
    value: &Value,
) -> Result<Vec<u8>, SealError> {
    let metadata = VersionMetadata { path: Cow::Borrowed(path), meta: meta.clone() };
    let json = serde_json::to_vec(&metadata).map_err(|_| SealError::Metadata)?;
    let header = Header { name: object.clone(), version };
    record::seal(&keys.keyring, &header, &json, value.expose_secret())
}

/// Why a head could not be put.
enum PutHeadError {
    /// It was put, and cannot be brought to the newest term.
    Access(AccessError),
    Backend(BackendError),
    Seal(crate::head::SealHeadError),
}

/// How often a write starts again because another writer was faster. Each time one of them has
/// finished, so this is how many may stand in line.
const MAX_ATTEMPTS: u32 = 64;

/// One more than the round trips that a writer may let others go first.
const MAX_WAIT: u8 = 6;

/// How many objects are removed at once.
const REQUESTS_AT_ONCE: usize = 8;
