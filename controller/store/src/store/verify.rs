//! Verifying: does every object open, and say what the others say of it?
//!
//! What comes out, one line per object, names no path and no value. It is what the comparison with
//! the audit log is made of: a whole older state put back opens everywhere, and shows only in heads
//! that are behind what was logged.

use futures::stream::{self, Stream, StreamExt};
use serde::Serialize;

use crate::backend::{Backend, Stored};
use crate::head::{Head, HeadVersion, VersionMetadata};
use crate::insist::insist;
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::record::{OpenError, Record};
use crate::seal::SealState;
use crate::store::{AccessError, Keys, Store, VerifyError};

impl<B: Backend> Store<B> {
    /// Checks every object: the keyring, the seal state, the uids of namespaces, all heads and the
    /// versions that they name. Values are opened, and thrown away. It may run beside writers.
    ///
    /// What is wrong with an object stands in its line. An error in the stream means that the back
    /// end or the keyring could not be reached; the stream is to be left then.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] when it cannot begin: sealed, or out of reach.
    pub async fn verify(
        &self,
    ) -> Result<impl Stream<Item = Result<Verified, AccessError>> + Send, VerifyError> {
        let keys = self.keys().ok_or(VerifyError::Sealed)?;
        // Another replica may have rotated or retired.
        let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
        let keys = self.adopt(keyring, &keys);
        let heads = insist(|| self.backend.list(ObjectKind::Head)).await;
        let heads = heads.map_err(AccessError::Backend)?;
        let first = Verified::good(ObjectName::keyring(), keys.keyring.generation());
        let others = [self.verify_seal_state().await?, self.verify_namespaces(&keys).await?];
        let begin = [Some(first)].into_iter().chain(others).flatten().map(Ok);
        let paths = stream::iter(heads)
            .map(move |head| {
                let keys = std::sync::Arc::clone(&keys);
                async move { insist(|| self.verify_path(&keys, head.name.clone())).await }
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .flat_map(|path| {
                stream::iter(match path {
                    Ok(objects) => objects.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                })
            });
        Ok(stream::iter(begin).chain(paths))
    }

    async fn verify_seal_state(&self) -> Result<Option<Verified>, AccessError> {
        let object = ObjectName::seal();
        let stored = self.backend.get(&object).await?;
        Ok(stored.map(|stored| match SealState::parse(&stored.bytes) {
            Ok(_) => Verified::good(object, 0),
            Err(error) => Verified::damaged(object, chain(&error)),
        }))
    }

    async fn verify_namespaces(&self, keys: &Keys) -> Result<Option<Verified>, AccessError> {
        let object = ObjectName::namespaces();
        let stored = self.backend.get(&object).await?;
        Ok(stored.map(|Stored { bytes, .. }| {
            let sequence = Record::parse(&bytes).map_err(OpenError::from).and_then(|record| {
                record.verify(&keys.keyring, &object)?;
                Ok(record.header().version)
            });
            match sequence {
                Ok(sequence) => Verified::good(object, sequence),
                Err(error) => Verified::damaged(object, chain(&error)),
            }
        }))
    }

    /// One line for a head, and one for each version that it names.
    async fn verify_path(
        &self,
        keys: &Keys,
        name: ObjectName,
    ) -> Result<Vec<Verified>, AccessError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let seen = self.lock_heads().seen(&name);
            let Some(stored) = self.backend.get(&name).await? else {
                return Ok(vec![Verified::damaged(name, "the record is missing".to_owned())]);
            };
            let opened = Record::parse(&stored.bytes).map_err(OpenError::from).and_then(|record| {
                record.verify(&keys.keyring, &name)?;
                Head::open(&stored.bytes, &keys.keyring, &name)
            });
            let (sequence, head) = match opened {
                Ok(opened) => opened,
                Err(error) => return Ok(vec![Verified::damaged(name, chain(&error))]),
            };
            let mut line = Verified {
                object: name.clone(),
                sequence,
                newest: head.newest,
                deleted: head.live().is_none(),
                damage: None,
            };
            if sequence < seen {
                line.damage = Some("the record was put back to an older state".to_owned());
            } else if head.path.as_ref().is_some_and(|path| keys.keyring.head_name(path) != name) {
                line.damage = Some("the record holds another path than its name".to_owned());
            }
            let mut lines = vec![line];
            for version in &head.versions {
                lines.push(self.verify_version(&keys.keyring, &head, version).await?);
            }
            // A version that is gone may have been trimmed or deleted while this was under way.
            let is_good = lines.iter().all(|line| line.damage.is_none());
            if is_good || attempt >= MAX_ATTEMPTS || !self.has_changed(&name, &stored).await? {
                return Ok(lines);
            }
        }
    }

    async fn verify_version(
        &self,
        keyring: &Keyring,
        head: &Head,
        version: &HeadVersion,
    ) -> Result<Verified, AccessError> {
        let object = &version.object;
        let damage = match self.backend.get(object).await? {
            None => Some("the record is missing".to_owned()),
            Some(stored) => check_version(&stored.bytes, keyring, head, version).err(),
        };
        Ok(Verified { damage, ..Verified::good(object.clone(), version.version) })
    }

    async fn has_changed(&self, name: &ObjectName, before: &Stored) -> Result<bool, AccessError> {
        let now = self.backend.get(name).await?;
        Ok(now.is_none_or(|now| now.revision != before.revision))
    }
}

/// Whether a version is the one that its head names.
fn check_version(
    bytes: &[u8],
    keyring: &Keyring,
    head: &Head,
    version: &HeadVersion,
) -> Result<(), String> {
    let record = Record::parse(bytes).map_err(|error| chain(&error))?;
    record.verify(keyring, &version.object).map_err(|error| chain(&error))?;
    let json = record.open_metadata(keyring, &version.object).map_err(|error| chain(&error))?;
    let metadata: VersionMetadata<'_> =
        serde_json::from_slice(&json).map_err(|_| "the metadata is not understood".to_owned())?;
    let same = record.header().version == version.version
        && head.path.as_ref() == Some(&*metadata.path)
        && metadata.meta == version.meta;
    if same { Ok(()) } else { Err("the record is not the one that its head names".to_owned()) }
}

/// An error with its causes; none of ours holds a value or a path.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What was found of an object.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Verified {
    /// The object.
    pub object: ObjectName,
    /// The sequence of a head, the number of a version, the generation of the keyring; 0 if it does
    /// not open.
    pub sequence: u64,
    /// Of a head: the highest version that there ever was. Of others: as `sequence`.
    pub newest: u64,
    /// Whether it is the tombstone of a secret that was deleted.
    pub deleted: bool,
    /// What is wrong with it, if anything.
    pub damage: Option<String>,
}

impl Verified {
    fn good(object: ObjectName, sequence: u64) -> Self {
        Self { object, sequence, newest: sequence, deleted: false, damage: None }
    }

    fn damaged(object: ObjectName, damage: String) -> Self {
        Self { damage: Some(damage), ..Self::good(object, 0) }
    }
}

/// How often a path that changes meanwhile is looked at again.
const MAX_ATTEMPTS: u32 = 8;

/// How many paths are looked at at once.
const REQUESTS_AT_ONCE: usize = 8;
