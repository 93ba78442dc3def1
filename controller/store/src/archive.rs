//! Backups: all of a store in one file, as it lies in the back end. Nothing is opened on the way, so
//! a sealed store can be backed up too, and a backup is as useless without the shares as the back end
//! is. Its bytes are described where they are written, in `archive/format.rs`.
//!
//! **Writing** takes each secret as it is at one moment: a head and its versions are taken together,
//! and again if the head changed meanwhile. Writers may go on. Only the keyring must stay the same,
//! for a term that is destroyed meanwhile could be the one that opens what was taken before.
//!
//! **Reading** fills a back end that holds no keyring. The keyring is written last, once the whole
//! file has been seen and its checksum is right: whatever is wrong with the file, and whenever the
//! process ends, the store stays uninitialised until it is complete, and reading the file again
//! finishes it. A record that is there already is replaced, unless it is newer than the backup's.
//!
//! The seal state is not part of a backup: it belongs to replicas that run.

use std::collections::BTreeMap;

use futures::sink::{Sink, SinkExt};
use futures::stream::{self, Stream, StreamExt};

use crate::archive::format::{Decoder, Encoder, Object};
use crate::backend::{Backend, BackendError, Cause, Listed};
use crate::insist::insist;
use crate::name::{ObjectKind, ObjectName};
use crate::record::{Header, Reader};

pub use self::format::{ParseArchiveError, Summary};

mod format;

/// Writes a backup of what `backend` holds into `sink`, in pieces of an object or less, and flushes
/// it. Of a backup that ends with an error the end is missing, and nobody takes it for whole.
///
/// At most four secrets at a time are in memory, with all their versions.
///
/// # Errors
///
/// [`WriteArchiveError`]
pub async fn write<B, S>(backend: &B, sink: S) -> Result<Summary, WriteArchiveError>
where
    B: Backend,
    S: Sink<Vec<u8>, Error: Into<Cause>>,
{
    let mut sink = std::pin::pin!(sink.sink_map_err(|error| WriteArchiveError::Sink(error.into())));
    let keyring = ObjectName::keyring();
    let before = backend.get(&keyring).await?.ok_or(WriteArchiveError::NotInitialized)?;
    let (mut encoder, start) = Encoder::begin();
    sink.send(start).await?;

    let mut pending: Option<Vec<ObjectName>> = None;
    for _ in 0..MAX_ROUNDS {
        let secrets = secrets(backend, pending.as_deref()).await?;
        let mut changed = Vec::new();
        let mut taken = stream::iter(secrets)
            .map(
                |secret| async move { (insist(|| take(backend, &secret)).await, secret.head.name) },
            )
            .buffered(SECRETS_AT_ONCE);
        while let Some((objects, head)) = taken.next().await {
            match objects? {
                None => changed.push(head),
                Some(objects) => {
                    for object in objects {
                        sink.send(encoder.object(&object)?).await?;
                    }
                }
            }
        }
        drop(taken);
        pending = Some(changed);
        if pending.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    if let Some(object) = pending.into_iter().flatten().next() {
        return Err(WriteArchiveError::Contended { object });
    }

    let namespaces = ObjectName::namespaces();
    if let Some(stored) = insist(|| backend.get(&namespaces)).await? {
        let object = Object { name: namespaces, bytes: stored.bytes };
        sink.send(encoder.object(&object)?).await?;
    }
    let after = insist(|| backend.get(&keyring)).await?;
    if after.is_none_or(|after| after.revision != before.revision) {
        return Err(WriteArchiveError::KeyringChanged);
    }
    sink.send(encoder.object(&Object { name: keyring, bytes: before.bytes })?).await?;
    let (summary, end) = encoder.end();
    sink.send(end).await?;
    sink.flush().await?;
    Ok(summary)
}

/// Reads a backup into a back end without a keyring.
///
/// # Errors
///
/// [`ReadArchiveError`]. The store is uninitialised then, and reading a backup into it can be tried
/// again.
pub async fn read<B, T, E>(
    backend: &B,
    source: impl Stream<Item = Result<T, E>>,
) -> Result<Summary, ReadArchiveError>
where
    B: Backend,
    T: AsRef<[u8]>,
    E: Into<Cause>,
{
    if backend.get(&ObjectName::keyring()).await?.is_some() {
        return Err(ReadArchiveError::AlreadyInitialized);
    }
    let mut source = Source { stream: std::pin::pin!(source), decoder: Decoder::default() };
    let mut held: Option<Object> = None;
    let mut heads = 0_usize;
    while let Some(objects) = source.next().await? {
        let mut writes = Vec::new();
        for object in objects {
            match object.name.kind() {
                // The decoder lets nothing follow it but the end.
                ObjectKind::Keyring => {
                    held = Some(object);
                    continue;
                }
                ObjectKind::Head => heads += 1,
                _ => {}
            }
            writes.push(async move { insist(|| put(backend, &object)).await });
        }
        let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        while let Some(written) = writes.next().await {
            written?;
        }
    }
    let summary = source.decoder.finish()?;

    // Heads of another store could not be opened by this one, and would spoil its lists.
    let there = insist(|| backend.list(ObjectKind::Head)).await?.len();
    if there > heads {
        return Err(ReadArchiveError::Strangers { count: there - heads });
    }
    let keyring = held.ok_or(ParseArchiveError::NoKeyring)?;
    match backend.create(&keyring.name, &keyring.bytes).await {
        Ok(_) => Ok(summary),
        Err(BackendError::Conflict { .. }) => Err(ReadArchiveError::AlreadyInitialized),
        Err(error) => Err(error.into()),
    }
}

/// Checks a backup as far as that is possible without the shares, and writes nothing: that it is
/// whole, undamaged, and of a form that this release restores.
///
/// # Errors
///
/// [`ReadArchiveError::Parse`] and [`ReadArchiveError::Source`].
pub async fn check<T, E>(
    source: impl Stream<Item = Result<T, E>>,
) -> Result<Summary, ReadArchiveError>
where
    T: AsRef<[u8]>,
    E: Into<Cause>,
{
    let mut source = Source { stream: std::pin::pin!(source), decoder: Decoder::default() };
    while source.next().await?.is_some() {}
    Ok(source.decoder.finish()?)
}

/// A backup as it comes.
struct Source<S> {
    stream: S,
    decoder: Decoder,
}

impl<S, T, E> Source<S>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    T: AsRef<[u8]>,
    E: Into<Cause>,
{
    /// Some more objects; `None` when the source has ended.
    async fn next(&mut self) -> Result<Option<Vec<Object>>, ReadArchiveError> {
        let Some(chunk) = self.stream.next().await else { return Ok(None) };
        let chunk = chunk.map_err(|error| ReadArchiveError::Source(error.into()))?;
        let mut objects = Vec::new();
        // In pieces, so that the decoder never holds much more than an object.
        for piece in chunk.as_ref().chunks(PIECE_BYTES) {
            self.decoder.push(piece)?;
            while let Some(object) = self.decoder.next()? {
                objects.push(object);
            }
        }
        Ok(Some(objects))
    }
}

/// Stores one object of a backup.
async fn put<B: Backend>(backend: &B, object: &Object) -> Result<(), ReadArchiveError> {
    let Object { name, bytes } = object;
    match backend.create(name, bytes).await {
        Err(BackendError::Conflict { .. }) => {}
        result => return Ok(result.map(|_| ())?),
    }
    let Some(stored) = backend.get(name).await? else {
        return Err(BackendError::Conflict { name: name.clone() }.into());
    };
    if stored.bytes == *bytes {
        return Ok(());
    }
    // Left by a restore that did not come to its end; or the keyring of a store was lost, and what
    // was written after the backup is worth more than the backup.
    let sequence = |bytes: &[u8]| Header::read(&mut Reader(bytes)).ok().map(|h| h.version);
    if sequence(&stored.bytes) > sequence(bytes) {
        return Err(ReadArchiveError::Newer { object: name.clone() });
    }
    backend.replace(name, bytes, &stored.revision).await?;
    Ok(())
}

/// A head, and the names of the versions that may be its.
struct SecretNames {
    head: Listed,
    versions: Vec<ObjectName>,
}

/// All secrets, or those with these heads. Versions are listed after heads: of a head that has not
/// changed by the time it is taken, all versions are there.
async fn secrets<B: Backend>(
    backend: &B,
    only: Option<&[ObjectName]>,
) -> Result<Vec<SecretNames>, BackendError> {
    let heads = insist(|| backend.list(ObjectKind::Head)).await?;
    let mut versions: BTreeMap<ObjectName, Vec<ObjectName>> = BTreeMap::new();
    for Listed { name, .. } in insist(|| backend.list(ObjectKind::Version)).await? {
        versions.entry(name.head_of()).or_default().push(name);
    }
    Ok(heads
        .into_iter()
        .filter(|head| only.is_none_or(|only| only.contains(&head.name)))
        .map(|head| {
            let versions = versions.remove(&head.name).unwrap_or_default();
            SecretNames { head, versions }
        })
        .collect())
}

/// The objects of a secret as of one moment; `None` if its head has changed since it was listed.
async fn take<B: Backend>(
    backend: &B,
    secret: &SecretNames,
) -> Result<Option<Vec<Object>>, WriteArchiveError> {
    let mut objects = Vec::new();
    for name in &secret.versions {
        // What is no longer there was not a version any more when the head was listed.
        if let Some(stored) = backend.get(name).await? {
            objects.push(Object { name: name.clone(), bytes: stored.bytes });
        }
    }
    let Listed { name, revision } = &secret.head;
    Ok(match backend.get(name).await? {
        Some(stored) if stored.revision == *revision => {
            objects.push(Object { name: name.clone(), bytes: stored.bytes });
            Some(objects)
        }
        _ => None,
    })
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum WriteArchiveError {
    /// The back end did not do its part.
    #[error("the back end failed")]
    Backend(#[from] BackendError),
    /// A secret was changed each time that it was about to be taken.
    #[error("`{object}` is being written all the time: back up when there is less to do")]
    Contended {
        /// Its head.
        object: ObjectName,
    },
    /// The keyring is another one than at the beginning.
    #[error("the keyring was changed meanwhile, by a rotation or a rekeying: back up again")]
    KeyringChanged,
    /// There is no keyring.
    #[error("the store is not initialised: there is nothing to back up")]
    NotInitialized,
    /// An object could not be restored from the backup.
    #[error("a record is damaged, and could not be restored")]
    Record(#[from] ParseArchiveError),
    /// The backup could not be written.
    #[error("the backup cannot be written")]
    Sink(#[source] Cause),
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    /// There is a keyring.
    #[error("the store is already initialised: a backup can be restored into an empty store only")]
    AlreadyInitialized,
    /// The back end did not do its part.
    #[error("the back end failed")]
    Backend(#[from] BackendError),
    /// The back end holds a newer state of a record.
    #[error(
        "the back end has no keyring, but a newer `{object}` than the backup: it holds what is left of \
         a store, and restoring would lose changes; move its records away first"
    )]
    Newer {
        /// The record.
        object: ObjectName,
    },
    /// The file is not a backup, or is damaged.
    #[error("this cannot be restored")]
    Parse(#[from] ParseArchiveError),
    /// The file could not be read to its end.
    #[error("the backup cannot be read")]
    Source(#[source] Cause),
    /// The back end holds heads of another store.
    #[error(
        "the back end holds {count} secrets that are not of this backup: remove the records of that \
         other store first"
    )]
    Strangers {
        /// How many.
        count: usize,
    },
}

/// Each round takes what changed during the one before.
const MAX_ROUNDS: u32 = 32;

/// Ten versions of a megabyte each are forty megabytes.
const SECRETS_AT_ONCE: usize = 4;

const PIECE_BYTES: usize = 64 * 1024;

const WRITES_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests;
