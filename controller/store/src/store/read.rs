//! Reading, listing, and the versions of a secret.

use futures::stream::{self, StreamExt};

use crate::backend::Backend;
use crate::head::{Head, HeadVersion};
use crate::path::SecretPath;
use crate::secret::Value;
use crate::store::{AccessError, Entry, ListError, Listing, ReadError, Secret, Store};

impl<B: Backend> Store<B> {
    /// The newest version of a secret, or the one that is asked for.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: no such secret or version, sealed, out of reach, or damaged; in all cases
    /// nothing of the value comes out.
    pub async fn read(&self, path: &SecretPath, version: Option<u64>) -> Result<Secret, ReadError> {
        let access = |source| ReadError::Access { path: path.clone(), source };
        let keys = self.keys().ok_or(ReadError::Sealed)?;
        let name = keys.keyring.head_name(path);

        // A head may have been left behind between the two requests, by a delete or a trim.
        let mut head = self.head(&keys, &name).await.map_err(access)?;
        for _ in 0..MAX_ATTEMPTS {
            let Some(known) = head else { break };
            let Some(entry) = known.head.find(version) else {
                return Err(match (version, known.head.live()) {
                    (Some(version), Some(_)) => {
                        ReadError::VersionNotFound { path: path.clone(), version }
                    }
                    _ => ReadError::NotFound { path: path.clone() },
                });
            };
            let object = &entry.object;
            if let Some(value) = self.version_value(&keys, object).await.map_err(access)? {
                return Ok(Secret {
                    meta: entry.meta.clone(),
                    value: Value::from(value),
                    version: entry.version,
                });
            }
            let newer = self.stored_head(&keys, &name).await.map_err(access)?;
            if newer.as_ref().is_some_and(|newer| newer.sequence == known.sequence) {
                return Err(access(AccessError::Missing { object: object.clone() }));
            }
            head = newer;
        }
        Err(ReadError::NotFound { path: path.clone() })
    }

    /// All secrets below a directory, or all there are: the newest version of each, ordered by path.
    ///
    /// A head that does not open hides one secret, perhaps of this directory, and not the others:
    /// it is named beside them.
    ///
    /// # Errors
    ///
    /// [`ListError`]: sealed, or out of reach.
    pub async fn list(&self, below: Option<&SecretPath>) -> Result<Listing, ListError> {
        self.list_with_progress(below, || {}).await
    }

    /// As [`Store::list`], calling `moves` when it begins and for each head of the store, also those
    /// of other directories: whoever waits sees that it goes on, however many there are.
    ///
    /// # Errors
    ///
    /// [`ListError`]: sealed, or out of reach.
    pub async fn list_with_progress(
        &self,
        below: Option<&SecretPath>,
        moves: impl Fn() + Send + Sync,
    ) -> Result<Listing, ListError> {
        let keys = self.keys().ok_or(ListError::Sealed)?;
        moves();
        let listed =
            self.backend.list(crate::name::ObjectKind::Head).await.map_err(AccessError::Backend)?;
        let mut heads = stream::iter(listed)
            .map(|head| self.listed_head(&keys, head))
            .buffer_unordered(REQUESTS_AT_ONCE);
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(head) = heads.next().await {
            moves();
            match head {
                Ok(known) => entries.extend(
                    known
                        .and_then(|known| newest(&known.head))
                        .filter(|entry| below.is_none_or(|folder| entry.path.is_below(folder))),
                ),
                Err(error) if error.record().is_some() => unreadable.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        drop(heads);
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        unreadable.sort_unstable_by(|a, b| a.record().cmp(&b.record()));
        Ok(Listing { entries, unreadable })
    }

    /// The versions of a secret that can be read, newest first.
    ///
    /// # Errors
    ///
    /// [`ReadError`], as for [`Store::read`].
    pub async fn versions(&self, path: &SecretPath) -> Result<Vec<Entry>, ReadError> {
        let keys = self.keys().ok_or(ReadError::Sealed)?;
        let known = self
            .head(&keys, &keys.keyring.head_name(path))
            .await
            .map_err(|source| ReadError::Access { path: path.clone(), source })?
            .filter(|known| known.head.live().is_some())
            .ok_or_else(|| ReadError::NotFound { path: path.clone() })?;
        Ok(known.head.versions.iter().map(|version| entry(path, version)).collect())
    }
}

fn newest(head: &Head) -> Option<Entry> {
    Some(entry(head.path.as_ref()?, head.live()?))
}

fn entry(path: &SecretPath, version: &HeadVersion) -> Entry {
    let meta = version.meta.clone();
    Entry {
        author: meta.author,
        content_type: meta.content_type,
        created: meta.created,
        path: path.clone(),
        version: version.version,
    }
}

/// How often a read starts again because the head moved under it. Each time a writer has finished,
/// and with ten versions kept, ten of them during one read.
const MAX_ATTEMPTS: u32 = 8;

/// How many heads a list asks for at once: enough to hide a millisecond of network, few enough not
/// to be taken for an attack by an API server.
const REQUESTS_AT_ONCE: usize = 16;
