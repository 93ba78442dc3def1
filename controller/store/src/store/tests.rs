use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::backend::BackendError;
use crate::backend::memory::{Failure, MemoryBackend};
use crate::conformance;
use crate::insist::block_on;
use crate::name::{ObjectKind, ObjectName};
use crate::record::OpenError;
use crate::root_key::RootKey;
use crate::seal::Custody;
use crate::share::Share;

mod interposed;
mod sealing;
mod terms;
mod verify;

fn root_key() -> RootKey {
    RootKey::combine(&[Share::parse(&"5c".repeat(32)).unwrap()]).unwrap()
}

fn path() -> SecretPath {
    "shop/db".parse().unwrap()
}

fn meta() -> Meta {
    Meta { author: "grace".to_owned(), content_type: ContentType::Text, created: 1000, about: None }
}

fn config() -> Config {
    Config { keep_versions: NonZeroUsize::new(3).unwrap(), ..Config::default() }
}

/// One more unsealed replica over `backend`, which it initialises if need be.
fn replica(backend: &MemoryBackend) -> Store<MemoryBackend> {
    let store = Store::new(backend.clone(), config());
    block_on(async {
        store.initialize(&root_key(), &Custody::default(), 1).await.unwrap();
        store.unseal(root_key()).await.unwrap();
    });
    store
}

fn put(store: &Store<MemoryBackend>, bytes: &[u8]) -> Result<u64, WriteError> {
    put_if(store, bytes, Precondition::Any)
}

fn put_if(
    store: &Store<MemoryBackend>,
    bytes: &[u8],
    precondition: Precondition,
) -> Result<u64, WriteError> {
    block_on(store.write(&path(), &Value::new(bytes.to_vec()), &meta(), precondition))
}

/// What a read gives: version and bytes, or nothing.
fn get(store: &Store<MemoryBackend>) -> Option<(u64, Vec<u8>)> {
    match block_on(store.read(&path(), None)) {
        Ok(secret) => Some((secret.version, secret.value.expose_secret().to_vec())),
        Err(ReadError::NotFound { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn versions_stored(backend: &MemoryBackend) -> usize {
    backend.objects().keys().filter(|name| name.kind() == ObjectKind::Version).count()
}

#[test]
fn a_back_end_in_memory_conforms() {
    let backend = MemoryBackend::default();

    block_on(conformance::run(|| backend.clone()));
}

#[test]
fn a_back_end_that_makes_everybody_wait_conforms() {
    let backend = MemoryBackend::default();

    block_on(conformance::run(|| interposed::Interposed::new(&backend)));
}

#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let store = replica(&MemoryBackend::default());

    block_on(async {
        let value = Value::new(b"x".to_vec());
        is_send(store.write(&path(), &value, &meta(), Precondition::Any)).await.unwrap();
        is_send(store.read(&path(), None)).await.ok().unwrap();
        is_send(store.list(None)).await.unwrap();
        is_send(store.versions(&path())).await.unwrap();
        is_send(store.delete(&path())).await.unwrap();
        is_send(store.sweep()).await.unwrap();
        is_send(store.rotate(2)).await.unwrap();
        is_send(store.rewrap(|_| {})).await.unwrap();
        is_send(store.retire()).await.unwrap();
        let _ = is_send(is_send(store.verify()).await.ok().unwrap());
    });
}

#[test]
fn a_read_returns_what_was_written_with_its_metadata() {
    let store = replica(&MemoryBackend::default());
    put(&store, b"hunter2\n").unwrap();

    let secret = block_on(store.read(&path(), None)).ok().unwrap();

    assert_eq!(secret.value.expose_secret(), b"hunter2\n");
    assert_eq!(secret.meta, meta());
    assert_eq!(secret.version, 1);
    assert_eq!(
        block_on(store.list(None)).unwrap().complete().unwrap(),
        [Entry {
            author: "grace".to_owned(),
            content_type: ContentType::Text,
            created: 1000,
            path: path(),
            version: 1
        }]
    );
}

#[rstest]
#[case(Precondition::Any, true, true)]
#[case(Precondition::Create, true, false)]
#[case(Precondition::Update, false, true)]
#[case(Precondition::Version(1), false, true)]
#[case(Precondition::Version(2), false, false)]
#[case(Precondition::Version(0), false, false)]
fn preconditions_hold(
    #[case] precondition: Precondition,
    #[case] without_secret: bool,
    #[case] with_version_1: bool,
) {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    assert_eq!(put_if(&store, b"x", precondition).is_ok(), without_secret);

    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"first").unwrap();
    let changes = backend.changes();
    assert_eq!(put_if(&store, b"x", precondition).is_ok(), with_version_1);
    assert_eq!(backend.changes() > changes, with_version_1, "a refused write changes nothing");
}

#[test]
fn a_sealed_store_refuses_everything() {
    let store = replica(&MemoryBackend::default());
    put(&store, b"x").unwrap();

    store.seal();

    assert!(store.is_sealed());
    block_on(async {
        assert!(matches!(store.read(&path(), None).await, Err(ReadError::Sealed)));
        assert!(matches!(store.versions(&path()).await, Err(ReadError::Sealed)));
        assert!(matches!(store.list(None).await, Err(ListError::Sealed)));
        assert!(matches!(store.delete(&path()).await, Err(DeleteError::Sealed)));
        assert!(matches!(store.sweep().await, Err(SweepError::Sealed)));
        assert!(matches!(store.rotate(2).await, Err(RotateError::Sealed)));
    });
    assert!(matches!(put(&store, b"y"), Err(WriteError::Sealed)));
    assert!(store.lock_heads().get(&crate::known_answers::record_name()).is_none());
}

#[test]
fn sealing_forgets_paths_and_ciphertext_but_not_what_was_seen() {
    let store = replica(&MemoryBackend::default());
    put(&store, b"x").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());
    let object = store.lock_heads().get(&name).unwrap().head.versions[0].object.clone();

    store.seal();

    assert!(store.lock_heads().get(&name).is_none());
    assert!(store.lock_versions().get(&object).is_none());
    assert_eq!(store.lock_heads().seen(&name), 1);
}

#[test]
fn a_wrong_key_leaves_an_unsealed_store_unsealed() {
    let store = replica(&MemoryBackend::default());
    put(&store, b"x").unwrap();

    let refused = block_on(store.unseal(RootKey::generate().unwrap()));

    assert!(matches!(refused, Err(UnsealError::WrongKey)));
    assert_eq!(get(&store).unwrap().1, b"x");
}

#[test]
fn a_store_is_initialised_once() {
    let backend = MemoryBackend::default();
    let store = Store::new(backend, config());

    block_on(async {
        assert_eq!(
            store.initialize(&root_key(), &Custody::default(), 1).await.unwrap(),
            Initialized::Now
        );
        assert_eq!(
            store.initialize(&root_key(), &Custody::default(), 2).await.unwrap(),
            Initialized::Before
        );
        assert!(matches!(
            store.initialize(&RootKey::generate().unwrap(), &Custody::default(), 3).await,
            Err(InitializeError::AlreadyInitialized)
        ));
        assert!(store.is_sealed());
    });
}

#[test]
fn values_beyond_the_limit_are_refused() {
    let config = Config { max_value_bytes: 10, ..Config::default() };
    let store = Store::new(MemoryBackend::default(), config);
    block_on(async {
        store.initialize(&root_key(), &Custody::default(), 1).await.unwrap();
        store.unseal(root_key()).await.unwrap();
    });

    assert!(put(&store, &[0; 10]).is_ok());
    assert!(matches!(put(&store, &[0; 11]), Err(WriteError::TooLarge { bytes: 11, limit: 10 })));

    let config = Config { max_value_bytes: usize::MAX, ..Config::default() };
    let store = Store::new(store.backend().clone(), config);
    assert!(matches!(
        put(&store, &vec![0; MAX_VALUE_BYTES + 1]),
        Err(WriteError::TooLarge { limit: MAX_VALUE_BYTES, .. })
    ));
}

#[test]
fn a_hot_read_asks_for_the_head_only() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"x").unwrap();
    let object = block_on(store.versions(&path())).map(|_| ()).ok().and_then(|()| {
        let name = store.keys()?.keyring.head_name(&path());
        Some(store.lock_heads().get(&name)?.head.live()?.object.clone())
    });

    backend.tamper(&object.unwrap(), None);

    assert_eq!(get(&store).unwrap().1, b"x");
}

#[test]
fn no_object_holds_path_author_or_value() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let value = b"canary-5b21aa";
    put(&store, value).unwrap();

    for (name, bytes) in backend.objects() {
        // None of them can be part of an object's name, which is hex and stands in clear.
        for needle in [&value[..], b"shop", b"grace"] {
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "`{name}` holds plaintext");
        }
        assert!(!name.as_str().contains("shop"));
    }
}

#[test]
fn an_older_head_that_is_put_back_is_refused() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"old").unwrap();
    let before = backend.objects();
    put(&store, b"new").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());

    backend.tamper(&name, Some(before[&name].clone()));

    for _ in 0..2 {
        assert!(matches!(
            block_on(store.read(&path(), None)),
            Err(ReadError::Access { source: AccessError::RolledBack { .. }, .. })
        ));
        assert!(matches!(
            put(&store, b"x"),
            Err(WriteError::Access { source: AccessError::RolledBack { .. }, .. })
        ));
        let listing = block_on(store.list(None)).unwrap();
        assert!(listing.entries.is_empty());
        assert!(matches!(listing.unreadable[..], [AccessError::RolledBack { .. }]));
        // Sealing and unsealing does not make it forget.
        store.seal();
        block_on(store.unseal(root_key())).unwrap();
    }
}

#[test]
fn a_list_says_that_it_goes_on_also_where_nothing_is_to_be_listed() {
    let store = replica(&MemoryBackend::default());
    for name in ["a/1", "a/2", "b/3"] {
        let path: SecretPath = name.parse().unwrap();
        let value = Value::new(b"x".to_vec());
        block_on(store.write(&path, &value, &meta(), Precondition::Any)).unwrap();
    }
    let folder: SecretPath = "b".parse().unwrap();
    let moves = AtomicUsize::new(0);

    let listing = block_on(store.list_with_progress(Some(&folder), || {
        moves.fetch_add(1, Ordering::Relaxed);
    }));

    assert_eq!(listing.unwrap().entries.len(), 1);
    assert_eq!(moves.into_inner(), 1 + 3);
}

#[test]
fn a_head_that_was_removed_past_the_store_is_missed() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"x").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());

    backend.tamper(&name, None);

    assert!(matches!(
        block_on(store.read(&path(), None)),
        Err(ReadError::Access { source: AccessError::RolledBack { .. }, .. })
    ));
}

#[test]
fn a_deleted_secret_that_is_put_back_is_refused() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"x").unwrap();
    let before = backend.objects();
    block_on(store.delete(&path())).unwrap();

    for (name, bytes) in before {
        backend.tamper(&name, Some(bytes));
    }

    assert!(matches!(
        block_on(store.read(&path(), None)),
        Err(ReadError::Access { source: AccessError::RolledBack { .. }, .. })
    ));
}

#[test]
fn a_deletion_on_condition_spares_a_version_that_nobody_has_seen() {
    let store = replica(&MemoryBackend::default());
    let seen = put(&store, b"seen").unwrap();
    let newer = put(&store, b"newer").unwrap();

    let refused = block_on(store.delete_if(&path(), Some(seen)));

    assert!(matches!(refused, Err(DeleteError::Changed { newest, .. }) if newest == newer));
    assert_eq!(get(&store), Some((newer, b"newer".to_vec())));
    assert_eq!(block_on(store.delete_if(&path(), Some(newer))).unwrap(), newer);
    assert_eq!(get(&store), None);
}

#[test]
fn an_older_keyring_that_is_put_back_is_refused() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let before = backend.objects();
    block_on(store.rotate(2)).unwrap();

    backend.tamper(&ObjectName::keyring(), Some(before[&ObjectName::keyring()].clone()));

    assert!(matches!(
        block_on(store.rotate(3)),
        Err(RotateError::Access(AccessError::RolledBack { .. }))
    ));
    store.seal();
    assert!(matches!(block_on(store.unseal(root_key())), Err(UnsealError::RolledBack)));
}

#[test]
fn a_swapped_or_damaged_version_is_named_and_nothing_comes_out() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    put(&store, b"two").unwrap();
    let stored = backend.objects();
    let versions: Vec<_> =
        stored.iter().filter(|(name, _)| name.kind() == ObjectKind::Version).collect();
    backend.tamper(versions[0].0, Some(versions[1].1.clone()));
    backend.tamper(versions[1].0, Some(versions[0].1.clone()));
    let fresh = replica(&backend);

    let Err(ReadError::Access { source: AccessError::Damaged { object, source }, .. }) =
        block_on(fresh.read(&path(), None))
    else {
        panic!("a swapped version was read");
    };

    assert_eq!(object, *versions[1].0);
    assert_eq!(source, OpenError::Misplaced { found: versions[0].0.clone() });
}

#[test]
fn a_missing_version_is_an_error_and_not_an_older_value() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    put(&store, b"two").unwrap();
    let newest = backend
        .objects()
        .into_keys()
        .filter(|name| name.kind() == ObjectKind::Version)
        .max()
        .unwrap();
    backend.tamper(&newest, None);

    assert!(matches!(
        block_on(replica(&backend).read(&path(), None)),
        Err(ReadError::Access { source: AccessError::Missing { .. }, .. })
    ));
}

/// What the caller of an operation knows after it, and so what a reader may see.
struct Knowledge {
    /// What may be read now: values, `None` for no secret.
    possible: Vec<Option<Vec<u8>>>,
}

impl Knowledge {
    fn acknowledged(&mut self, now: Option<Vec<u8>>) {
        self.possible = vec![now];
    }

    fn unknown(&mut self, perhaps: Option<Vec<u8>>) {
        if !self.possible.contains(&perhaps) {
            self.possible.push(perhaps);
        }
    }
}

/// How many objects are ahead of their head, or have none.
fn ahead(store: &Store<MemoryBackend>) -> usize {
    let keys = store.keys().unwrap();
    let name = keys.keyring.head_name(&path());
    let head = block_on(store.stored_head(&keys, &name)).unwrap();
    let newest = head.map_or(0, |known| known.head.newest);
    let objects = store.backend().objects();
    objects.keys().filter(|object| object.version_number() > Some(newest)).count()
}

/// Crashes after every number of changes, before and after the change, until none is reached.
fn at_every_crash(
    prepare: impl Fn(&Store<MemoryBackend>),
    operation: impl Fn(&Store<MemoryBackend>) -> bool,
    check: impl Fn(&Store<MemoryBackend>, bool),
) {
    for failure in [Failure::Before, Failure::After] {
        for changes in 0.. {
            let backend = MemoryBackend::default();
            let store = replica(&backend);
            prepare(&store);
            let before = backend.changes();
            backend.fail_after(changes, failure);
            let acknowledged = operation(&store);
            let crashed = backend.changes() - before > changes;
            backend.heal();
            drop(store);

            // A process that starts afterwards, and the clean-up in it.
            let after = replica(&backend);
            check(&after, acknowledged);
            block_on(after.sweep()).unwrap();
            check(&after, acknowledged);
            let live = block_on(after.versions(&path())).map_or(0, |versions| versions.len());
            assert_eq!(versions_stored(&backend), live + ahead(&after), "versions only are left");
            put(&after, b"afterwards").unwrap();
            block_on(after.sweep()).unwrap();
            let live = block_on(after.versions(&path())).unwrap().len();
            assert_eq!(versions_stored(&backend), live, "the sweep leaves versions only");
            assert_eq!(get(&after).unwrap().1, b"afterwards");

            if !crashed {
                assert!(acknowledged && changes > 1);
                break;
            }
        }
    }
}

#[test]
fn a_write_that_crashes_is_whole_or_not_there() {
    at_every_crash(
        |store| {
            for number in 1..=3 {
                put(store, &[number]).unwrap();
            }
        },
        |store| put(store, b"new").is_ok(),
        |store, acknowledged| {
            let (version, value) = get(store).unwrap();
            match value.as_slice() {
                b"new" => assert_eq!(version, 4),
                [3] => assert!(!acknowledged, "an acknowledged write is lost"),
                other => panic!("an older value came back: {other:?}"),
            }
        },
    );
}

#[test]
fn a_first_write_that_crashes_is_whole_or_not_there() {
    at_every_crash(
        |_| {},
        |store| put_if(store, b"new", Precondition::Create).is_ok(),
        |store, acknowledged| match get(store) {
            Some((version, value)) => assert_eq!((version, value.as_slice()), (1, &b"new"[..])),
            None => assert!(!acknowledged, "an acknowledged write is lost"),
        },
    );
}

#[test]
fn a_delete_that_crashes_never_shows_an_older_version() {
    at_every_crash(
        |store| {
            for number in 1..=3 {
                put(store, &[number]).unwrap();
            }
        },
        |store| block_on(store.delete(&path())).is_ok(),
        |store, acknowledged| match get(store) {
            None => {}
            Some((3, value)) if value == [3] => assert!(!acknowledged, "a delete was undone"),
            Some(other) => panic!("an older value came back: {other:?}"),
        },
    );
}

#[test]
fn a_delete_that_could_not_tidy_up_is_finished_by_the_next() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    put(&store, b"two").unwrap();
    backend.fail_after(1, Failure::Before);

    assert!(matches!(block_on(store.delete(&path())), Err(DeleteError::Incomplete { .. })));
    assert_eq!(get(&store), None);
    backend.heal();

    block_on(store.delete(&path())).unwrap();
    assert_eq!(versions_stored(&backend), 0);
    assert!(matches!(block_on(store.delete(&path())), Err(DeleteError::NotFound { .. })));
}

#[test]
fn a_sweep_never_takes_the_object_of_a_writer_under_way() {
    // The writer stops between its two steps, for as long as the sweep takes.
    let backend = MemoryBackend::default();
    let (store, sweeper) = (replica(&backend), replica(&backend));
    put(&store, b"one").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());
    let object = ObjectName::version(&name, 2).unwrap();
    block_on(store.backend().create(&object, b"not read here")).unwrap();

    assert_eq!(block_on(sweeper.sweep()).unwrap(), 0);
    assert_eq!(ahead(&sweeper), 1);

    // Another one was faster: the first will find another head than it read.
    put(&store, b"two").unwrap();
    assert_eq!(block_on(sweeper.sweep()).unwrap(), 1);
    assert_eq!(get(&sweeper), Some((2, b"two".to_vec())));
}

#[test]
fn a_sweep_leaves_the_newest_version_of_a_head_that_was_put_back() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());
    let older = backend.objects()[&name].clone();
    put(&store, b"two").unwrap();
    let newest = backend.objects()[&name].clone();

    // A replica that has never seen the newer head.
    backend.tamper(&name, Some(older));
    assert_eq!(block_on(replica(&backend).sweep()).unwrap(), 0);

    backend.tamper(&name, Some(newest));
    assert_eq!(get(&store), Some((2, b"two".to_vec())));
}

#[test]
fn a_sweep_names_a_head_that_does_not_open_and_sweeps_the_others() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let other: SecretPath = "other/path".parse().unwrap();
    for path in [&path(), &other] {
        block_on(store.write(path, &Value::new(vec![1]), &meta(), Precondition::Any)).unwrap();
        let name = store.keys().unwrap().keyring.head_name(path);
        let leftover = ObjectName::version(&name, 1).unwrap();
        block_on(store.backend().create(&leftover, b"left over")).unwrap();
    }
    let damaged = store.keys().unwrap().keyring.head_name(&other);
    backend.tamper(&damaged, Some(b"not a record".to_vec()));

    let swept = block_on(replica(&backend).sweep());

    let Err(SweepError::Access(error)) = swept else { panic!("{swept:?}") };
    assert_eq!(error.record(), Some(&damaged));
    assert_eq!(versions_stored(&backend), 3, "one of the two leftovers is gone");
}

#[test]
fn a_sweep_leaves_the_versions_of_a_head_that_was_removed_past_the_store() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    put(&store, b"two").unwrap();
    put(&store, b"three").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());
    let head = backend.objects()[&name].clone();
    backend.tamper(&name, None);

    // Replicas that have never seen the head: one tidies up, before and after another writes.
    let (sweeper, writer) = (replica(&backend), replica(&backend));
    assert_eq!(block_on(sweeper.sweep()).unwrap(), 0);
    assert_eq!(put(&writer, b"over it").unwrap(), 1);
    assert_eq!(block_on(writer.sweep()).unwrap(), 0);

    backend.tamper(&name, Some(head));
    assert_eq!(get(&store), Some((3, b"three".to_vec())));
}

#[derive(Clone, Debug)]
enum Event {
    /// Whose replica's next changes fail, after how many.
    Crash(usize, u64, Failure),
    Delete(usize),
    Read(usize),
    Reopen(usize),
    Retire(usize),
    Rewrap(usize),
    Rotate(usize),
    Sweep(usize),
    Write(usize, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..2_usize;
    let failure = prop_oneof![Just(Failure::Before), Just(Failure::After)];
    prop_oneof![
        2 => (who.clone(), 0..4_u64, failure).prop_map(|(who, changes, f)| Event::Crash(who, changes, f)),
        2 => who.clone().prop_map(Event::Delete),
        4 => who.clone().prop_map(Event::Read),
        1 => who.clone().prop_map(Event::Reopen),
        1 => who.clone().prop_map(Event::Retire),
        1 => who.clone().prop_map(Event::Rewrap),
        1 => who.clone().prop_map(Event::Rotate),
        1 => who.clone().prop_map(Event::Sweep),
        6 => (who, any::<u8>()).prop_map(|(who, byte)| Event::Write(who, byte)),
    ]
}

proptest! {
    /// Two replicas, any order of operations, answers that are lost: a read gives what was
    /// acknowledged last, or one of the changes after it whose end nobody was told.
    #[test]
    fn reads_agree_with_what_was_acknowledged(events in proptest::collection::vec(event(), 1..40)) {
        let backend = MemoryBackend::default();
        let mut stores = [replica(&backend), replica(&backend)];
        let mut known = Knowledge { possible: vec![None] };
        let mut highest = 0;
        for event in events {
            match event {
                // Both share the back end, so the failure is the next writer's; every operation
                // that runs under it is followed by its process's end.
                Event::Crash(who, changes, failure) => {
                    backend.fail_after(changes, failure);
                    match put(&stores[who], &[200]) {
                        Ok(_) => known.acknowledged(Some(vec![200])),
                        Err(_) => known.unknown(Some(vec![200])),
                    }
                    backend.heal();
                }
                Event::Delete(who) => match block_on(stores[who].delete(&path())) {
                    Ok(()) | Err(DeleteError::NotFound { .. }) => known.acknowledged(None),
                    Err(error) => panic!("{error:?}"),
                },
                Event::Read(who) => {
                    let read = get(&stores[who]);
                    let value = read.as_ref().map(|(_, value)| value.clone());
                    prop_assert!(known.possible.contains(&value), "read {value:?}");
                    // What has been read is not undone.
                    known.acknowledged(value);
                    if let Some((version, _)) = read {
                        prop_assert!(version >= highest);
                        highest = version;
                    }
                }
                Event::Reopen(who) => stores[who] = replica(&backend),
                Event::Retire(who) => match block_on(stores[who].retire()) {
                    Ok(_) | Err(RetireError::Needed { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                },
                Event::Rewrap(who) => {
                    block_on(stores[who].rewrap(|_| {})).unwrap();
                }
                Event::Rotate(who) => {
                    block_on(stores[who].rotate(2)).unwrap();
                }
                Event::Sweep(who) => {
                    block_on(stores[who].sweep()).unwrap();
                }
                Event::Write(who, byte) => {
                    let version = put(&stores[who], &[byte]).unwrap();
                    prop_assert!(version > highest);
                    highest = version;
                    known.acknowledged(Some(vec![byte]));
                }
            }
        }
        let last = [get(&stores[0]), get(&stores[1])];
        prop_assert_eq!(&last[0], &last[1]);
        prop_assert!(known.possible.contains(&last[0].clone().map(|(_, value)| value)));
    }
}

#[test]
fn an_answer_that_was_lost_and_asked_for_again_counts_once() {
    // A client that repeats a replace whose answer was lost is told of a conflict with itself.
    struct Repeats(MemoryBackend);
    impl Backend for Repeats {
        fn is_current(&self, name: &ObjectName, revision: &crate::backend::Revision) -> bool {
            self.0.is_current(name, revision)
        }
        fn get(
            &self,
            name: &ObjectName,
        ) -> impl Future<Output = Result<Option<crate::backend::Stored>, BackendError>> + Send
        {
            self.0.get(name)
        }
        fn create(
            &self,
            name: &ObjectName,
            bytes: &[u8],
        ) -> impl Future<Output = Result<crate::backend::Revision, BackendError>> + Send {
            self.0.create(name, bytes)
        }
        async fn replace(
            &self,
            name: &ObjectName,
            bytes: &[u8],
            revision: &crate::backend::Revision,
        ) -> Result<crate::backend::Revision, BackendError> {
            self.0.replace(name, bytes, revision).await?;
            self.0.replace(name, bytes, revision).await
        }
        fn delete(
            &self,
            name: &ObjectName,
            revision: Option<&crate::backend::Revision>,
        ) -> impl Future<Output = Result<(), BackendError>> + Send {
            self.0.delete(name, revision)
        }
        fn list(
            &self,
            kind: ObjectKind,
        ) -> impl Future<Output = Result<Vec<crate::backend::Listed>, BackendError>> + Send
        {
            self.0.list(kind)
        }
    }
    let backend = MemoryBackend::default();
    put(&replica(&backend), b"one").unwrap();
    let store = Store::new(Repeats(backend.clone()), config());
    block_on(store.unseal(root_key())).unwrap();

    let value = Value::new(b"two".to_vec());
    let version = block_on(store.write(&path(), &value, &meta(), Precondition::Version(1)));

    assert_eq!(version.unwrap(), 2);
    assert_eq!(get(&replica(&backend)), Some((2, b"two".to_vec())));
    assert_eq!(versions_stored(&backend), 2);
}
