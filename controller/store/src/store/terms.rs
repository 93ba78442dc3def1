//! Terms: rotating the keyring, and ending the life of older terms.
//!
//! `rotate` adds a term, [`Store::rewrap`] moves all live records to it, `retire` destroys the terms
//! before it. What makes the last step safe while other replicas write, though one of them may not
//! have heard of the new term:
//!
//! - A head that exists is fenced. Rewrapping changes every head of an older term, so a writer that
//!   had read it fails at its compare-and-swap, reads the head again, meets the new term there, and
//!   seals with it. A writer that was faster is seen by the rewrapping.
//! - A head that is made anew is not, so whoever makes one looks at the keyring afterwards, before
//!   the write is acknowledged, and moves its own records if the term has changed.
//!
//! So once `rewrap` has gone through, every acknowledged record is of the newest term and stays so;
//! `retire` verifies that all the same, record by record.

use std::sync::Arc;

use futures::stream::{self, TryStreamExt};
use serde::Serialize;

use crate::backend::Backend;
use crate::insist::insist;
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::record::Record;
use crate::store::{AccessError, Keys, RetireError, RotateError, Store};

impl<B: Backend> Store<B> {
    /// The terms of the keyring, oldest first; `None` while sealed. The last one is used by new
    /// records.
    pub fn terms(&self) -> Option<Vec<Term>> {
        let keys = self.keys()?;
        Some(keys.keyring.terms().map(|(term, created)| Term { term, created }).collect())
    }

    /// Adds a term to the keyring, at `created` (seconds since 1970 UTC), and returns its number.
    /// What is written from now on uses it, and other replicas learn of it when they meet such a
    /// record; older records still open.
    ///
    /// # Errors
    ///
    /// [`RotateError::Sealed`] while sealed; [`RotateError::Access`] with a conflict when another
    /// replica changed the keyring at the same time.
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

    /// Destroys all terms but the newest, and returns their numbers. Copies of records from before
    /// that somebody kept, of deleted secrets among them, no longer open with this store's keys.
    /// Whoever kept a copy of the keyring too, and has shares of the root key that it was under,
    /// still opens them: rekey, and destroy the old shares, to end that.
    ///
    /// # Errors
    ///
    /// [`RetireError::Needed`] when a record still needs one of them: rewrap first. A record that
    /// does not open stops it as well, for what it needs is not known.
    pub async fn retire(&self) -> Result<Vec<u32>, RetireError> {
        let keys = self.keys().ok_or(RetireError::Sealed)?;
        // The keyring comes first, and is replaced only if it is still this one at the end.
        let (mut keyring, revision) = self.stored_keyring(&keys.root_key).await?;
        let retired = keyring.retire();
        if retired.is_empty() {
            return Ok(retired);
        }
        // In memory still with all terms.
        let (whole, _) = self.stored_keyring(&keys.root_key).await?;
        let keys = self.adopt(whole, &keys);
        let heads = insist(|| self.backend.list(ObjectKind::Head)).await;
        let heads = heads.map_err(AccessError::Backend)?;
        stream::iter(heads.into_iter().map(Ok))
            .try_for_each_concurrent(REQUESTS_AT_ONCE, |head| {
                let keys = &keys;
                async move { insist(|| self.check_path(keys, &head.name)).await }
            })
            .await?;
        let namespaces = &ObjectName::namespaces();
        insist(|| self.check_newest(&keys.keyring, namespaces)).await?;

        let sealed = keyring.seal(&keys.root_key)?;
        self.backend
            .replace(&ObjectName::keyring(), &sealed, &revision)
            .await
            .map_err(AccessError::Backend)?;
        self.adopt(keyring, &keys);
        Ok(retired)
    }

    /// Whether a head and the versions that it names open and are of the newest term.
    async fn check_path(&self, keys: &Arc<Keys>, head: &ObjectName) -> Result<(), RetireError> {
        let known = self.stored_head(keys, head).await?;
        for version in known.iter().flat_map(|known| &known.head.versions) {
            self.check_newest(&keys.keyring, &version.object).await?;
        }
        self.check_newest(&keys.keyring, head).await
    }

    /// Whether a record, if there is one of this name, opens and is of the newest term.
    async fn check_newest(
        &self,
        keyring: &Keyring,
        object: &ObjectName,
    ) -> Result<(), RetireError> {
        let Some(stored) = self.backend.get(object).await.map_err(AccessError::Backend)? else {
            // Trimmed or deleted since; or lost, and then it needs no term any more.
            return Ok(());
        };
        let term = Record::parse(&stored.bytes)
            .map_err(Into::into)
            .and_then(|record| record.verify(keyring, object).map(|()| record.term()))
            .map_err(|source| AccessError::Damaged { object: object.clone(), source })?;
        if term == keyring.current_term() {
            Ok(())
        } else {
            Err(RetireError::Needed { object: object.clone(), term })
        }
    }
}

/// A term of the keyring, without its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Term {
    /// Its number.
    pub term: u32,
    /// When it was made, in seconds since 1970 UTC.
    pub created: i64,
}

/// How many records are asked for at once.
const REQUESTS_AT_ONCE: usize = 8;
