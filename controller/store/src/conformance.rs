//! The suite that every back end must pass: what [`crate::backend`] promises, and what a store over
//! it then keeps.
//!
//! [`run`] panics, with a sentence, at the first promise that is broken. It is given a function that
//! makes one more *replica* over the same data (for a back end that only one process can open, the
//! same value again), and an empty back end: it initialises a store there and leaves it behind.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this is a test that can be called")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::join_all;

use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::head::{ContentType, Meta};
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::seal::Custody;
use crate::secret::{MAX_VALUE_BYTES, Value};
use crate::share::Share;
use crate::store::{Config, Initialized, Precondition, ReadError, Store, UnsealError, WriteError};

mod terms;

/// Checks all promises of a back end. `replica` makes one more connection to the same, empty data.
///
/// # Panics
///
/// At the first promise that is broken.
pub async fn run<B: Backend>(replica: impl Fn() -> B) {
    objects(&replica()).await;
    contention(&replica).await;
    stores(&replica).await;
    writers(&replica).await;
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
    Meta { author: "conformance".to_owned(), content_type: ContentType::Binary, created: 4 }
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

/// One object's life, by one caller.
async fn objects<B: Backend>(backend: &B) {
    let head = names("objects");
    let version = ObjectName::version(&head, 1).unwrap();
    assert_eq!(backend.get(&head).await.unwrap(), None, "there is nothing at first");
    assert_conflict(
        backend.replace(&head, b"x", &Revision("1".into())).await,
        "what is not there cannot be replaced",
    );
    backend.delete(&head, None).await.expect("removing what is not there is fine");

    let first = backend.create(&head, b"one").await.unwrap();
    assert_eq!(
        backend.get(&head).await.unwrap(),
        Some(Stored { bytes: b"one".to_vec(), revision: first.clone() }),
        "what was created is there, with its revision"
    );
    assert_conflict(backend.create(&head, b"two").await, "nothing is created twice");

    let second = backend.replace(&head, b"two", &first).await.unwrap();
    assert_ne!(first, second, "a change has a new revision");
    assert_conflict(
        backend.replace(&head, b"three", &first).await,
        "an old revision replaces nothing",
    );
    assert!(!backend.is_current(&head, &first), "an old revision is not current");
    assert_conflict(
        backend.delete(&head, Some(&first)).await.map(|()| first.clone()),
        "an old revision removes nothing",
    );
    assert_eq!(backend.get(&head).await.unwrap().unwrap().bytes, b"two");

    // Empty, with every byte, and as large as a record can be.
    let largest = vec![0xa5; MAX_VALUE_BYTES + 1024];
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let mut revision = second;
    for bytes in [&[][..], &all, &largest] {
        revision = backend.replace(&head, bytes, &revision).await.unwrap();
        let stored = backend.get(&head).await.unwrap().unwrap();
        assert!(stored.bytes == bytes, "{} bytes come back as they were", bytes.len());
        assert_eq!(stored.revision, revision);
    }

    backend.create(&version, b"v").await.unwrap();
    assert_eq!(
        backend.list(ObjectKind::Head).await.unwrap(),
        [Listed { name: head.clone(), revision: revision.clone() }],
        "a list has the objects of its kind"
    );
    let versions = backend.list(ObjectKind::Version).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].name, version);
    assert!(backend.list(ObjectKind::Keyring).await.unwrap().is_empty());

    backend.delete(&head, Some(&revision)).await.unwrap();
    backend.delete(&version, None).await.unwrap();
    assert_eq!(backend.get(&head).await.unwrap(), None, "what was removed is gone");
    assert_eq!(backend.get(&version).await.unwrap(), None);
    let again = backend.create(&head, b"one").await.unwrap();
    for earlier in [&first, &revision] {
        assert_conflict(
            backend.replace(&head, b"x", earlier).await,
            "a revision does not come back with the object",
        );
        assert_conflict(
            backend.delete(&head, Some(earlier)).await.map(|()| again.clone()),
            "nor does it remove the new one",
        );
    }
    assert_ne!(again, first);
    backend.delete(&head, None).await.unwrap();
}

/// Of many that create or replace one object at the same time, one succeeds.
async fn contention<B: Backend>(replica: &impl Fn() -> B) {
    let name = names("contention");
    let replicas: Vec<B> = (0..4).map(|_| replica()).collect();
    let one_of = |results: Vec<Result<Revision, BackendError>>, what: &str| {
        let winners: Vec<Revision> = results
            .into_iter()
            .filter_map(|result| match result {
                Ok(revision) => Some(revision),
                Err(BackendError::Conflict { .. }) => None,
                Err(error) => panic!("{what}: {error:?}"),
            })
            .collect();
        assert_eq!(winners.len(), 1, "{what}: one of them succeeds");
        winners.into_iter().next().unwrap()
    };

    let created = join_all(replicas.iter().map(|replica| replica.create(&name, b"created"))).await;
    let mut revision = one_of(created, "create");
    for round in 0..5_u8 {
        let bytes: Vec<[u8; 2]> =
            (0_u8..).zip(&replicas).map(|(number, _)| [round, number]).collect();
        let replaced = join_all(
            replicas
                .iter()
                .zip(&bytes)
                .map(|(replica, bytes)| replica.replace(&name, bytes, &revision)),
        )
        .await;
        let winner = replaced.iter().position(Result::is_ok);
        revision = one_of(replaced, "replace");
        for replica in &replicas {
            let stored = replica.get(&name).await.unwrap().unwrap();
            assert_eq!(stored.revision, revision, "every replica sees what was acknowledged");
            assert_eq!(stored.bytes, bytes[winner.unwrap()], "and it is the winner's");
        }
    }
    replicas[0].delete(&name, None).await.unwrap();
    for replica in &replicas {
        assert_eq!(replica.get(&name).await.unwrap(), None, "every replica sees the removal");
    }
}

/// A store's life over two replicas.
async fn stores<B: Backend>(replica: &impl Fn() -> B) {
    let config = Config { keep_versions: NonZeroUsize::new(3).unwrap(), ..Config::default() };
    let (a, b) = (Store::new(replica(), config.clone()), Store::new(replica(), config));
    let key = root_key();
    assert!(!a.is_initialized().await.unwrap());
    assert!(matches!(a.unseal(root_key()).await, Err(UnsealError::NotInitialized)));
    let made = [
        a.initialize(&key, &Custody::default(), 1).await.unwrap(),
        b.initialize(&key, &Custody::default(), 2).await.unwrap(),
    ];
    assert_eq!(made, [Initialized::Now, Initialized::Before], "one initialises");
    a.unseal(root_key()).await.unwrap();
    b.unseal(root_key()).await.unwrap();

    let path: SecretPath = "conformance/db".parse().unwrap();
    for number in 1..=5_u8 {
        let (writer, reader) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let version = write(writer, &path, &[number], Precondition::Any).await.unwrap();
        assert_eq!(version, u64::from(number), "versions count up");
        assert_eq!(read(reader, &path).await, [number], "the other replica reads it");
        assert_eq!(read(writer, &path).await, [number]);
    }
    let versions: Vec<u64> =
        a.versions(&path).await.unwrap().iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [5, 4, 3], "the newest three are kept");
    assert_eq!(a.backend().list(ObjectKind::Version).await.unwrap().len(), 3);
    assert_eq!(b.read(&path, Some(4)).await.ok().unwrap().value.expose_secret(), [4]);
    assert!(matches!(b.read(&path, Some(2)).await, Err(ReadError::VersionNotFound { .. })));
    assert!(matches!(
        write(&a, &path, b"x", Precondition::Create).await,
        Err(WriteError::Exists { .. })
    ));
    assert!(matches!(
        write(&a, &path, b"x", Precondition::Version(4)).await,
        Err(WriteError::Changed { newest: 5, .. })
    ));

    let other: SecretPath = "conformance-2/db".parse().unwrap();
    write(&b, &other, b"other", Precondition::Create).await.unwrap();
    let paths = |entries: Vec<crate::store::Entry>| {
        entries.into_iter().map(|entry| entry.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        paths(a.list(None).await.unwrap()),
        ["conformance-2/db", "conformance/db"],
        "a list has the other replica's secrets"
    );
    let directory: SecretPath = "conformance".parse().unwrap();
    assert_eq!(paths(b.list(Some(&directory)).await.unwrap()), ["conformance/db"]);

    a.delete(&path).await.unwrap();
    assert!(matches!(b.read(&path, None).await, Err(ReadError::NotFound { .. })));
    assert!(matches!(b.read(&path, Some(5)).await, Err(ReadError::NotFound { .. })));
    assert_eq!(paths(b.list(None).await.unwrap()), ["conformance-2/db"]);
    assert_eq!(
        a.backend().list(ObjectKind::Version).await.unwrap().len(),
        1,
        "a deleted secret leaves no version behind"
    );
    let version = write(&b, &path, b"again", Precondition::Create).await.unwrap();
    assert_eq!(version, 6, "version numbers are not used again");
    assert_eq!(read(&a, &path).await, b"again");

    // A value as large as it may be.
    let largest = vec![0x5a; MAX_VALUE_BYTES];
    write(&a, &path, &largest, Precondition::Update).await.unwrap();
    assert!(read(&b, &path).await == largest, "the largest value comes back");

    b.rotate(3).await.unwrap();
    write(&b, &path, b"rotated", Precondition::Any).await.unwrap();
    assert_eq!(read(&a, &path).await, b"rotated", "another replica finds the new term");
    assert_eq!(read(&a, &other).await, b"other", "older terms still open");

    a.seal();
    assert!(matches!(a.read(&path, None).await, Err(ReadError::Sealed)));
    assert!(matches!(a.unseal(RootKey::generate().unwrap()).await, Err(UnsealError::WrongKey)));
    a.unseal(key).await.unwrap();
    assert_eq!(read(&a, &path).await, b"rotated");
    assert_eq!(a.sweep().await.unwrap(), 0, "nothing is left over");
    for path in [path, other] {
        a.delete(&path).await.unwrap();
    }
}

/// Writers of one path in two replicas: no acknowledged write is lost, none comes twice.
async fn writers<B: Backend>(replica: &impl Fn() -> B) {
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

fn assert_conflict(result: Result<Revision, BackendError>, what: &str) {
    match result {
        Err(BackendError::Conflict { .. }) => {}
        Err(error) => panic!("{what}: {error:?}"),
        Ok(_) => panic!("{what}"),
    }
}

/// A name that the store in the same back end will not use: of a keyring that is thrown away.
fn names(what: &str) -> ObjectName {
    Keyring::generate(0, &Custody::default()).unwrap().head_name(&what.parse().unwrap())
}

fn root_key() -> RootKey {
    RootKey::combine(&[Share::parse(&"5c".repeat(32)).unwrap()]).unwrap()
}
