//! Back ends: where sealed objects are kept.
//!
//! A back end is a map from names to bytes with compare-and-swap. It sees ciphertext and nothing
//! else, and need not be trusted with more than to keep it. What the store asks of it, and what the
//! suite of the feature `testing` (`conformance`) checks:
//!
//! - `get` sees every change that was acknowledged before it began, by whichever replica;
//! - `create`, `replace` and `delete` happen whole or not at all, and are durable when they return;
//! - of two that meet on one revision, one gets [`BackendError::Conflict`];
//! - a revision never comes back, not even after a deletion.
//!
//! Of a change that ends with [`BackendError::Unavailable`] nobody knows whether it has happened, and
//! no back end asks twice for one. What may be remembered on this side is small: a revision that is
//! known to be the newest ([`Backend::is_current`]), and bytes of a revision that the caller knows
//! from elsewhere ([`Backend::cached`]).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::name::{ObjectKind, ObjectName};

#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

/// Where sealed objects are kept.
pub trait Backend: Send + Sync {
    /// Whether the back end knows, without asking anybody, that `revision` is still the newest of
    /// this object. It may always say no: the object is then fetched.
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool;

    /// The bytes of this object at `revision`, if the back end has them at hand. They may be older
    /// than what is stored now: only who knows the revision from elsewhere, as from a list, may use
    /// them. It may always say no: the object is then fetched.
    fn cached(&self, _name: &ObjectName, _revision: &Revision) -> Option<Arc<[u8]>> {
        None
    }

    /// The object of this name, if there is one.
    fn get(
        &self,
        name: &ObjectName,
    ) -> impl Future<Output = Result<Option<Stored>, BackendError>> + Send;

    /// Stores a new object. `Conflict` if there is one of this name.
    fn create(
        &self,
        name: &ObjectName,
        bytes: &[u8],
    ) -> impl Future<Output = Result<Revision, BackendError>> + Send;

    /// Replaces the object that `revision` is of. `Conflict` if it has changed since, or is gone.
    fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> impl Future<Output = Result<Revision, BackendError>> + Send;

    /// Removes the object, if there is one. With a revision: `Conflict` if it has changed since.
    fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The names and revisions of all objects of one kind, in no order, without their bytes.
    fn list(
        &self,
        kind: ObjectKind,
    ) -> impl Future<Output = Result<Vec<Listed>, BackendError>> + Send;
}

/// The back ends of this build behind one type.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum AnyBackend {
    /// One file, one process.
    #[cfg(feature = "file")]
    File(file::FileBackend),
    /// SealedRecord objects of a cluster.
    #[cfg(feature = "kubernetes")]
    Kubernetes(kubernetes::KubernetesBackend),
    /// Nothing lasts; for tests.
    #[cfg(any(test, feature = "testing"))]
    Memory(memory::MemoryBackend),
    /// Nodes of an Apache ZooKeeper.
    #[cfg(feature = "zookeeper")]
    ZooKeeper(zookeeper::ZooKeeperBackend),
}

/// Calls one method of whichever back end it is; without any feature there is none.
macro_rules! dispatch {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "file")]
            Self::File($backend) => $call,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes($backend) => $call,
            #[cfg(any(test, feature = "testing"))]
            Self::Memory($backend) => $call,
            #[cfg(feature = "zookeeper")]
            Self::ZooKeeper($backend) => $call,
            #[cfg(not(any(
                feature = "file",
                feature = "kubernetes",
                feature = "testing",
                feature = "zookeeper",
                test
            )))]
            _ => unreachable!("a value of a type without variants"),
        }
    };
}

#[cfg_attr(
    not(any(
        feature = "file",
        feature = "kubernetes",
        feature = "testing",
        feature = "zookeeper",
        test
    )),
    expect(unused_variables, reason = "without a back end nothing is called")
)]
impl Backend for AnyBackend {
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool {
        dispatch!(self, backend => backend.is_current(name, revision))
    }

    fn cached(&self, name: &ObjectName, revision: &Revision) -> Option<Arc<[u8]>> {
        dispatch!(self, backend => backend.cached(name, revision))
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        dispatch!(self, backend => backend.get(name).await)
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        dispatch!(self, backend => backend.create(name, bytes).await)
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        dispatch!(self, backend => backend.replace(name, bytes, revision).await)
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        dispatch!(self, backend => backend.delete(name, revision).await)
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        dispatch!(self, backend => backend.list(kind).await)
    }
}

/// An object as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The sealed bytes.
    pub bytes: Vec<u8>,
    /// What to hand to `replace` and `delete`.
    pub revision: Revision,
}

/// An object as it is listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its revision at the time of the list.
    pub revision: Revision,
}

/// Which state of an object is meant; only equality has a meaning.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Revision(pub(crate) Box<str>);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a back end did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Another writer was faster; nothing was changed.
    #[error("`{name}` was changed by another writer")]
    Conflict {
        /// The object.
        name: ObjectName,
    },
    /// What is stored is not what a back end of ours writes.
    #[error("`{name}` is not stored as it should be: {detail}")]
    Malformed {
        /// The object.
        name: ObjectName,
        /// What is wrong with it.
        detail: String,
    },
    /// The back end understood, and refuses: missing rights, a policy, a full disk.
    #[error("the back end refuses to {operation}")]
    Refused {
        /// The method of [`Backend`].
        operation: &'static str,
        /// What it says.
        #[source]
        source: Cause,
    },
    /// There was no answer, or one that says nothing: a change may or may not have happened.
    #[error("the back end does not answer to {operation}")]
    Unavailable {
        /// The method of [`Backend`].
        operation: &'static str,
        /// What is known.
        #[source]
        source: Cause,
    },
}

/// What a back end's own library says.
pub type Cause = Box<dyn Error + Send + Sync>;
