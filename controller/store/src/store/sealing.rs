//! Initialising, unsealing, sealing and rekeying: what is done with the root key.

use std::future::ready;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::backend::{Backend, BackendError, Revision};
use crate::keyring::{Keyring, OpenKeyringError};
use crate::name::ObjectName;
use crate::root_key::RootKey;
use crate::seal::{Custody, SealState};
use crate::store::{AccessError, InitializeError, Keys, RekeyError, Store, UnsealError};

impl<B: Backend> Store<B> {
    /// Whether the back end holds a keyring.
    ///
    /// # Errors
    ///
    /// What the back end says.
    pub async fn is_initialized(&self) -> Result<bool, BackendError> {
        Ok(self.backend.get(&ObjectName::keyring()).await?.is_some())
    }

    /// Makes the keyring of a new store under `root_key`, whose shares are held as `custody` says,
    /// at `created` (seconds since 1970 UTC). The store stays sealed.
    ///
    /// One object is created and none is replaced, so of several replicas one wins, and there is no
    /// step in between to crash at. Whoever keeps the root key, or shares of it in the clear, must
    /// have kept them safely *before* this call: after it, losing the key is losing the store. With
    /// the same key it can be called again at any time.
    ///
    /// # Errors
    ///
    /// [`InitializeError::AlreadyInitialized`] when there is a keyring that this key does not open.
    pub async fn initialize(
        &self,
        root_key: &RootKey,
        custody: &Custody,
        created: i64,
    ) -> Result<Initialized, InitializeError> {
        let name = ObjectName::keyring();
        let sealed = Keyring::generate(created, custody)?.seal(root_key)?;
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

    /// Who holds the shares of the root key; `None` for a store that is not initialised. While the
    /// store is sealed nothing vouches for the answer but the back end.
    ///
    /// # Errors
    ///
    /// [`AccessError`] when the keyring is out of reach or damaged.
    pub async fn custody(&self) -> Result<Option<Custody>, AccessError> {
        if let Some(keys) = self.keys() {
            let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
            return Ok(Some(keyring.custody().clone()));
        }
        let Some(stored) = self.backend.get(&ObjectName::keyring()).await? else {
            return Ok(None);
        };
        let (custody, _) = Keyring::peek(&stored.bytes).map_err(AccessError::Keyring)?;
        Ok(Some(custody))
    }

    /// Unseals with the root key, which the store keeps until it is sealed. An unsealed store stays
    /// as it is if the key is wrong, and takes a newer key over after it was rekeyed elsewhere.
    ///
    /// # Errors
    ///
    /// [`UnsealError::WrongKey`] when the key does not open the keyring.
    pub async fn unseal(&self, root_key: RootKey) -> Result<(), UnsealError> {
        self.unseal_if(root_key, |_| ready(Ok(()))).await
    }

    /// The same, if the caller agrees that the keyring which the key opens is the right one. It is
    /// known by the seed of its audit log ([`Store::audit_seed`]), which stays with a store for ever.
    /// A back end can be made to hold another keyring, with shares for the same people; then the key
    /// that these bring opens it.
    ///
    /// # Errors
    ///
    /// As for [`Store::unseal`]; and what `agree` says: then everything is as before.
    pub async fn unseal_if<E: From<UnsealError>, F: Future<Output = Result<(), E>> + Send>(
        &self,
        root_key: RootKey,
        agree: impl FnOnce(Zeroizing<[u8; 32]>) -> F + Send,
    ) -> Result<(), E> {
        let keyring = self.keyring_for(&root_key).await?;
        agree(keyring.audit_seed()).await?;
        let mut state = self.lock_state();
        // Another call may have been faster, and have seen a newer keyring.
        if state.keys.is_none() || keyring.generation() >= state.generation {
            state.generation = state.generation.max(keyring.generation());
            state.keys = Some(Arc::new(Keys { root_key: Arc::new(root_key), keyring }));
        }
        Ok(())
    }

    /// The seed of the audit log of the store that this key opens, sealed or not.
    ///
    /// # Errors
    ///
    /// As for [`Store::unseal`].
    pub async fn audit_seed_of(
        &self,
        root_key: &RootKey,
    ) -> Result<Zeroizing<[u8; 32]>, UnsealError> {
        Ok(self.keyring_for(root_key).await?.audit_seed())
    }

    async fn keyring_for(&self, root_key: &RootKey) -> Result<Keyring, UnsealError> {
        let generation = self.lock_state().generation;
        let name = ObjectName::keyring();
        let stored = self.backend.get(&name).await?.ok_or(UnsealError::NotInitialized)?;
        let keyring = Keyring::open(&stored.bytes, root_key).map_err(|error| match error {
            OpenKeyringError::Decrypt => UnsealError::WrongKey,
            error => UnsealError::Damaged(error),
        })?;
        match keyring.generation() < generation {
            true => Err(UnsealError::RolledBack),
            false => Ok(keyring),
        }
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

    /// The root key, to be handed to another replica; `None` while sealed.
    pub fn root_key(&self) -> Option<Arc<RootKey>> {
        Some(Arc::clone(&self.keys()?.root_key))
    }

    /// The seed of the Ed25519 key that signs the checkpoints of the audit log; `None` while sealed.
    /// It is a key of its own, and stays the same when the store is rotated or rekeyed.
    pub fn audit_seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        Some(self.keys()?.keyring.audit_seed())
    }

    /// The keyed hash by which the audit log speaks of a path; `None` while sealed. Of a secret's path,
    /// without a leading slash, it is the name of its head; a folder's ends with a slash.
    pub fn keyed_hash(&self, path: &str) -> Option<String> {
        Some(self.keys()?.keyring.keyed_hash(path))
    }

    /// Looks whether another replica has changed the keyring, and takes it over; to be called from
    /// time to time, so that a rekeying is noticed before the key is needed.
    ///
    /// # Errors
    ///
    /// [`AccessError::Rekeyed`] when this replica's root key does not open it any more. While
    /// sealed there is nothing to look for.
    pub async fn refresh(&self) -> Result<(), AccessError> {
        let Some(keys) = self.keys() else { return Ok(()) };
        let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
        self.adopt(keyring, &keys);
        Ok(())
    }

    /// Puts the keyring under another root key, whose shares are held as `custody` says. No record
    /// changes and none is lost; the old shares no longer open the store.
    ///
    /// Whoever has the old shares *and* a copy of the keyring from before opens what was written
    /// until then. Where old shares may be in wrong hands, rotate and retire afterwards.
    ///
    /// # Errors
    ///
    /// [`RekeyError`]. All mean that the old shares are the valid ones, but for `Uncertain`.
    pub async fn rekey(&self, new: &RootKey, custody: &Custody) -> Result<(), RekeyError> {
        let keys = self.keys().ok_or(RekeyError::Sealed)?;
        let (mut keyring, revision) = self.stored_keyring(&keys.root_key).await?;
        keyring.entrust(custody);
        let sealed = keyring.seal(new)?;
        let name = ObjectName::keyring();
        match self.backend.replace(&name, &sealed, &revision).await {
            Ok(_) => {}
            // The answer may be lost, or be the second one to a request that was repeated.
            Err(error) => match self.backend.get(&name).await {
                Ok(Some(stored)) if Keyring::open(&stored.bytes, new).is_ok() => {}
                Ok(_) => return Err(AccessError::Backend(error).into()),
                Err(source) => return Err(RekeyError::Uncertain(source)),
            },
        }
        let root_key = Arc::new(new.copy());
        self.take_over(Keys { root_key, keyring });
        Ok(())
    }

    /// What the replicas agree on about being sealed, and what to hand to [`Store::set_seal_state`];
    /// `None` when nobody has said anything yet.
    ///
    /// # Errors
    ///
    /// [`AccessError`] when it is out of reach or damaged.
    pub async fn seal_state(&self) -> Result<Option<(SealState, Revision)>, AccessError> {
        let Some(stored) = self.backend.get(&ObjectName::seal()).await? else { return Ok(None) };
        let state = SealState::parse(&stored.bytes).map_err(AccessError::SealState)?;
        Ok(Some((state, stored.revision)))
    }

    /// Changes what the replicas agree on, if it is still what was read: `None` for nothing.
    ///
    /// # Errors
    ///
    /// [`AccessError::Backend`] with a conflict when another replica was faster.
    pub async fn set_seal_state(
        &self,
        state: &SealState,
        expected: Option<&Revision>,
    ) -> Result<Revision, AccessError> {
        let name = ObjectName::seal();
        let bytes = state.to_bytes().map_err(|error| AccessError::SealState(error.into()))?;
        Ok(match expected {
            None => self.backend.create(&name, &bytes).await?,
            Some(revision) => self.backend.replace(&name, &bytes, revision).await?,
        })
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
