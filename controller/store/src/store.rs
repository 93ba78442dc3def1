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
//!
//! The other order, head first, could name an object that was never written; a list of objects
//! instead of a head could show an older version while a newer one is being removed.
//!
//! # Several replicas
//!
//! A read sees every write that any replica has acknowledged: it asks the back end for the head,
//! which for Kubernetes is a quorum read of a small object, and takes only the version's ciphertext
//! from its memory, which never changes. A back end that is alone with its data, as the file is, can
//! tell that a remembered head is current, and then the read touches memory only. Of several writers on one path one succeeds at a time; the others start again from the
//! new head, and so with their precondition. An object without a head may belong to a writer that
//! is under way, so [`Store::sweep`] changes the head, even if only its sequence, before it removes
//! the object: that writer then fails at its second step and starts again with a new object.
//!
//! # What is put back
//!
//! Every change of a head raises its sequence. A replica refuses a head, or a missing head, that is
//! behind what it has seen ([`AccessError::RolledBack`]), also across sealing and unsealing, and
//! likewise an older keyring. A replica that has just started cannot know; for that there is the
//! comparison of store and audit log.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendError};
use crate::cache::{Heads, Versions};
use crate::head::{ContentType, Meta};
use crate::keyring::{Keyring, OpenKeyringError};
use crate::name::ObjectName;
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::secret::{MAX_VALUE_BYTES, Value};

use owners::Owners;

pub use error::{
    AccessError, DeleteError, InitializeError, ListError, ReadError, RotateError, SweepError,
    UnsealError, WriteError,
};
pub use owners::{NamespaceError, Standing};

mod access;
mod error;
mod owners;
mod read;
mod write;

/// Secrets by path, over a back end; starts sealed.
///
/// All methods take `&self` and may run at the same time, here and in other replicas.
pub struct Store<B> {
    backend: B,
    config: Config,
    state: Mutex<State>,
    heads: Mutex<Heads>,
    versions: Mutex<Versions>,
    owners: Mutex<Owners>,
}

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many bytes of ciphertext are kept in memory for hot reads.
    pub cache_bytes: usize,
    /// How many versions of a secret are kept.
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
            config,
            heads: Mutex::default(),
            owners: Mutex::default(),
            state: Mutex::new(State { keys: None, generation: 0 }),
        }
    }

    /// The back end.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether the back end holds a keyring.
    ///
    /// # Errors
    ///
    /// What the back end says.
    pub async fn is_initialized(&self) -> Result<bool, BackendError> {
        Ok(self.backend.get(&ObjectName::keyring()).await?.is_some())
    }

    /// Makes the keyring of a new store under `root_key`, at `created` (seconds since 1970 UTC).
    /// The store stays sealed.
    ///
    /// One object is created and none is replaced, so of several replicas one wins, and there is no
    /// step in between to crash at. Whoever keeps the root key, or shares of it, must have kept it
    /// safely *before* this call: after it, losing the key is losing the store. With the same key it
    /// can be called again at any time.
    ///
    /// # Errors
    ///
    /// [`InitializeError::AlreadyInitialized`] when there is a keyring that this key does not open.
    pub async fn initialize(
        &self,
        root_key: &RootKey,
        created: i64,
    ) -> Result<Initialized, InitializeError> {
        let name = ObjectName::keyring();
        let sealed = Keyring::generate(created)?.seal(root_key)?;
        match self.backend.create(&name, &sealed).await {
            Ok(_) => return Ok(Initialized::Now),
            Err(BackendError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let stored = self.backend.get(&name).await?;
        match stored.map(|stored| Keyring::open(&stored.bytes, root_key)) {
            Some(Ok(_)) => Ok(Initialized::Before),
            Some(Err(_)) => Err(InitializeError::AlreadyInitialized),
            None => Err(BackendError::Conflict { name }.into()),
        }
    }

    /// Unseals with the root key, which the store keeps until it is sealed. An unsealed store stays
    /// as it is if the key is wrong.
    ///
    /// # Errors
    ///
    /// [`UnsealError::WrongKey`] when the key does not open the keyring.
    pub async fn unseal(&self, root_key: RootKey) -> Result<(), UnsealError> {
        let generation = self.lock_state().generation;
        let name = ObjectName::keyring();
        let stored = self.backend.get(&name).await?.ok_or(UnsealError::NotInitialized)?;
        let keyring = Keyring::open(&stored.bytes, &root_key).map_err(|error| match error {
            OpenKeyringError::Decrypt => UnsealError::WrongKey,
            error => UnsealError::Damaged(error),
        })?;
        if keyring.generation() < generation {
            return Err(UnsealError::RolledBack);
        }
        let mut state = self.lock_state();
        // Another call may have been faster, and have seen a newer keyring.
        if state.keys.is_none() || keyring.generation() >= state.generation {
            state.generation = state.generation.max(keyring.generation());
            state.keys = Some(Arc::new(Keys { root_key: Arc::new(root_key), keyring }));
        }
        Ok(())
    }

    /// Seals: drops the keys and everything that was opened with them. Operations that began before
    /// end as if they had come first; from now on all others refuse.
    pub fn seal(&self) {
        self.lock_state().keys = None;
        self.lock_heads().seal();
        self.lock_versions().clear();
        self.lock_owners().seal();
    }

    /// Whether the store is sealed.
    pub fn is_sealed(&self) -> bool {
        self.lock_state().keys.is_none()
    }

    /// Adds a term to the keyring, at `created` (seconds since 1970 UTC), and returns its number.
    /// What is written from now on uses it, and other replicas learn of it when they meet such a
    /// record; older records still open.
    ///
    /// # Errors
    ///
    /// [`RotateError::Sealed`] while sealed; [`RotateError::Access`] with a conflict when another
    /// replica rotated at the same time.
    pub async fn rotate(&self, created: i64) -> Result<u32, RotateError> {
        let keys = self.keys().ok_or(RotateError::Sealed)?;
        let (mut keyring, revision) = self.stored_keyring(&keys.root_key).await?;
        let term = keyring.rotate(created)?;
        let sealed = keyring.seal(&keys.root_key)?;
        self.backend
            .replace(&ObjectName::keyring(), &sealed, &revision)
            .await
            .map_err(AccessError::Backend)?;
        self.adopt(keyring, &keys);
        Ok(term)
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

/// Who initialised the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Initialized {
    /// It had been, with the same root key.
    Before,
    /// This call.
    Now,
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
