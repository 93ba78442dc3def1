//! Whose secrets they are: the uid that a namespace had when secrets below its name came into use.
//!
//! Namespaces have names that come back: one that is deleted and made again has the name of the
//! first and another uid. Who owns secrets by the name of their namespace alone must not get those
//! of a predecessor, so the store remembers the uid, in one sealed object for all namespaces. The
//! caller says which uid is live and decides what a different one means; the store only promises
//! that what it has recorded is replaced by nobody who did not know it.
//!
//! The object is a record like a head, changed by compare-and-swap, and refused when it is behind
//! what this replica has seen. It is bounded: when it is full, namespaces without secrets leave.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, BackendError, Revision};
use crate::name::ObjectName;
use crate::path::SecretPath;
use crate::record::{self, Header, OpenError, Record, SealError};
use crate::store::{AccessError, Keys, ListError, Listing, ReadError, Store};

impl<B: Backend> Store<B> {
    /// How `uid`, which the namespace has now, stands to what is recorded of it.
    ///
    /// A uid that is recorded needs no question to the back end: as long as it is live, no other
    /// can have taken its place.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Sealed`] and [`NamespaceError::Access`].
    pub async fn standing(&self, namespace: &str, uid: &str) -> Result<Standing, NamespaceError> {
        let keys = self.keys().ok_or(NamespaceError::Sealed)?;
        if self.lock_owners().standing(namespace, uid) == Standing::Same {
            return Ok(Standing::Same);
        }
        let known = self.stored_owners(&keys).await?;
        Ok(known.map_or(Standing::First, |known| known.uids.standing(namespace, uid)))
    }

    /// Records that the namespace has this uid, if what is recorded is still what `standing` said.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Changed`] when it is not: whoever asked has to look again.
    pub async fn record_namespace(
        &self,
        namespace: &str,
        uid: &str,
        standing: &Standing,
    ) -> Result<(), NamespaceError> {
        if *standing == Standing::Same {
            return Ok(());
        }
        let name = ObjectName::namespaces();
        for _ in 0..MAX_ATTEMPTS {
            let keys = self.keys().ok_or(NamespaceError::Sealed)?;
            let known = self.stored_owners(&keys).await?;
            // What was read may have brought a newer term; where nothing is, nothing does.
            if known.is_none() {
                self.refresh().await?;
            }
            let keys = self.keys().ok_or(NamespaceError::Sealed)?;
            let mut uids = known.as_deref().map(|known| known.uids.clone()).unwrap_or_default();
            match uids.standing(namespace, uid) {
                Standing::Same => return Ok(()),
                found if found != *standing => return Err(NamespaceError::Changed),
                _ => {}
            }
            if uids.0.len() >= MAX_NAMESPACES && !uids.0.contains_key(namespace) {
                self.forget_unused(&mut uids).await?;
            }
            uids.0.insert(namespace.to_owned(), uid.to_owned());

            let sequence = known.as_deref().map_or(1, |known| known.sequence + 1);
            let json = serde_json::to_vec(&uids).map_err(|_| SealError::Metadata)?;
            let header = Header { name: name.clone(), version: sequence };
            let sealed = record::seal(&keys.keyring, &header, &json, &[])?;
            let stored = match &known {
                None => self.backend.create(&name, &sealed).await,
                Some(known) => self.backend.replace(&name, &sealed, &known.revision).await,
            };
            match stored {
                Ok(revision) => {
                    self.remember_owners(KnownOwners { sequence, revision, uids });
                    if known.is_none() {
                        self.confirm_term(&keys, &name).await?;
                    }
                    return Ok(());
                }
                Err(BackendError::Conflict { .. }) => {}
                Err(error) => return Err(AccessError::Backend(error).into()),
            }
        }
        Err(NamespaceError::Contended)
    }

    /// Whether there is any secret below a folder.
    ///
    /// # Errors
    ///
    /// As for [`Store::list`].
    pub async fn has_any_below(&self, folder: &SecretPath) -> Result<bool, ListError> {
        // Whoever is refused because of a secret may ask again and again: that one secret is
        // looked at then, and not all there are.
        let witness = self.lock_owners().witnesses.get(folder).cloned();
        if let Some(path) = witness {
            match self.versions(&path).await {
                Ok(_) => return Ok(true),
                Err(ReadError::Sealed) => return Err(ListError::Sealed),
                Err(ReadError::Access { source, .. }) => return Err(source.into()),
                Err(ReadError::NotFound { .. } | ReadError::VersionNotFound { .. }) => {}
            }
        }
        let mut listing = self.list(Some(folder)).await?;
        let found = match listing.entries.is_empty() {
            // A head that does not open may be that of a secret below the folder.
            true => listing.complete()?.pop(),
            false => Some(listing.entries.swap_remove(0)),
        };
        let state = self.lock_state();
        let mut owners = self.lock_owners();
        match &found {
            Some(entry) if state.keys.is_some() => {
                if owners.witnesses.len() >= MAX_NAMESPACES {
                    owners.witnesses.clear();
                }
                owners.witnesses.insert(folder.clone(), entry.path.clone());
            }
            _ => {
                owners.witnesses.remove(folder);
            }
        }
        Ok(found.is_some())
    }

    /// The object as the back end has it.
    async fn stored_owners(
        &self,
        keys: &Arc<Keys>,
    ) -> Result<Option<Arc<KnownOwners>>, AccessError> {
        let name = ObjectName::namespaces();
        // Before the request, as for heads: what comes back must not be behind it.
        let (seen, known) = {
            let owners = self.lock_owners();
            (owners.seen, owners.known.clone())
        };
        let Some(stored) = self.backend.get(&name).await? else {
            return match seen {
                0 => Ok(None),
                _ => Err(AccessError::RolledBack { object: name }),
            };
        };
        if let Some(known) = known.filter(|known| known.revision == stored.revision) {
            return Ok(Some(known));
        }
        let (sequence, uids) = self
            .opened(keys, &name, |keyring| {
                let record = Record::parse(&stored.bytes)?;
                let json = record.open_metadata(keyring, &name)?;
                let uids = Uids::parse(&json)?;
                Ok((record.header().version, uids))
            })
            .await?;
        if sequence < seen {
            return Err(AccessError::RolledBack { object: name });
        }
        let known = KnownOwners { sequence, revision: stored.revision, uids };
        Ok(Some(self.remember_owners(known)))
    }

    /// Keeps the object in memory, unless the store has been sealed meanwhile.
    fn remember_owners(&self, known: KnownOwners) -> Arc<KnownOwners> {
        let known = Arc::new(known);
        let state = self.lock_state();
        let mut owners = self.lock_owners();
        if state.keys.is_some() && known.sequence >= owners.seen {
            owners.seen = known.sequence;
            owners.known = Some(Arc::clone(&known));
        }
        known
    }

    /// Makes room: removes namespaces below whose name no secret lies.
    async fn forget_unused(&self, uids: &mut Uids) -> Result<(), NamespaceError> {
        let listing = self.list(None).await;
        // What cannot be read may lie in any of the namespaces.
        let entries = listing.and_then(Listing::complete).map_err(|error| match error {
            ListError::Access(source) => NamespaceError::Access(source),
            ListError::Sealed => NamespaceError::Sealed,
        })?;
        let used: BTreeSet<&str> = entries
            .iter()
            .filter_map(|entry| Some(entry.path.as_str().split_once('/')?.0))
            .collect();
        uids.0.retain(|namespace, _| used.contains(namespace.as_str()));
        if uids.0.len() < MAX_NAMESPACES { Ok(()) } else { Err(NamespaceError::Full) }
    }
}

/// How the uid of a namespace stands to what is recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// No uid is recorded.
    First,
    /// Another one is: the namespace was deleted and made again.
    Other {
        /// The one that is recorded.
        recorded: String,
    },
    /// This one is.
    Same,
}

/// Why the uid of a namespace could not be looked up or recorded.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// Something stored could not be reached.
    #[error("cannot look up the uids of namespaces")]
    Access(#[from] AccessError),
    /// Another uid was recorded since it was looked up.
    #[error("another uid was recorded at the same time")]
    Changed,
    /// Other writers were faster, again and again.
    #[error("the uids of namespaces are being written by too many at once")]
    Contended,
    /// There is no room for another namespace.
    #[error(
        "more than {MAX_NAMESPACES} namespaces without a Space have secrets; bind some by Spaces"
    )]
    Full,
    /// The record could not be sealed.
    #[error("cannot seal the uids of namespaces")]
    Seal(#[from] SealError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

/// What this replica knows of the object.
#[derive(Default)]
pub(super) struct Owners {
    /// The highest sequence seen so far; outlives sealing.
    seen: u64,
    known: Option<Arc<KnownOwners>>,
    /// For folders that were looked into: a secret that lay below.
    witnesses: HashMap<SecretPath, SecretPath>,
}

impl Owners {
    /// Forgets what is secret.
    pub(super) fn seal(&mut self) {
        self.known = None;
        self.witnesses = HashMap::new();
    }

    fn standing(&self, namespace: &str, uid: &str) -> Standing {
        self.known.as_ref().map_or(Standing::First, |known| known.uids.standing(namespace, uid))
    }
}

/// The object as it was opened.
struct KnownOwners {
    sequence: u64,
    revision: Revision,
    uids: Uids,
}

/// Namespace → uid.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Uids(BTreeMap<String, String>);

impl Uids {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, OpenError> {
        serde_json::from_slice(json)
            .map_err(|error| OpenError::Metadata { detail: error.to_string() })
    }

    fn standing(&self, namespace: &str, uid: &str) -> Standing {
        match self.0.get(namespace) {
            None => Standing::First,
            Some(recorded) if recorded == uid => Standing::Same,
            Some(recorded) => Standing::Other { recorded: recorded.clone() },
        }
    }
}

/// How often a change starts again because another writer was faster.
const MAX_ATTEMPTS: u32 = 64;

/// With the longest names and uids of 36 characters some 850 KB: less than a back end takes.
const MAX_NAMESPACES: usize = 8_000;

#[cfg(test)]
mod tests;
