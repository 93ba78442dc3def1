//! Rotating, rewrapping, retiring, beside writers, crashes and replicas that know less.

use std::task::{Context, Poll, Waker};

use futures::TryStreamExt;

use super::interposed::Interposed;
use super::*;
use crate::record::{ParseRecordError, Record};

/// The terms of all records.
fn terms_in_use(backend: &MemoryBackend) -> Vec<u32> {
    let mut terms: Vec<u32> = backend
        .objects()
        .values()
        .filter_map(|bytes| Some(Record::parse(bytes).ok()?.term()))
        .collect();
    terms.sort_unstable();
    terms.dedup();
    terms
}

fn rewrap<B: Backend>(store: &Store<B>) -> Result<Rewrapped, RewrapError> {
    block_on(store.rewrap(|_| {}))
}

/// Two versions of one path, a tombstone, and the uid of a namespace.
fn filled(store: &Store<MemoryBackend>) {
    put(store, b"one").unwrap();
    put(store, b"two").unwrap();
    let deleted: SecretPath = "shop/old".parse().unwrap();
    block_on(async {
        let value = Value::new(b"gone".to_vec());
        store.write(&deleted, &value, &meta(), Precondition::Any).await.unwrap();
        store.delete(&deleted).await.unwrap();
        store.record_namespace("shop", "uid", &Standing::First).await.unwrap();
    });
}

#[test]
fn rewrapping_moves_every_record_once_and_changes_nothing_else() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    filled(&store);
    block_on(store.rotate(2)).unwrap();
    let seen = Mutex::new(Vec::new());

    let end = block_on(store.rewrap(|state| seen.lock().unwrap().push(state))).unwrap();

    // Two heads, two versions, the namespaces.
    assert_eq!(end, Rewrapped { done: 3, moved: 5, total: 3 });
    assert_eq!(seen.lock().unwrap().last(), Some(&end));
    assert_eq!(seen.lock().unwrap().len(), 3);
    assert_eq!(terms_in_use(&backend), [2]);
    assert_eq!(rewrap(&store).unwrap().moved, 0);
    for store in [&store, &replica(&backend)] {
        assert_eq!(get(store), Some((2, b"two".to_vec())));
        assert_eq!(block_on(store.versions(&path())).unwrap().len(), 2);
        assert_eq!(block_on(store.standing("shop", "uid")).unwrap(), Standing::Same);
    }
    assert_eq!(put(&store, b"three").unwrap(), 3);
}

#[test]
fn a_saved_copy_of_a_deleted_record_opens_before_older_terms_are_retired_and_not_after() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"hunter2").unwrap();
    let saved = backend.objects();
    let (name, copy) = saved.iter().find(|(name, _)| name.kind() == ObjectKind::Version).unwrap();
    let opens = || {
        let keys = store.keys().unwrap();
        let opened = Record::parse(copy).unwrap().open_value(&keys.keyring, name);
        opened.map(|value| value.to_vec())
    };
    block_on(store.delete(&path())).unwrap();
    block_on(store.rotate(2)).unwrap();
    rewrap(&store).unwrap();
    assert_eq!(opens().unwrap(), b"hunter2");

    assert_eq!(block_on(store.retire()).unwrap(), [1]);

    assert_eq!(opens().unwrap_err(), OpenError::FindTerm { term: 1 });
    assert_eq!(store.terms().unwrap(), [Term { term: 2, created: 2 }]);
    // Put back whole, it is refused by a store that has just started too.
    for (name, bytes) in saved.iter().filter(|(name, _)| name.kind() != ObjectKind::Keyring) {
        backend.tamper(name, Some(bytes.clone()));
    }
    assert!(matches!(
        block_on(replica(&backend).read(&path(), None)),
        Err(ReadError::Access { source: AccessError::Damaged { .. }, .. })
    ));
}

#[test]
fn terms_that_are_needed_are_not_retired() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    filled(&store);
    assert!(block_on(store.retire()).unwrap().is_empty(), "there is one term only");
    block_on(store.rotate(2)).unwrap();

    assert!(matches!(block_on(store.retire()), Err(RetireError::Needed { term: 1, .. })));

    assert_eq!(get(&replica(&backend)), Some((2, b"two".to_vec())));
    rewrap(&store).unwrap();
    assert_eq!(block_on(store.retire()).unwrap(), [1]);
    assert_eq!(get(&replica(&backend)), Some((2, b"two".to_vec())));
}

#[test]
fn one_version_of_an_older_term_is_enough_to_keep_it() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    block_on(store.rotate(2)).unwrap();
    // The head and the new version are of the new term.
    put(&store, b"two").unwrap();
    assert_eq!(terms_in_use(&backend), [1, 2]);

    assert!(matches!(block_on(store.retire()), Err(RetireError::Needed { term: 1, .. })));
}

#[test]
fn a_rewrapping_that_crashes_anywhere_is_harmless_and_goes_on() {
    for failure in [Failure::Before, Failure::After] {
        for changes in 0.. {
            let backend = MemoryBackend::default();
            let store = replica(&backend);
            filled(&store);
            block_on(store.rotate(2)).unwrap();
            let before = backend.changes();
            backend.fail_after(changes, failure);
            let finished = rewrap(&store).is_ok();
            let crashed = backend.changes() - before > changes;
            backend.heal();
            drop(store);

            let after = replica(&backend);
            assert_eq!(get(&after), Some((2, b"two".to_vec())));
            rewrap(&after).unwrap();
            assert_eq!(terms_in_use(&backend), [2]);
            assert_eq!(block_on(after.retire()).unwrap(), [1]);
            assert_eq!(get(&replica(&backend)), Some((2, b"two".to_vec())));
            assert_eq!(put(&after, b"three").unwrap(), 3);

            if !crashed {
                assert!(finished && changes > 3);
                break;
            }
        }
    }
}

#[test]
fn what_goes_through_the_whole_store_comes_to_its_end_though_answers_are_lost_now_and_then() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    for number in 0..50 {
        let path: SecretPath = format!("shop/{number}").parse().unwrap();
        let value = Value::new(b"x".to_vec());
        block_on(store.write(&path, &value, &meta(), Precondition::Any)).unwrap();
    }
    block_on(store.rotate(2)).unwrap();

    backend.leave_unanswered(17);
    let rewrapped = rewrap(&store).unwrap();
    backend.leave_unanswered(17);
    let retired = block_on(store.retire()).unwrap();
    backend.leave_unanswered(17);
    let swept = block_on(store.sweep()).unwrap();
    backend.leave_unanswered(17);
    let verified: Vec<_> =
        block_on(async { store.verify().await.unwrap().try_collect().await.unwrap() });

    assert_eq!(rewrapped.done, 51);
    assert_eq!(terms_in_use(&backend), [2]);
    assert_eq!((retired, swept), (vec![1], 0));
    // Heads, versions and the keyring.
    assert_eq!(verified.len(), 101);
}

#[test]
fn a_rewrapping_that_is_dropped_at_any_await_is_harmless_and_goes_on() {
    for polls in 0.. {
        let backend = MemoryBackend::default();
        let plain = replica(&backend);
        filled(&plain);
        block_on(plain.rotate(2)).unwrap();
        let store = Store::new(Interposed::new(&backend), config());
        block_on(store.unseal(root_key())).unwrap();
        let mut rewrapping = Box::pin(store.rewrap(|_| {}));
        let mut context = Context::from_waker(Waker::noop());
        let finished = (0..polls)
            .any(|_| matches!(rewrapping.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
        drop(rewrapping);

        assert_eq!(get(&replica(&backend)), Some((2, b"two".to_vec())));
        rewrap(&store).unwrap();
        assert_eq!(terms_in_use(&backend), [2]);

        if finished {
            assert!(polls > 3);
            break;
        }
    }
}

#[test]
fn a_retiring_that_crashes_destroys_everything_or_nothing() {
    for failure in [Failure::Before, Failure::After] {
        let backend = MemoryBackend::default();
        let store = replica(&backend);
        filled(&store);
        block_on(store.rotate(2)).unwrap();
        rewrap(&store).unwrap();
        backend.fail_after(0, failure);

        assert!(block_on(store.retire()).is_err());

        backend.heal();
        assert_eq!(get(&store), Some((2, b"two".to_vec())));
        let after = replica(&backend);
        assert_eq!(get(&after), Some((2, b"two".to_vec())));
        block_on(after.retire()).unwrap();
        assert_eq!(after.terms().unwrap().len(), 1);
    }
}

#[test]
fn a_replica_that_has_not_heard_of_the_new_term_writes_under_it() {
    let backend = MemoryBackend::default();
    let (a, b) = (replica(&backend), replica(&backend));
    put(&b, b"one").unwrap();
    block_on(a.rotate(2)).unwrap();
    rewrap(&a).unwrap();
    let new: SecretPath = "shop/new".parse().unwrap();

    // One path that it knows, and one that nobody does.
    assert_eq!(put(&b, b"two").unwrap(), 2);
    let value = Value::new(b"x".to_vec());
    block_on(b.write(&new, &value, &meta(), Precondition::Create)).unwrap();
    block_on(b.delete(&new)).unwrap();

    assert_eq!(terms_in_use(&backend), [2]);
    assert_eq!(block_on(a.retire()).unwrap(), [1]);
    assert_eq!(get(&b), Some((2, b"two".to_vec())));
}

#[test]
fn what_a_replica_keeps_in_memory_does_not_outlive_its_term() {
    let backend = MemoryBackend::default();
    let (a, b) = (replica(&backend), replica(&backend));
    put(&a, b"one").unwrap();
    assert_eq!(get(&b), Some((1, b"one".to_vec())), "now its ciphertext is in memory");
    block_on(a.rotate(2)).unwrap();
    rewrap(&a).unwrap();
    block_on(a.retire()).unwrap();

    block_on(b.refresh()).unwrap();

    assert_eq!(get(&b), Some((1, b"one".to_vec())));
}

/// What another replica does while a writer is between two steps.
fn end_the_first_term(backend: &MemoryBackend) -> impl FnOnce() + Send + 'static {
    let other = replica(backend);
    move || {
        block_on(other.rotate(2)).unwrap();
        rewrap(&other).unwrap();
        assert_eq!(block_on(other.retire()).unwrap(), [1]);
    }
}

#[rstest]
#[case::a_first_write(None, ObjectKind::Head)]
#[case::a_first_write_before_its_version(None, ObjectKind::Version)]
#[case::a_change(Some("one"), ObjectKind::Head)]
#[case::a_change_before_its_version(Some("one"), ObjectKind::Version)]
fn a_write_that_is_under_way_while_its_term_ends_is_not_lost(
    #[case] before: Option<&str>,
    #[case] kind: ObjectKind,
) {
    let backend = MemoryBackend::default();
    let plain = replica(&backend);
    if let Some(value) = before {
        put(&plain, value.as_bytes()).unwrap();
    }
    let interposed = Interposed::new(&backend);
    let store = Store::new(interposed.clone(), config());
    block_on(store.unseal(root_key())).unwrap();
    interposed.before_change(kind, end_the_first_term(&backend));

    let value = Value::new(b"acknowledged".to_vec());
    block_on(store.write(&path(), &value, &meta(), Precondition::Any)).unwrap();

    let secret = get(&replica(&backend)).unwrap();
    assert_eq!(secret.1, b"acknowledged");
    let listed = block_on(replica(&backend).list(None)).unwrap().complete().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(block_on(store.read(&path(), None)).ok().unwrap().version, secret.0);
}

// The rest of a write that nobody acknowledged: its replica stood still while the term ended, made
// the head, and was gone before it could look at the keyring again.
#[test]
fn a_head_of_a_term_that_is_gone_is_named_beside_what_can_be_listed() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let orphan: SecretPath = "shop/orphan".parse().unwrap();
    let value = Value::new(b"x".to_vec());
    block_on(store.write(&orphan, &value, &meta(), Precondition::Any)).unwrap();
    let head = store.keys().unwrap().keyring.head_name(&orphan);
    let bytes = backend.objects()[&head].clone();
    for name in backend.objects().into_keys().filter(|name| name.head_of() == head) {
        backend.tamper(&name, None);
    }
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    end_the_first_term(&backend)();
    backend.tamper(&head, Some(bytes));

    let fresh = replica(&backend);
    let listing = block_on(fresh.list(None)).unwrap();
    let verified: Vec<Verified> =
        block_on(async { fresh.verify().await.unwrap().try_collect().await.unwrap() });

    assert_eq!(listing.entries.iter().map(|entry| &entry.path).collect::<Vec<_>>(), [&path()]);
    let unreadable: Vec<_> = listing.unreadable.iter().map(AccessError::record).collect();
    assert_eq!(unreadable, [Some(&head)]);
    assert!(matches!(listing.complete(), Err(ListError::Access(_))));
    let damaged: Vec<_> = verified.iter().filter(|line| line.damage.is_some()).collect();
    assert_eq!(damaged.iter().map(|line| &line.object).collect::<Vec<_>>(), [&head]);
    // It could be a secret of this folder, and of no other that has one.
    assert!(block_on(fresh.has_any_below(&"elsewhere".parse().unwrap())).is_err());
    assert!(block_on(fresh.has_any_below(&"shop".parse().unwrap())).unwrap());
}

#[test]
fn a_namespace_that_is_recorded_while_its_term_ends_is_not_lost() {
    let backend = MemoryBackend::default();
    replica(&backend);
    let interposed = Interposed::new(&backend);
    let store = Store::new(interposed.clone(), config());
    block_on(store.unseal(root_key())).unwrap();
    interposed.before_change(ObjectKind::Namespaces, end_the_first_term(&backend));

    block_on(store.record_namespace("shop", "uid", &Standing::First)).unwrap();

    let standing = block_on(replica(&backend).standing("shop", "uid")).unwrap();
    assert_eq!(standing, Standing::Same);
}

#[test]
fn a_head_that_was_put_back_is_named_and_left_and_all_others_are_moved() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    filled(&store);
    let before = backend.objects();
    put(&store, b"three").unwrap();
    let head = store.keys().unwrap().keyring.head_name(&path());
    backend.tamper(&head, Some(before[&head].clone()));
    block_on(store.rotate(2)).unwrap();
    let seen = Mutex::new(Vec::new());

    let error = block_on(store.rewrap(|state| seen.lock().unwrap().push(state))).unwrap_err();

    assert!(matches!(error, RewrapError::Access(AccessError::RolledBack { .. })), "{error:?}");
    assert_eq!(error.record(), Some(&head));
    assert_eq!(seen.lock().unwrap().last().unwrap().done, 3);
    let of_the_first_term = backend.objects().into_iter().filter(|(name, bytes)| {
        name.kind() != ObjectKind::Keyring && Record::parse(bytes).unwrap().term() == 1
    });
    assert!(of_the_first_term.map(|(name, _)| name.head_of()).all(|of| of == head));
}

#[test]
fn a_damaged_record_is_named_and_left_and_keeps_its_term_alive() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    filled(&store);
    block_on(store.rotate(2)).unwrap();
    let objects = backend.objects();
    let version = objects.keys().find(|name| name.kind() == ObjectKind::Version).unwrap();
    let mut bytes = objects[version].clone();
    *bytes.last_mut().unwrap() ^= 1;
    backend.tamper(version, Some(bytes.clone()));

    let Err(RewrapError::Access(AccessError::Damaged { object, source })) = rewrap(&store) else {
        panic!("a damaged record was moved");
    };

    assert_eq!((&object, source), (version, OpenError::Decrypt));
    assert_eq!(backend.objects()[version], bytes);
    let Err(RetireError::Access(AccessError::Damaged { object, .. })) = block_on(store.retire())
    else {
        panic!("the term of a damaged record was destroyed");
    };
    assert_eq!(object, *version);
    assert_eq!(store.terms().unwrap().len(), 2);
    // Mended, it goes on.
    backend.tamper(version, Some(objects[version].clone()));
    rewrap(&store).unwrap();
    block_on(store.retire()).unwrap();
}

#[test]
fn a_record_of_a_newer_release_is_left_untouched() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    block_on(store.rotate(2)).unwrap();
    let objects = backend.objects();
    let head = objects.keys().find(|name| name.kind() == ObjectKind::Head).unwrap();
    let mut newer = objects[head].clone();
    newer[4] = 2;
    backend.tamper(head, Some(newer.clone()));
    let fresh = replica(&backend);

    let format = OpenError::Parse(ParseRecordError::Format { format: 2 });
    for result in [
        rewrap(&fresh).map(|_| ()).map_err(|error| match error {
            RewrapError::Access(error) => error,
            other => panic!("{other}"),
        }),
        block_on(fresh.retire()).map(|_| ()).map_err(|error| match error {
            RetireError::Access(error) => error,
            other => panic!("{other}"),
        }),
        put(&fresh, b"x").map(|_| ()).map_err(|error| match error {
            WriteError::Access { source, .. } => source,
            other => panic!("{other}"),
        }),
    ] {
        let Err(AccessError::Damaged { object, source }) = result else { panic!("{result:?}") };
        assert_eq!((&object, &source), (head, &format));
    }
    assert_eq!(backend.objects()[head], newer);
}

#[test]
fn sealed_or_rekeyed_replicas_move_and_destroy_nothing() {
    let backend = MemoryBackend::default();
    let (a, b) = (replica(&backend), replica(&backend));
    put(&a, b"one").unwrap();
    block_on(a.rekey(&RootKey::generate().unwrap(), &Custody::default())).unwrap();
    block_on(a.rotate(2)).unwrap();

    assert!(matches!(rewrap(&b), Err(RewrapError::Access(AccessError::Rekeyed))));
    assert!(matches!(block_on(b.retire()), Err(RetireError::Access(AccessError::Rekeyed))));
    b.seal();
    assert!(matches!(rewrap(&b), Err(RewrapError::Sealed)));
    assert!(matches!(block_on(b.retire()), Err(RetireError::Sealed)));
}
