//! `watchword store backup`, `restore` and `migrate`, with backups and stores as they are.

use std::{cell::RefCell, fs, io, os::unix::fs::PermissionsExt, path::Path};

use futures::sink;
use tokio::runtime::Runtime;
use watchword_store::{
    Config, ContentType, Custody, Meta, Precondition, RootKey, SealConfig, Share, Store, Value,
    archive, backend::file::FileBackend,
};

use crate::{fake_store::FakeStore, seal::Seal, watchword::Person};

/// A store with one secret in a file, and the share that opens it.
fn store_in(file: &Path) -> String {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::new(FileBackend::open(file).unwrap(), Config::default());
        let key = RootKey::generate().unwrap();
        let share = key.split(SealConfig::default()).unwrap()[0].to_hex().to_string();
        store.initialize(&key, &Custody::default(), 0).await.unwrap();
        store.unseal(key).await.unwrap();
        let meta = Meta {
            author: "ann".into(),
            content_type: ContentType::Binary,
            created: 0,
            about: None,
        };
        let value = Value::new(b"of the shop".to_vec());
        let path = "shop/db".parse().unwrap();
        store.write(&path, &value, &meta, Precondition::Create).await.unwrap();
        share
    })
}

fn value_in(file: &Path, share: &str) -> Vec<u8> {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::new(FileBackend::open(file).unwrap(), Config::default());
        let key = RootKey::combine(&[Share::parse(share).unwrap()]).unwrap();
        store.unseal(key).await.unwrap();
        let secret = store.read(&"shop/db".parse().unwrap(), None).await.unwrap();
        secret.value.expose_secret().to_vec()
    })
}

fn backup_of(file: &Path) -> Vec<u8> {
    let runtime = Runtime::new().unwrap();
    let bytes = RefCell::new(Vec::new());
    let sink = sink::unfold((), |(), piece: Vec<u8>| {
        bytes.borrow_mut().extend(piece);
        async { Ok::<_, io::Error>(()) }
    });
    let backend = FileBackend::open(file).unwrap();
    runtime.block_on(archive::write(&backend, sink)).unwrap();
    bytes.into_inner()
}

#[test]
fn a_backup_is_checked_and_is_its_owners() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store_in(&ann.path("store"));
    let backup = backup_of(&ann.path("store"));
    store.state().seal.archive = backup.clone();
    let file = ann.path("store.backup");

    let said = ann.runs(&["store", "backup", "--file", file.to_str().unwrap()]);
    let piped = ann.runs(&["store", "backup", "-f", "-"]);

    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.stderr.ends_with(": 3 records\n"), "{said:?}");
    assert_eq!(fs::read(&file).unwrap(), backup);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(piped.stdout, backup);
}

#[test]
fn a_backup_that_is_cut_off_is_no_file() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store_in(&ann.path("store"));
    let mut backup = backup_of(&ann.path("store"));
    backup.truncate(backup.len() - 1);
    store.state().seal.archive = backup;
    let file = ann.file("store.backup", b"of yesterday");

    let said = ann.runs(&["store", "backup", "--file", file.to_str().unwrap()]);

    assert_eq!(said.status, 1);
    assert!(said.stderr.starts_with("error: what came is no whole backup: "), "{said:?}");
    assert_eq!(fs::read(&file).unwrap(), b"of yesterday");
}

#[test]
fn a_restoration_sends_what_was_checked_and_nothing_else() {
    let store = FakeStore::start();
    store.state().seal = Seal::none();
    let ann = Person::at(&store);
    store_in(&ann.path("store"));
    let backup = backup_of(&ann.path("store"));
    let mut changed = backup.clone();
    changed[backup.len() / 2] ^= 1;
    let (good, bad) = (ann.file("good", &backup), ann.file("bad", &changed));

    let refused = ann.runs(&["store", "restore", "--file", bad.to_str().unwrap()]);
    let sent = store.state().requests.len();
    let restored = ann.runs(&["store", "restore", "--file", good.to_str().unwrap()]);

    assert_eq!((refused.status, sent), (1, 0), "{refused:?}");
    assert_eq!(restored.status, 0, "{restored:?}");
    assert_eq!(store.only_request().header(http::header::EXPECT), "100-continue");
    assert!(store.state().seal.archive == backup);
    assert_eq!(store.only_request().header(http::header::CONTENT_TYPE), "application/octet-stream");
}

#[test]
fn a_store_that_moves_opens_with_the_same_share() {
    let ann = Person::without_a_store();
    let (old, new) = (ann.path("old.redb"), ann.path("new.redb"));
    let share = store_in(&old);
    let [from, to] = [&old, &new].map(|path| format!("file:{}", path.display()));
    let words = ["store", "migrate", "--from", &from, "--to", &to];

    let moved = ann.runs(&words);
    let again = ann.runs(&words);

    assert_eq!(moved.status, 0, "{moved:?}");
    assert!(moved.stderr.starts_with("migrated 3 records; "), "{moved:?}");
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("it has been migrated"), "{again:?}");
    assert_eq!(value_in(&new, &share), b"of the shop");
    assert_eq!(value_in(&old, &share), b"of the shop");
}

#[test]
fn a_place_that_is_not_there_is_not_made() {
    let ann = Person::without_a_store();
    let (old, new) = (ann.path("old.redb"), ann.path("new.redb"));
    let [from, to] = [&old, &new].map(|path| format!("file:{}", path.display()));

    let said = ann.runs(&["store", "migrate", "--from", &from, "--to", &to]);

    assert_eq!(said.status, 1);
    assert!(said.stderr.starts_with("error: there is no file `"), "{said:?}");
    assert!(!old.exists() && !new.exists());
}
