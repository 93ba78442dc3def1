//! How the store reaches what is stored: keys, heads, and the bytes of versions.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::backend::{Backend, Listed, Revision};
use crate::cache::KnownHead;
use crate::head::Head;
use crate::keyring::{Keyring, OpenKeyringError};
use crate::name::ObjectName;
use crate::record::{OpenError, Record};
use crate::root_key::RootKey;
use crate::store::{AccessError, Keys, Store};

impl<B: Backend> Store<B> {
    /// The keys, or `None` while sealed.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.lock_state().keys.clone()
    }

    /// The head of this name as of now: from memory if the back end knows that it is current, else
    /// from the back end.
    pub(super) async fn head(
        &self,
        keys: &Arc<Keys>,
        name: &ObjectName,
    ) -> Result<Option<Arc<KnownHead>>, AccessError> {
        let known = self.lock_heads().get(name);
        if let Some(known) = known.filter(|known| self.backend.is_current(name, &known.revision)) {
            return Ok(Some(known));
        }
        self.stored_head(keys, name).await
    }

    /// The head of this name from the back end.
    pub(super) async fn stored_head(
        &self,
        keys: &Arc<Keys>,
        name: &ObjectName,
    ) -> Result<Option<Arc<KnownHead>>, AccessError> {
        // Before the request: what comes back must not be behind what was seen by now. What others
        // see while it is under way may well be ahead of it.
        let (seen, known) = {
            let heads = self.lock_heads();
            (heads.seen(name), heads.get(name))
        };
        let Some(stored) = self.backend.get(name).await? else {
            return match seen {
                0 => Ok(None),
                _ => Err(AccessError::RolledBack { object: name.clone() }),
            };
        };
        // The same revision is the same head, which has been opened and checked before.
        if let Some(known) = known.filter(|known| known.revision == stored.revision) {
            return Ok(Some(known));
        }
        let (sequence, head) =
            self.opened(keys, name, |keyring| Head::open(&stored.bytes, keyring, name)).await?;
        if sequence < seen {
            return Err(AccessError::RolledBack { object: name.clone() });
        }
        Ok(Some(self.remember(name, KnownHead { sequence, revision: stored.revision, head })))
    }

    /// A head that a list tells of, or a newer one: without a request if it is in memory, or the back
    /// end has it at hand.
    pub(super) async fn listed_head(
        &self,
        keys: &Arc<Keys>,
        Listed { name, revision }: Listed,
    ) -> Result<Option<Arc<KnownHead>>, AccessError> {
        let known = self.lock_heads().get(&name);
        if let Some(known) = known.filter(|known| known.revision == revision) {
            return Ok(Some(known));
        }
        let Some(bytes) = self.backend.cached(&name, &revision) else {
            return self.stored_head(keys, &name).await;
        };
        let (sequence, head) =
            self.opened(keys, &name, |keyring| Head::open(&bytes, keyring, &name)).await?;
        // It may have been put back, or only have changed since it was listed.
        if sequence < self.lock_heads().seen(&name) {
            return self.stored_head(keys, &name).await;
        }
        Ok(Some(self.remember(&name, KnownHead { sequence, revision, head })))
    }

    /// Keeps a head in memory, unless the store has been sealed meanwhile.
    pub(super) fn remember(&self, name: &ObjectName, mut head: KnownHead) -> Arc<KnownHead> {
        head.head.shrink();
        let head = Arc::new(head);
        let state = self.lock_state();
        if state.keys.is_some() {
            self.lock_heads().insert(name, &head);
        }
        head
    }

    /// The value of a version; `None` if there is no such object.
    pub(super) async fn version_value(
        &self,
        keys: &Arc<Keys>,
        name: &ObjectName,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, AccessError> {
        let open = async |bytes: &[u8]| {
            self.opened(keys, name, |keyring| Record::parse(bytes)?.open_value(keyring, name)).await
        };
        let Some(bytes) = self.version_bytes(name).await? else { return Ok(None) };
        match open(&bytes).await {
            // What is in memory may be of a term that was retired since: the record itself was moved.
            Err(AccessError::Damaged { source: OpenError::FindTerm { .. }, .. }) => {
                self.lock_versions().remove(name);
                let Some(bytes) = self.version_bytes(name).await? else { return Ok(None) };
                open(&bytes).await.map(Some)
            }
            result => result.map(Some),
        }
    }

    /// The sealed bytes of a version: from memory, else from the back end. `None` if there is no
    /// such object.
    async fn version_bytes(&self, name: &ObjectName) -> Result<Option<Arc<[u8]>>, AccessError> {
        if let Some(bytes) = self.lock_versions().get(name) {
            return Ok(Some(bytes));
        }
        let Some(stored) = self.backend.get(name).await? else { return Ok(None) };
        let bytes: Arc<[u8]> = stored.bytes.into();
        self.lock_versions().insert(name.clone(), Arc::clone(&bytes));
        Ok(Some(bytes))
    }

    /// Opens something with the keyring; asks once for a newer keyring if the term is unknown,
    /// because another replica may have rotated.
    pub(super) async fn opened<T>(
        &self,
        keys: &Arc<Keys>,
        object: &ObjectName,
        open: impl Fn(&Keyring) -> Result<T, OpenError> + Send,
    ) -> Result<T, AccessError> {
        let damaged = |source| AccessError::Damaged { object: object.clone(), source };
        match open(&keys.keyring) {
            Err(OpenError::FindTerm { .. }) => {
                let (keyring, _) = self.stored_keyring(&keys.root_key).await?;
                let keys = self.adopt(keyring, keys);
                open(&keys.keyring).map_err(damaged)
            }
            result => result.map_err(damaged),
        }
    }

    /// The keyring as the back end has it, and its revision.
    pub(super) async fn stored_keyring(
        &self,
        root_key: &RootKey,
    ) -> Result<(Keyring, Revision), AccessError> {
        let seen = self.lock_state().generation;
        let object = ObjectName::keyring();
        let Some(stored) = self.backend.get(&object).await? else {
            return Err(AccessError::Missing { object });
        };
        let keyring = Keyring::open(&stored.bytes, root_key).map_err(|error| {
            match (&error, Keyring::peek(&stored.bytes)) {
                // Nothing vouches for the generation of a keyring that does not open. That it is a
                // newer one is the likely cause, and the new root key will show.
                (OpenKeyringError::Decrypt, Ok((_, generation))) if generation > seen => {
                    AccessError::Rekeyed
                }
                _ => AccessError::Keyring(error),
            }
        })?;
        if keyring.generation() < seen {
            return Err(AccessError::RolledBack { object });
        }
        Ok((keyring, stored.revision))
    }

    /// Makes a newer keyring the store's own, unless the store has been sealed meanwhile; returns
    /// keys with it in either case, for the operation that is under way.
    pub(super) fn adopt(&self, keyring: Keyring, keys: &Arc<Keys>) -> Arc<Keys> {
        self.take_over(Keys { root_key: Arc::clone(&keys.root_key), keyring })
    }

    /// As [`Store::adopt`], with the root key that opens the keyring.
    pub(super) fn take_over(&self, keys: Keys) -> Arc<Keys> {
        let mut state = self.lock_state();
        let generation = keys.keyring.generation();
        let keys = Arc::new(keys);
        if state.keys.is_some() && generation >= state.generation {
            state.generation = generation;
            state.keys = Some(Arc::clone(&keys));
        }
        keys
    }
}
