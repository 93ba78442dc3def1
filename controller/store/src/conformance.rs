//! The suite that every back end must pass: what [`crate::backend`] promises, and what a store over
//! it then keeps.
//!
//! [`run`] panics, with a sentence, at the first promise that is broken. It is given a function that
//! makes one more *replica* over the same data (for a back end that only one process can open, the
//! same value again), and an empty back end: it initialises a store there and leaves it behind.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this is a test that can be called")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::head::{ContentType, Meta};
use crate::name::{ObjectKind, ObjectName};
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::seal::Custody;
use crate::secret::Value;
use crate::share::Share;
use crate::store::{Config, Precondition, Store, WriteError};

mod crashes;
mod objects;
mod stores;
mod terms;
mod writers;

/// Checks all promises of a back end. `replica` makes one more connection to the same, empty data.
///
/// # Panics
///
/// At the first promise that is broken.
pub async fn run<B: Backend>(replica: impl Fn() -> B) {
    objects::objects(&replica()).await;
    objects::contention(&replica).await;
    stores::stores(&replica).await;
    writers::writers(&replica).await;
    writers::storm(&replica).await;
    crashes::crashes(&replica).await;
    terms::terms(&replica).await;
}

/// So many unsealed replicas of one store, which is initialised if need be, and which keeps a
/// thousand versions.
///
/// # Panics
///
/// When the back end fails.
pub async fn unsealed<B: Backend>(replica: impl Fn() -> B, count: usize) -> Vec<Store<B>> {
    let config = Config { keep_versions: NonZeroUsize::new(1000).unwrap(), ..Config::default() };
    let mut stores = Vec::new();
    for _ in 0..count {
        let store = Store::new(replica(), config.clone());
        store.initialize(&root_key(), &Custody::default(), 1).await.unwrap();
        store.unseal(root_key()).await.unwrap();
        stores.push(store);
    }
    stores
}

/// What the suite says of its values.
pub fn meta() -> Meta {
    Meta {
        author: "conformance".to_owned(),
        content_type: ContentType::Binary,
        created: 4,
        about: None,
    }
}

/// A back end behind an `Arc` is one too, for back ends that can be opened only once.
impl<B: Backend> Backend for Arc<B> {
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool {
        (**self).is_current(name, revision)
    }

    fn cached(&self, name: &ObjectName, revision: &Revision) -> Option<Arc<[u8]>> {
        (**self).cached(name, revision)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        (**self).get(name).await
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        (**self).create(name, bytes).await
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        (**self).replace(name, bytes, revision).await
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        (**self).delete(name, revision).await
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        (**self).list(kind).await
    }
}

async fn write<B: Backend>(
    store: &Store<B>,
    path: &SecretPath,
    bytes: &[u8],
    precondition: Precondition,
) -> Result<u64, WriteError> {
    store.write(path, &Value::new(bytes.to_vec()), &meta(), precondition).await
}

async fn read<B: Backend>(store: &Store<B>, path: &SecretPath) -> Vec<u8> {
    match store.read(path, None).await {
        Ok(secret) => secret.value.expose_secret().to_vec(),
        Err(error) => panic!("cannot read `{path}`: {error:?}"),
    }
}

fn root_key() -> RootKey {
    RootKey::combine(&[Share::parse(&"5c".repeat(32)).unwrap()]).unwrap()
}
