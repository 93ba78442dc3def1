//! Many writers of one path.

use std::num::NonZeroUsize;

use futures::future::join_all;

use super::{root_key, write};
use crate::backend::Backend;
use crate::name::ObjectKind;
use crate::path::SecretPath;
use crate::store::{Config, Precondition, Store};

/// Writers of one path in two replicas: no acknowledged write is lost, none comes twice.
pub(super) async fn writers<B: Backend>(replica: &impl Fn() -> B) {
    let config = Config { keep_versions: NonZeroUsize::new(64).unwrap(), ..Config::default() };
    let stores = [Store::new(replica(), config.clone()), Store::new(replica(), config)];
    for store in &stores {
        store.unseal(root_key()).await.unwrap();
    }
    let path: SecretPath = "conformance/writers".parse().unwrap();
    let written = join_all((0..16_u8).map(|number| {
        let store = &stores[usize::from(number) % 2];
        let path = &path;
        async move {
            let version = write(store, path, &[number], Precondition::Any).await.unwrap();
            let seen = store.read(path, None).await.ok().unwrap();
            assert!(seen.version >= version, "a writer reads its own write, or a newer one");
            (version, number)
        }
    }))
    .await;

    let mut versions: Vec<u64> = written.iter().map(|(version, _)| *version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>(), "every write has a version of its own");
    for (version, number) in written {
        let secret = stores[0].read(&path, Some(version)).await.ok().unwrap();
        assert_eq!(secret.value.expose_secret(), [number], "and is what was written");
    }
    assert_eq!(
        stores[0].backend().list(ObjectKind::Version).await.unwrap().len(),
        16,
        "writers that had to start again have tidied up"
    );
    stores[1].delete(&path).await.unwrap();
}

/// A storm: many more writers of one path than there are attempts, in three replicas. Everybody
/// comes through, in a bounded number of attempts.
pub(super) async fn storm<B: Backend>(replica: &impl Fn() -> B) {
    let config = Config { keep_versions: NonZeroUsize::new(2).unwrap(), ..Config::default() };
    let stores = [(); 3].map(|()| Store::new(replica(), config.clone()));
    for store in &stores {
        store.unseal(root_key()).await.unwrap();
    }
    let path: SecretPath = "conformance/storm".parse().unwrap();

    let mut versions = join_all((0..96_u8).map(|number| {
        let store = &stores[usize::from(number) % stores.len()];
        let path = &path;
        async move {
            let version = write(store, path, &[number], Precondition::Any).await;
            version.unwrap_or_else(|error| panic!("writer {number} starves: {error:?}"))
        }
    }))
    .await;

    versions.sort_unstable();
    assert_eq!(versions, (1..=96).collect::<Vec<_>>(), "every write has a version of its own");
    let newest = stores[0].read(&path, None).await.ok().unwrap();
    assert_eq!(newest.version, 96);
    stores[0].sweep().await.unwrap();
    let stored = stores[0].backend().list(ObjectKind::Version).await.unwrap().len();
    assert_eq!(stored, 2, "no writer leaves anything behind");
    stores[1].delete(&path).await.unwrap();
}
