//! The file back end: the suite, what survives a process, and many writers at once.

#![cfg(all(feature = "file", feature = "testing"))]
#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not covered by clippy.toml

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use watchword_store::backend::file::FileBackend;
use watchword_store::{
    Config, ContentType, Custody, Meta, Precondition, ReadError, RootKey, SecretPath, Share, Store,
    Value, conformance,
};

fn root_key() -> RootKey {
    RootKey::combine(&[Share::parse(&"5c".repeat(32)).unwrap()]).unwrap()
}

fn path(text: &str) -> SecretPath {
    text.parse().unwrap()
}

fn meta() -> Meta {
    Meta { author: "ada".to_owned(), content_type: ContentType::Binary, created: 1000, about: None }
}

async fn open(file: &Path) -> Store<FileBackend> {
    let keep_versions = NonZeroUsize::new(1000).unwrap();
    let config = Config { keep_versions, ..Config::default() };
    let store = Store::new(FileBackend::open(file).unwrap(), config);
    store.initialize(&root_key(), &Custody::default(), 1).await.unwrap();
    store.unseal(root_key()).await.unwrap();
    store
}

async fn put(store: &Store<FileBackend>, name: &str, bytes: &[u8]) -> u64 {
    let value = Value::new(bytes.to_vec());
    store.write(&path(name), &value, &meta(), Precondition::Any).await.unwrap()
}

async fn get(store: &Store<FileBackend>, name: &str) -> Option<Vec<u8>> {
    match store.read(&path(name), None).await {
        Ok(secret) => Some(secret.value.expose_secret().to_vec()),
        Err(ReadError::NotFound { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_back_end_conforms() {
    let directory = TempDir::new().unwrap();
    let backend = Arc::new(FileBackend::open(&directory.path().join("store")).unwrap());

    conformance::run(|| Arc::clone(&backend)).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    {
        let store = open(&file).await;
        put(&store, "shop/db", b"one").await;
        put(&store, "shop/db", b"two").await;
        put(&store, "shop/gone", b"x").await;
        store.delete(&path("shop/gone")).await.unwrap();
    }

    let store = open(&file).await;

    assert_eq!(get(&store, "shop/db").await.unwrap(), b"two");
    let old = store.read(&path("shop/db"), Some(1)).await.ok().unwrap();
    assert_eq!(old.value.expose_secret(), b"one");
    assert_eq!(get(&store, "shop/gone").await, None);
    assert_eq!(store.list(None).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only_and_holds_no_plaintext() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    let store = open(&file).await;
    put(&store, "shop/db", b"canary-77c0de").await;

    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    for needle in [&b"canary-77c0de"[..], b"shop/db", b"ada"] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}

#[tokio::test]
async fn a_second_process_cannot_open_the_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    let first = FileBackend::open(&file).unwrap();

    assert!(FileBackend::open(&file).is_err());
    drop(first);
    assert!(FileBackend::open(&file).is_ok());
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    let text = b"somebody else's notes\n".repeat(1000);
    std::fs::write(&file, &text).unwrap();

    assert!(FileBackend::open(&file).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_acknowledged_write_is_lost_among_many_writers_and_readers() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    let store = Arc::new(open(&file).await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut written = Vec::new();
            for round in 0..8_u8 {
                let bytes = vec![writer, round];
                let version = put(&store, "shop/db", &bytes).await;
                let seen = store.read(&path("shop/db"), None).await.ok().unwrap();
                assert!(seen.version >= version, "a writer reads its own write, or a newer one");
                written.push((version, bytes));
            }
            written
        });
    }
    let written: Vec<(u64, Vec<u8>)> = tasks.join_all().await.into_iter().flatten().collect();

    drop(store);
    let store = open(&file).await;

    assert_eq!(store.versions(&path("shop/db")).await.unwrap().len(), 64);
    for (version, bytes) in written {
        let secret = store.read(&path("shop/db"), Some(version)).await.ok().unwrap();
        assert_eq!(secret.value.expose_secret(), bytes);
    }
    assert_eq!(store.sweep().await.unwrap(), 0);
}

// A request that is given up may still be carried out, and readers must then see it: what the store
// remembers is not allowed to hide it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_given_up_is_seen_as_soon_as_it_has_happened() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store");
    let store = Arc::new(open(&file).await);
    put(&store, "shop/db", &[0]).await;
    for round in 1..40_u8 {
        let write = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { put(&store, "shop/db", &[round]).await })
        };
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 150)).await;
        write.abort();
        let _ = write.await;
        // Sees the head that the aborted write may be replacing.
        get(&store, "shop/db").await;
        // A write that follows gives the aborted one time to end.
        put(&store, "shop/other", &[round]).await;

        let remembered = get(&store, "shop/db").await;
        store.seal();
        store.unseal(root_key()).await.unwrap();
        assert_eq!(remembered, get(&store, "shop/db").await, "round {round}");
    }
}
