//! The store: secrets by path, sealed and unsealed, over any back end.
//!
//! # How a secret lies in the back end
//!
//! One *head* per path names the versions that there are; each version is an object of its own. A
//! version's object has a name that is used once ([`crate::name`]), so writers never collide on it,
//! and the head is changed by compare-and-swap only. Changing the head is therefore the one step
//! that decides, and everything follows from the order of the steps:
//!
//! | operation | steps | a crash in between leaves |
//! |---|---|---|
//! | write | 1. create the version's object 2. **change the head** 3. remove trimmed versions | after 1: an object that no head names, never readable; after 2: garbage that the head lists |
//! | delete | 1. **change the head to a tombstone** 2. remove the objects 3. empty the tombstone's list | after 1: a deleted secret whose objects the tombstone lists; the next write, delete or sweep removes them |
//! | read | 1. get the head 2. get the object that it names | nothing |
//! | roll back | 1. read the older version 2. as write | as write |
//! | initialise | create the keyring | nothing |
//! | rotate, rekey | change the keyring | nothing |
//! | rewrap | for each path: change the versions, then the head | some records of the older term, which still open; rewrapping again goes on |
//! | retire | 1. see that no record needs an older term 2. change the keyring | nothing |
//!
//! The other order, head first, could name an object that was never written; a list of objects
//! instead of a head could show an older version while a newer one is being removed.
//!
//! # Several replicas
//!
//! A read sees every write that any replica has acknowledged: it asks the back end for the head,
//! which for Kubernetes is a quorum read of a small object, and takes only the version's ciphertext
//! from its memory, which never changes. A back end that is alone with its data, as the file is, can
//! tell that a remembered head is current, and then the read touches memory only.
//!
//! Of several writers on one path one succeeds at a time; the others start again from the new head,
//! and so with their precondition.
//!
//! What is removed is decided by the head alone: what it lists as trimmed or deleted, and, by
//! [`Store::sweep`], what it has passed and does not name. An object that is ahead of its head, or
//! has none, stays: of a head that was put back or removed past the store it is the last copy of a
//! secret that nobody has deleted. A deletion leaves a tombstone, so only what was deleted, trimmed,
//! written over or never acknowledged is ever destroyed.
//!
//! The keyring is one object and changes by compare-and-swap as well, root key, shares and terms
//! together. Another replica goes on with the keyring that it has and asks for the newer one when it
//! meets a term that it does not know; why none of its writes is lost when a term ends, the module
//! `terms` says. After a rekeying its root key does not open that one ([`AccessError::Rekeyed`]), and it has
//! to be unsealed with the new one, which a peer can give it.
//!
//! # What is put back
//!
//! Every change of a head raises its sequence. A replica refuses a head, or a missing head, that is
//! behind what it has seen ([`AccessError::RolledBack`]), also across sealing and unsealing, and
//! likewise an older keyring. A replica that has just started cannot know; for that there is the
//! comparison of store and audit log.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::Backend;
use crate::cache::{Heads, Versions};
use crate::head::{ContentType, Meta};
use crate::keyring::Keyring;
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::secret::{MAX_VALUE_BYTES, Value};

use owners::Owners;

use self::turns::Turns;

pub use error::{
    AccessError, DeleteError, InitializeError, ListError, ReadError, RekeyError, RetireError,
    RewrapError, RotateError, SweepError, UnsealError, VerifyError, WriteError,
};
#[cfg(fuzzing)]
pub(crate) use owners::Uids;
pub use owners::{NamespaceError, Standing};
pub use rewrap::Rewrapped;
pub use sealing::Initialized;
pub use terms::Term;
pub use verify::Verified;

mod access;
mod error;
mod owners;
mod read;
mod rewrap;
mod sealing;
mod sweep;
mod terms;
mod turns;
mod verify;
mod write;

/// Secrets by path, over a back end; starts sealed.
///
/// All methods take `&self` and may run at the same time, here and in other replicas.
pub struct Store<B> {
    backend: B,
    config: Config,
    keep_versions: AtomicUsize,
    state: Mutex<State>,
    heads: Mutex<Heads>,
    versions: Mutex<Versions>,
    owners: Mutex<Owners>,
    turns: Turns,
}

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many bytes of ciphertext are kept in memory for hot reads.
    pub cache_bytes: usize,
    /// How many versions of a secret are kept, until [`Store::keep_versions`] says something else.
    pub keep_versions: NonZeroUsize,
    /// The largest value in bytes; at most [`MAX_VALUE_BYTES`], which a larger number means.
    pub max_value_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            keep_versions: NonZeroUsize::MIN.saturating_add(9),
            max_value_bytes: MAX_VALUE_BYTES,
        }
    }
}

/// What an unsealed store holds; dropped, and so wiped, when it is sealed and the last operation
/// that began before has ended.
struct Keys {
    root_key: Arc<RootKey>,
    keyring: Keyring,
}

struct State {
    /// `None` while sealed.
    keys: Option<Arc<Keys>>,
    /// The highest generation of the keyring seen so far; outlives sealing.
    generation: u64,
}

impl<B: Backend> Store<B> {
    /// A sealed store over `backend`.
    pub fn new(backend: B, config: Config) -> Self {
        Self {
            versions: Mutex::new(Versions::new(config.cache_bytes)),
            backend,
            keep_versions: AtomicUsize::new(config.keep_versions.get()),
            config,
            heads: Mutex::default(),
            owners: Mutex::default(),
            state: Mutex::new(State { keys: None, generation: 0 }),
            turns: Turns::default(),
        }
    }

    /// The back end.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Keeps so many versions of each secret that is written from now on.
    pub fn keep_versions(&self, count: NonZeroUsize) {
        self.keep_versions.store(count.get(), Ordering::Relaxed);
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A secret as it was read.
///
/// It has no `Debug`, because it holds the value.
pub struct Secret {
    /// What is known of it besides the value.
    pub meta: Meta,
    /// The value, byte for byte.
    pub value: Value,
    /// Its version, from 1.
    pub version: u64,
}

/// A version of a secret as it is listed, without its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Who wrote it.
    pub author: String,
    /// How the value was given.
    pub content_type: ContentType,
    /// When it was written, in seconds since 1970 UTC.
    pub created: i64,
    /// The path.
    pub path: SecretPath,
    /// Its version, from 1.
    pub version: u64,
}

/// What a list has found.
#[derive(Debug)]
pub struct Listing {
    /// The secrets, by path.
    pub entries: Vec<Entry>,
    /// Heads that do not open, or are older than what was seen: each may be that of a secret which
    /// belongs into the list. [`AccessError::record`] names them.
    pub unreadable: Vec<AccessError>,
}

impl Listing {
    /// The secrets, if these are all.
    ///
    /// # Errors
    ///
    /// [`ListError::Access`] with the first head that does not open.
    pub fn complete(self) -> Result<Vec<Entry>, ListError> {
        match self.unreadable.into_iter().next() {
            None => Ok(self.entries),
            Some(error) => Err(error.into()),
        }
    }
}

/// What must be true of a secret for a write to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// Nothing.
    Any,
    /// There is no such secret.
    Create,
    /// There is such a secret.
    Update,
    /// Its newest version is this one.
    Version(u64),
}

#[cfg(test)]
mod tests;
