//! Why the store did not do as it was asked: one enum per operation, over what all have in common.

use crate::backend::BackendError;
use crate::head::SealHeadError;
use crate::keyring::{OpenKeyringError, SealKeyringError};
use crate::name::ObjectName;
use crate::path::SecretPath;
use crate::random::RandomError;
use crate::record::{OpenError, SealError};
use crate::seal::ParseSealStateError;

/// Why something stored could not be reached; no operation of its own.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The back end did not do its part.
    #[error("the back end failed")]
    Backend(#[from] BackendError),
    /// An object does not open: it was tampered with, or is of a newer release.
    #[error("the record `{object}` does not open")]
    Damaged {
        /// The object.
        object: ObjectName,
        /// What is wrong with it.
        #[source]
        source: OpenError,
    },
    /// The keyring does not open any more, though it is not a newer one: it was tampered with.
    #[error("the keyring does not open")]
    Keyring(#[source] OpenKeyringError),
    /// An object that must be there is not.
    #[error("the record `{object}` is missing")]
    Missing {
        /// The object.
        object: ObjectName,
    },
    /// The keyring is newer than the root key of this replica: the store was rekeyed elsewhere. Until
    /// it is unsealed with the new one, it knows only the terms from before.
    #[error("the store was rekeyed: this replica has to be unsealed with the new root key")]
    Rekeyed,
    /// An object is older than what this replica has seen, or was removed past the store.
    #[error("the record `{object}` was put back to an older state, or removed")]
    RolledBack {
        /// The object.
        object: ObjectName,
    },
    /// What is stored as the seal state is none, or is of a newer release.
    #[error("the record `seal` is malformed")]
    SealState(#[source] ParseSealStateError),
}

impl AccessError {
    /// The one record that this is about, if others may well be in order: it does not open, is
    /// missing, or is older than what was seen.
    pub fn record(&self) -> Option<&ObjectName> {
        match self {
            Self::Backend(BackendError::Malformed { name: object, .. })
            | Self::Damaged { object, .. }
            | Self::Missing { object }
            | Self::RolledBack { object } => Some(object),
            Self::Backend(_) | Self::Keyring(_) | Self::Rekeyed | Self::SealState(_) => None,
        }
    }
}

/// Why a secret could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Something stored could not be reached. If the back end was unavailable, the secret may be
    /// deleted nonetheless; deleting it again is safe.
    #[error("cannot delete `{path}`")]
    Access {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// Another version than the one that was asked for is the newest.
    #[error("the newest version of `{path}` is {newest}")]
    Changed {
        /// The secret.
        path: SecretPath,
        /// The newest version.
        newest: u64,
    },
    /// Other writers were faster, again and again.
    #[error("`{path}` is being written by too many at once")]
    Contended {
        /// The secret.
        path: SecretPath,
    },
    /// The secret is deleted and can no longer be read, but ciphertext of it could not be removed;
    /// deleting it again goes on.
    #[error("`{path}` is deleted, but its ciphertext could not be removed")]
    Incomplete {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// There is no such secret.
    #[error("there is no secret `{path}`")]
    NotFound {
        /// The secret.
        path: SecretPath,
    },
    /// The head could not be sealed.
    #[error("cannot seal the head of `{path}`")]
    SealHead {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: SealHeadError,
    },
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

/// Why a store could not be initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// It was, under another root key.
    #[error("the store is already initialized")]
    AlreadyInitialized,
    /// The back end did not do its part; whether there is a keyring now is not known.
    #[error("the back end failed")]
    Backend(#[from] BackendError),
    /// There is no randomness for keys.
    #[error("cannot make keys")]
    Random(#[from] RandomError),
    /// The keyring could not be sealed.
    #[error("cannot seal the keyring")]
    SealKeyring(#[from] SealKeyringError),
}

/// Why secrets could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Something stored could not be reached; or one head does not open, where a list without it is
    /// of no use.
    #[error("cannot list secrets")]
    Access(#[from] AccessError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something stored could not be reached.
    #[error("cannot read `{path}`")]
    Access {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// There is no such secret.
    #[error("there is no secret `{path}`")]
    NotFound {
        /// The secret.
        path: SecretPath,
    },
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
    /// There is such a secret, but not, or no longer, in this version.
    #[error("the secret `{path}` has no version {version}")]
    VersionNotFound {
        /// The secret.
        path: SecretPath,
        /// The version that was asked for.
        version: u64,
    },
}

/// Why the store could not be put under another root key.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// The keyring could not be reached, or another replica changed it at the same time. The old
    /// root key is the valid one.
    #[error("cannot rekey the store")]
    Access(#[from] AccessError),
    /// The keyring could not be sealed.
    #[error("cannot seal the keyring")]
    SealKeyring(#[from] SealKeyringError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
    /// The back end does not answer: the old root key is the valid one, or the new one is. Keep the
    /// shares of both until [`Store::custody`](crate::Store::custody) shows which.
    #[error("whether the store was rekeyed is not known: keep the old shares and the new ones")]
    Uncertain(#[source] BackendError),
}

/// Why older terms could not be destroyed.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// Something stored could not be reached, a record does not open, or another replica changed
    /// the keyring at the same time.
    #[error("cannot retire older terms")]
    Access(#[from] AccessError),
    /// A record is still under an older term.
    #[error("the record `{object}` still needs term {term}: rewrap first")]
    Needed {
        /// The record.
        object: ObjectName,
        /// The term.
        term: u32,
    },
    /// The keyring could not be sealed.
    #[error("cannot seal the keyring")]
    SealKeyring(#[from] SealKeyringError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

impl RetireError {
    /// The one record that this is about, if others may well be in order.
    pub fn record(&self) -> Option<&ObjectName> {
        match self {
            Self::Access(error) => error.record(),
            Self::Needed { object, .. } => Some(object),
            Self::SealKeyring(_) | Self::Sealed => None,
        }
    }
}

/// Why records could not be moved to the newest term.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// Something stored could not be reached, or a record does not open.
    #[error("cannot rewrap all records")]
    Access(#[from] AccessError),
    /// Other writers were faster, again and again.
    #[error("`{object}` is being written by too many at once")]
    Contended {
        /// The record.
        object: ObjectName,
    },
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

impl RewrapError {
    /// The one record that this is about, if others may well be in order.
    pub fn record(&self) -> Option<&ObjectName> {
        match self {
            Self::Access(error) => error.record(),
            Self::Contended { object } => Some(object),
            Self::Sealed => None,
        }
    }
}

/// Why the keyring could not be rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The keyring could not be reached, or another replica changed it at the same time.
    #[error("cannot rotate the keyring")]
    Access(#[from] AccessError),
    /// There is no randomness for a key.
    #[error("cannot make a key")]
    Random(#[from] RandomError),
    /// The keyring could not be sealed.
    #[error("cannot seal the keyring")]
    SealKeyring(#[from] SealKeyringError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

/// Why leftovers could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Something stored could not be reached.
    #[error("cannot remove leftovers")]
    Access(#[from] AccessError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

impl From<BackendError> for SweepError {
    fn from(error: BackendError) -> Self {
        Self::Access(error.into())
    }
}

/// Why a store could not be unsealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The back end did not do its part.
    #[error("the back end failed")]
    Backend(#[from] BackendError),
    /// What is stored as the keyring is none, or is of a newer release.
    #[error("the keyring is damaged")]
    Damaged(#[source] OpenKeyringError),
    /// There is no keyring.
    #[error("the store is not initialized")]
    NotInitialized,
    /// The keyring is older than the one that this replica has seen.
    #[error("the keyring was put back to an older state")]
    RolledBack,
    /// The key does not open the keyring (or the keyring was tampered with: these cannot be told
    /// apart).
    #[error("the key does not open the store")]
    WrongKey,
}

/// Why the store could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The back end or the keyring could not be reached.
    #[error("cannot verify the store")]
    Access(#[from] AccessError),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
}

/// Why a secret could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something stored could not be reached. If the back end was unavailable, or the store rekeyed
    /// at that moment, the value may have been written nonetheless.
    #[error("cannot write `{path}`")]
    Access {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// `Precondition::Version` asked for another version than the newest.
    #[error("the newest version of `{path}` is {newest}")]
    Changed {
        /// The secret.
        path: SecretPath,
        /// The newest version.
        newest: u64,
    },
    /// Other writers were faster, again and again.
    #[error("`{path}` is being written by too many at once")]
    Contended {
        /// The secret.
        path: SecretPath,
    },
    /// `Precondition::Create`, and there is such a secret.
    #[error("the secret `{path}` already exists")]
    Exists {
        /// The secret.
        path: SecretPath,
    },
    /// `Precondition::Update` or `Version`, and there is no such secret.
    #[error("there is no secret `{path}`")]
    NotFound {
        /// The secret.
        path: SecretPath,
    },
    /// The value could not be sealed.
    #[error("cannot seal the value of `{path}`")]
    Seal {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The head could not be sealed.
    #[error("cannot seal the head of `{path}`")]
    SealHead {
        /// The secret.
        path: SecretPath,
        /// Why.
        #[source]
        source: SealHeadError,
    },
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
    /// The value is larger than the store takes.
    #[error("a value may have at most {limit} bytes, this one has {bytes}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// There is such a secret, but not, or no longer, in the version to roll back to.
    #[error("the secret `{path}` has no version {version}")]
    VersionNotFound {
        /// The secret.
        path: SecretPath,
        /// The version that was asked for.
        version: u64,
    },
}
