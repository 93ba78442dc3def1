//! Resolvers: where a reference's value comes from.
//!
//! An enum and not a trait object: the kinds are known, each is written by a cluster admin in a
//! SecretResolver, and a tenant can name one but nothing in it.

use watchword_core::reference::SecretName;
use watchword_crds::SecretResolverSpec;
use watchword_protocol::ErrorCode;
use watchword_store::{AnyBackend, ParsePathError, ReadError, SecretPath, Store};
use zeroize::Zeroizing;

use crate::chain::Chain;
use crate::serve::Failure;

/// One kind of resolver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolver {
    /// The sealed store.
    Store,
}

/// What a reference resolved to. It has no `Debug`, because it holds a value.
pub struct Resolved {
    /// The value, byte for byte.
    pub value: Zeroizing<Vec<u8>>,
    /// Its version, where the resolver has versions.
    pub version: Option<u64>,
}

impl Resolver {
    /// The kind that a SecretResolver asks for; `None` for one that this build does not know.
    pub fn of(spec: &SecretResolverSpec) -> Option<Self> {
        spec.store.as_ref().map(|_| Self::Store)
    }

    /// Resolves a reference that has been allowed.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Sealed` or `Unavailable`, each naming the reference.
    pub async fn resolve(
        self,
        store: &Store<AnyBackend>,
        name: &SecretName,
    ) -> Result<Resolved, Failure> {
        match self {
            Self::Store => read(store, name).await,
        }
    }
}

async fn read(store: &Store<AnyBackend>, name: &SecretName) -> Result<Resolved, Failure> {
    let path: SecretPath = name.as_str().parse().map_err(|error: ParsePathError| {
        Failure::new(ErrorCode::Invalid, format!("cannot resolve secret `{name}`: {error}"))
    })?;
    match store.read(&path, None).await {
        Ok(secret) => {
            Ok(Resolved { version: Some(secret.version), value: secret.value.into_exposed() })
        }
        Err(error) => Err(read_failure(&error).about(name.as_str())),
    }
}

/// What a client hears when a secret could not be read.
pub fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::Access { path, source } => {
            Failure::of_access(&format!("cannot read secret `{path}`"), error, source)
        }
        ReadError::NotFound { .. } | ReadError::VersionNotFound { .. } => {
            Failure::new(ErrorCode::NotFound, Chain(error).to_string())
        }
        ReadError::Sealed => Failure::new(ErrorCode::Sealed, "the store is sealed"),
    }
}
