//! Moving a store from one back end to another. Sealed values stay sealed, and the shares stay what
//! they are.
//!
//! Nobody may write meanwhile: stop the replicas first. That is checked, by comparing what there was
//! before with what there is afterwards, revision by revision. The keyring is copied last, when
//! everything else has been read back and found equal: whenever the process ends, the destination
//! stays uninitialised until it is complete, and copying again finishes it. The source is never
//! changed.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};

use crate::backend::{Backend, BackendError, Revision};
use crate::insist::insist;
use crate::name::{ObjectKind, ObjectName};

/// Copies the store in `from` to `to`, which holds none, and tells `progress` after each object.
///
/// # Errors
///
/// [`MigrateError`]. The destination is uninitialised then, unless it was initialised before.
pub async fn copy<A: Backend, B: Backend>(
    from: &A,
    to: &B,
    progress: impl Fn(Progress),
) -> Result<Progress, MigrateError> {
    let keyring = ObjectName::keyring();
    let source_keyring = from.get(&keyring).await.map_err(MigrateError::Source)?;
    let source_keyring = source_keyring.ok_or(MigrateError::NotInitialized)?;
    if let Some(stored) = to.get(&keyring).await.map_err(MigrateError::Destination)? {
        return Err(match stored.bytes == source_keyring.bytes {
            true => MigrateError::Done,
            false => MigrateError::Occupied,
        });
    }

    let before = objects(from).await.map_err(MigrateError::Source)?;
    let mut there = objects(to).await.map_err(MigrateError::Destination)?;
    there.retain(|name, _| !before.contains_key(name));
    // What an earlier attempt copied and the source has removed since can go. Anything else belongs
    // to another store: names of one store say nothing to another.
    if there
        .keys()
        .any(|name| name.kind() == ObjectKind::Head || !before.contains_key(&name.head_of()))
    {
        return Err(MigrateError::Occupied);
    }
    for name in there.keys() {
        insist(|| to.delete(name, None)).await.map_err(MigrateError::Destination)?;
    }

    let mut done = Progress { done: 0, total: before.len() + 1 };
    progress(done);
    let mut copies = stream::iter(&before)
        .map(|(name, revision)| insist(move || copy_object(from, to, name, revision)))
        .buffer_unordered(COPIES_AT_ONCE);
    while let Some(result) = copies.next().await {
        result?;
        done.done += 1;
        progress(done);
    }
    drop(copies);

    let after = objects(from).await.map_err(MigrateError::Source)?;
    if let Some((name, _)) = before.iter().find(|(name, at)| after.get(*name) != Some(at)) {
        return Err(MigrateError::Busy { object: name.clone() });
    }
    if let Some(name) = after.into_keys().find(|name| !before.contains_key(name)) {
        return Err(MigrateError::Busy { object: name });
    }
    insist(|| copy_object(from, to, &keyring, &source_keyring.revision)).await?;
    done.done += 1;
    progress(done);
    Ok(done)
}

/// How far a migration has come, in objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// How many are at the destination, and were read back.
    pub done: usize,
    /// How many there are.
    pub total: usize,
}

/// Copies one object and reads it back.
async fn copy_object<A: Backend, B: Backend>(
    from: &A,
    to: &B,
    name: &ObjectName,
    revision: &Revision,
) -> Result<(), MigrateError> {
    let source = from.get(name).await.map_err(MigrateError::Source)?;
    let Some(source) = source.filter(|source| source.revision == *revision) else {
        return Err(MigrateError::Busy { object: name.clone() });
    };
    let written = match to.get(name).await.map_err(MigrateError::Destination)? {
        Some(there) if there.bytes == source.bytes => return Ok(()),
        // An earlier attempt copied an earlier state. A keyring is never replaced.
        Some(_) if name.kind() == ObjectKind::Keyring => return Err(MigrateError::Occupied),
        Some(there) => to.replace(name, &source.bytes, &there.revision).await,
        None => to.create(name, &source.bytes).await,
    };
    written.map_err(MigrateError::Destination)?;
    match to.get(name).await.map_err(MigrateError::Destination)? {
        Some(there) if there.bytes == source.bytes => Ok(()),
        _ => Err(MigrateError::Differs { object: name.clone() }),
    }
}

/// All objects but the keyring, with their revisions.
async fn objects<B: Backend>(backend: &B) -> Result<BTreeMap<ObjectName, Revision>, BackendError> {
    let mut objects = BTreeMap::new();
    for kind in [ObjectKind::Version, ObjectKind::Head, ObjectKind::Namespaces, ObjectKind::Seal] {
        let listed = insist(|| backend.list(kind)).await?;
        objects.extend(listed.into_iter().map(|object| (object.name, object.revision)));
    }
    Ok(objects)
}

/// Why a store was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The source changed.
    #[error("`{object}` was written meanwhile: stop all replicas of the store, then migrate again")]
    Busy {
        /// What changed.
        object: ObjectName,
    },
    /// The destination did not do its part.
    #[error("the destination failed")]
    Destination(#[source] BackendError),
    /// What was read back is not what was written.
    #[error("the destination does not give `{object}` back as it was written")]
    Differs {
        /// The object.
        object: ObjectName,
    },
    /// The destination holds this store.
    #[error("the destination holds this store already: it has been migrated")]
    Done,
    /// There is no keyring.
    #[error("the source holds no store: it is not initialised")]
    NotInitialized,
    /// The destination holds another store.
    #[error("the destination holds another store, or the rest of one: choose an empty place")]
    Occupied,
    /// The source did not do its part.
    #[error("the source failed")]
    Source(#[source] BackendError),
}

/// Eight records of a megabyte at most are in memory.
const COPIES_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests;
