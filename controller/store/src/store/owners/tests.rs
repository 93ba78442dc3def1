use futures::executor::block_on;

use super::*;
use crate::backend::memory::MemoryBackend;
use crate::{Config, ContentType, Custody, Meta, Precondition, RootKey, Share, Value};

const OLD: &str = "11111111-1111-4111-8111-111111111111";
const NEW: &str = "22222222-2222-4222-8222-222222222222";

fn replica(backend: &MemoryBackend) -> Store<MemoryBackend> {
    let root_key = || RootKey::combine(&[Share::parse(&"5c".repeat(32)).unwrap()]).unwrap();
    let store = Store::new(backend.clone(), Config::default());
    block_on(async {
        store.initialize(&root_key(), &Custody::default(), 1).await.unwrap();
        store.unseal(root_key()).await.unwrap();
    });
    store
}

fn record(store: &Store<MemoryBackend>, uid: &str) -> Result<(), NamespaceError> {
    let standing = block_on(store.standing("shop", uid)).unwrap();
    block_on(store.record_namespace("shop", uid, &standing))
}

fn write(store: &Store<MemoryBackend>, path: &str) {
    let meta =
        Meta { author: String::new(), content_type: ContentType::Text, created: 1, about: None };
    let value = Value::new(b"v".to_vec());
    block_on(store.write(&path.parse().unwrap(), &value, &meta, Precondition::Any)).unwrap();
}

fn other() -> Standing {
    Standing::Other { recorded: OLD.to_owned() }
}

#[test]
fn what_one_replica_records_the_other_knows() {
    let backend = MemoryBackend::default();
    let (one, two) = (replica(&backend), replica(&backend));
    assert_eq!(block_on(one.standing("shop", OLD)).unwrap(), Standing::First);

    record(&one, OLD).unwrap();

    for store in [&one, &two] {
        assert_eq!(block_on(store.standing("shop", OLD)).unwrap(), Standing::Same);
        assert_eq!(block_on(store.standing("shop", NEW)).unwrap(), other());
        assert_eq!(block_on(store.standing("bank", NEW)).unwrap(), Standing::First);
    }
}

#[test]
fn a_uid_is_replaced_only_by_who_knew_it() {
    let backend = MemoryBackend::default();
    let (one, two) = (replica(&backend), replica(&backend));
    record(&one, OLD).unwrap();

    // Looked before the other replica recorded.
    let late = block_on(two.record_namespace("shop", NEW, &Standing::First));
    assert!(matches!(late, Err(NamespaceError::Changed)), "{late:?}");

    block_on(two.record_namespace("shop", NEW, &other())).unwrap();
    assert_eq!(
        block_on(one.standing("shop", OLD)).unwrap(),
        Standing::Same,
        "as long as a replica says that the old uid lives, nobody can have replaced it"
    );
    assert_eq!(block_on(one.standing("shop", NEW)).unwrap(), Standing::Same);
    assert!(matches!(block_on(one.standing("shop", OLD)).unwrap(), Standing::Other { .. }));
}

#[test]
fn a_sealed_store_says_nothing_and_remembers_nothing() {
    let store = replica(&MemoryBackend::default());
    record(&store, OLD).unwrap();

    store.seal();

    assert!(matches!(block_on(store.standing("shop", OLD)), Err(NamespaceError::Sealed)));
    assert!(store.lock_owners().known.is_none());
}

#[test]
fn an_object_that_was_put_back_or_removed_is_refused() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    record(&store, OLD).unwrap();
    let saved = backend.objects();
    block_on(store.record_namespace("shop", NEW, &other())).unwrap();

    let name = ObjectName::namespaces();
    for older in [saved.get(&name).cloned(), None] {
        block_on(backend.delete(&name, None)).unwrap();
        if let Some(bytes) = older {
            block_on(backend.create(&name, &bytes)).unwrap();
        }
        let looked = block_on(store.standing("shop", OLD));
        assert!(
            matches!(looked, Err(NamespaceError::Access(AccessError::RolledBack { .. }))),
            "{looked:?}"
        );
    }
}

#[test]
fn whether_anything_lies_below_a_folder_is_seen_as_it_changes() {
    let store = replica(&MemoryBackend::default());
    let folder: SecretPath = "shop".parse().unwrap();
    let has_any = || block_on(store.has_any_below(&folder)).unwrap();
    write(&store, "shopping/db");
    write(&store, "shop");
    assert!(!has_any(), "neither of the two lies below");

    write(&store, "shop/a");
    write(&store, "shop/b");
    assert!(has_any());
    block_on(store.delete(&"shop/a".parse().unwrap())).unwrap();
    assert!(has_any(), "the secret that was looked at is gone, another is not");
    block_on(store.delete(&"shop/b".parse().unwrap())).unwrap();
    assert!(!has_any());
}

#[test]
fn a_full_object_forgets_namespaces_without_secrets_first() {
    let store = replica(&MemoryBackend::default());
    write(&store, "used/db");
    let unused = (0..MAX_NAMESPACES).map(|number| format!("unused{number}"));
    let names = unused.chain(["used".to_owned()]);
    let mut uids = Uids(names.map(|name| (name, OLD.to_owned())).collect());

    block_on(store.forget_unused(&mut uids)).unwrap();

    assert_eq!(uids.0.keys().collect::<Vec<_>>(), ["used"]);
}
