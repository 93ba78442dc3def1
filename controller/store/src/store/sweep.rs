//! Sweeping: removing what crashes leave behind.
//!
//! What can be removed follows from numbers alone. A writer reads the head, makes the object of the
//! version after the newest, and changes the head if it is still the one that it read. So a head
//! that has come as far as an object's number, and does not name the object, will never name it:
//! whoever meant to has lost, or trimmed it, or deleted the secret. That holds of an old state of a
//! head as of the newest, and nothing has to be changed, or asked for again, to be sure of it.
//!
//! An object that is ahead of its head stays. It may be of a writer that is under way; or the head
//! was put back to an older state, past the store, and it is the newest value of a secret that
//! nobody has deleted. So it is with objects without a head, and with all of a path where one is
//! further ahead than writers go: there a younger head lies in the place of one that was removed.
//! (Where that had as few versions as the younger one has by now, nobody can tell, and its objects go: a
//! secret that was written again over the loss of its head.) What an interrupted write has left ahead
//! of its head is removed once the secret has been written again.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::backend::{Backend, Listed};
use crate::head::Head;
use crate::insist::insist;
use crate::name::{ObjectKind, ObjectName};
use crate::store::{Keys, Store, SweepError};

impl<B: Backend> Store<B> {
    /// Removes the objects that their head has passed and does not name, as crashes leave them;
    /// returns how many. It may run at any time, beside writers and other sweeps.
    ///
    /// # Errors
    ///
    /// [`SweepError`]; what was removed until then stays removed. A head that does not open is left
    /// as it is, with its objects, and named at the end; all others are swept.
    pub async fn sweep(&self) -> Result<usize, SweepError> {
        let keys = &self.keys().ok_or(SweepError::Sealed)?;
        // The heads come last: one that was made meanwhile has passed nothing that is listed.
        let mut versions: HashMap<ObjectName, Vec<ObjectName>> = HashMap::new();
        for object in insist(|| self.backend.list(ObjectKind::Version)).await? {
            versions.entry(object.name.head_of()).or_default().push(object.name);
        }
        let mut heads = insist(|| self.backend.list(ObjectKind::Head)).await?;
        heads.retain(|head| versions.contains_key(&head.name));

        let mut paths = stream::iter(heads)
            .map(|head| {
                let objects = versions.remove(&head.name).unwrap_or_default();
                insist(move || self.sweep_path(keys, head.clone(), objects.clone()))
            })
            .buffer_unordered(REQUESTS_AT_ONCE);
        let (mut removed, mut damaged) = (0, None);
        while let Some(path) = paths.next().await {
            match path {
                Ok(count) => removed += count,
                Err(SweepError::Access(error)) if error.record().is_some() => {
                    damaged.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match damaged {
            None => Ok(removed),
            Some(error) => Err(error.into()),
        }
    }

    async fn sweep_path(
        &self,
        keys: &Arc<Keys>,
        listed: Listed,
        objects: Vec<ObjectName>,
    ) -> Result<usize, SweepError> {
        let Some(known) = self.listed_head(keys, listed).await? else { return Ok(0) };
        let leftovers = leftovers(&known.head, objects);
        let count = leftovers.len();
        match self.remove_all(leftovers).await.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(count),
        }
    }
}

/// Those of a path's objects that its head has passed and does not name; none if there are some that
/// must be of another head.
fn leftovers(head: &Head, mut objects: Vec<ObjectName>) -> Vec<ObjectName> {
    if objects.iter().any(|object| object.version_number() > Some(head.newest + 1)) {
        return Vec::new();
    }
    objects.retain(|object| {
        let is_passed = object.version_number().is_some_and(|number| number <= head.newest);
        is_passed && head.versions.iter().all(|one| one.object != *object)
    });
    objects
}

/// How many paths are worked on at once.
const REQUESTS_AT_ONCE: usize = 8;
