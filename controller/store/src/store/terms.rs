//! Terms: rotating the keyring.

use serde::Serialize;

use crate::backend::Backend;
use crate::name::ObjectName;
use crate::store::{AccessError, RotateError, Store};

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
}

/// A term of the keyring, without its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Term {
    /// Its number.
    pub term: u32,
    /// When it was made, in seconds since 1970 UTC.
    pub created: i64,
}
