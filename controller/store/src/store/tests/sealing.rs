//! Rekeying, and what replicas notice of it.

use super::*;
use crate::seal::{Intent, SealConfig, SealState};

fn custody() -> Custody {
    let mut custody = Custody::in_the_clear(SealConfig::new(3, 2, 0).unwrap());
    custody.pgp_fingerprints = vec!["f0".to_owned()];
    custody
}

#[test]
fn a_rekeyed_store_opens_with_the_new_key_only_and_keeps_everything() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"x").unwrap();
    let seed = store.audit_seed().unwrap();
    let new = RootKey::generate().unwrap();

    block_on(store.rekey(&new, &custody())).unwrap();

    // This replica goes on …
    put(&store, b"y").unwrap();
    assert!(store.root_key().unwrap().is_same(&new));
    block_on(store.rotate(2)).unwrap();
    // … and a new one needs the new key.
    let fresh = Store::new(backend.clone(), config());
    assert!(matches!(block_on(fresh.unseal(root_key())), Err(UnsealError::WrongKey)));
    assert_eq!(block_on(fresh.custody()).unwrap().unwrap(), custody());
    block_on(fresh.unseal(new)).unwrap();
    assert_eq!(get(&fresh), Some((2, b"y".to_vec())));
    assert_eq!(block_on(fresh.custody()).unwrap().unwrap(), custody());
    assert!(*fresh.audit_seed().unwrap() == *seed);
}

#[test]
fn a_replica_whose_root_key_was_replaced_elsewhere_says_so_and_goes_on_with_the_new_one() {
    let backend = MemoryBackend::default();
    let (a, b) = (replica(&backend), replica(&backend));
    put(&a, b"one").unwrap();
    let new = RootKey::generate().unwrap();
    let handed_over = new.copy();

    block_on(a.rekey(&new, &custody())).unwrap();

    // What it has still opens what it knows …
    assert_eq!(get(&b), Some((1, b"one".to_vec())));
    assert!(matches!(block_on(b.refresh()), Err(AccessError::Rekeyed)));
    assert!(matches!(block_on(b.custody()), Err(AccessError::Rekeyed)));
    assert!(matches!(block_on(b.rotate(2)), Err(RotateError::Access(AccessError::Rekeyed))));
    assert!(matches!(
        block_on(b.rekey(&root_key(), &custody())),
        Err(RekeyError::Access(AccessError::Rekeyed))
    ));
    // … but not what is written under a term that came later.
    block_on(a.rotate(2)).unwrap();
    put(&a, b"two").unwrap();
    assert!(matches!(
        block_on(b.read(&path(), None)),
        Err(ReadError::Access { source: AccessError::Rekeyed, .. })
    ));
    block_on(b.unseal(handed_over)).unwrap();
    assert_eq!(get(&b), Some((2, b"two".to_vec())));
    block_on(b.refresh()).unwrap();
}

#[test]
fn a_keyring_that_was_tampered_with_is_not_taken_for_a_rekeyed_one() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let mut bytes = backend.objects()[&ObjectName::keyring()].clone();
    *bytes.last_mut().unwrap() ^= 1;

    backend.tamper(&ObjectName::keyring(), Some(bytes));

    assert!(matches!(block_on(store.refresh()), Err(AccessError::Keyring(_))));
}

#[test]
fn a_custody_that_was_tampered_with_is_refused_by_whoever_has_the_key() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    let bytes = backend.objects()[&ObjectName::keyring()].clone();
    let at = bytes.windows(11).position(|window| window == b"\"threshold\"").unwrap() + 12;
    let mut changed = bytes.clone();
    changed[at] = b'2';

    backend.tamper(&ObjectName::keyring(), Some(changed));

    assert!(matches!(block_on(store.custody()), Err(AccessError::Keyring(_))));
    store.seal();
    assert!(matches!(block_on(store.unseal(root_key())), Err(UnsealError::WrongKey)));
}

#[test]
fn a_rekeying_that_crashes_leaves_the_old_key_or_the_new_one() {
    for (failure, happened) in [(Failure::Before, false), (Failure::After, true)] {
        let backend = MemoryBackend::default();
        let store = replica(&backend);
        put(&store, b"x").unwrap();
        let new = RootKey::generate().unwrap();
        backend.fail_after(0, failure);

        // When the answer is lost, a look at the keyring tells.
        assert_eq!(block_on(store.rekey(&new, &custody())).is_ok(), happened);

        backend.heal();
        let fresh = Store::new(backend.clone(), config());
        block_on(fresh.unseal(if happened { new } else { root_key() })).unwrap();
        assert_eq!(get(&fresh).unwrap().1, b"x");
        assert_eq!(get(&store).unwrap().1, b"x");
    }
}

#[test]
fn a_rekeying_of_which_nobody_can_say_whether_it_happened_says_so() {
    let backend = MemoryBackend::default();
    replica(&backend);
    let interposed = interposed::Interposed::new(&backend);
    let store = Store::new(interposed.clone(), config());
    block_on(store.unseal(root_key())).unwrap();
    interposed.go_deaf_at_change(ObjectKind::Keyring);
    let new = RootKey::generate().unwrap();

    let uncertain = block_on(store.rekey(&new, &custody()));

    assert!(matches!(uncertain, Err(RekeyError::Uncertain(_))));
    // Here it had happened.
    block_on(Store::new(backend, config()).unseal(new)).unwrap();
}

#[test]
fn a_sealed_store_has_no_keys_to_give_and_cannot_be_rekeyed() {
    let store = replica(&MemoryBackend::default());
    assert!(store.root_key().unwrap().is_same(&root_key()));

    store.seal();

    assert!(store.root_key().is_none());
    assert!(store.audit_seed().is_none());
    assert!(store.terms().is_none());
    assert!(matches!(block_on(store.rekey(&root_key(), &custody())), Err(RekeyError::Sealed)));
    block_on(store.refresh()).unwrap();
}

#[test]
fn a_store_that_is_not_initialised_has_no_custody() {
    let store = Store::new(MemoryBackend::default(), config());

    assert_eq!(block_on(store.custody()).unwrap(), None);
    assert!(matches!(block_on(store.unseal(root_key())), Err(UnsealError::NotInitialized)));
}

#[test]
fn of_two_replicas_that_change_the_seal_state_one_wins() {
    let backend = MemoryBackend::default();
    let (a, b) = (replica(&backend), replica(&backend));
    assert_eq!(block_on(a.seal_state()).unwrap(), None);
    let mut state = SealState { intent: Intent::Sealed, ..SealState::default() };

    let first = block_on(a.set_seal_state(&state, None)).unwrap();

    assert_eq!(block_on(b.seal_state()).unwrap().unwrap(), (state.clone(), first.clone()));
    let conflict =
        |result| matches!(result, Err(AccessError::Backend(BackendError::Conflict { .. })));
    assert!(conflict(block_on(b.set_seal_state(&state, None))));
    state.progress = 1;
    block_on(b.set_seal_state(&state, Some(&first))).unwrap();
    assert!(conflict(block_on(a.set_seal_state(&state, Some(&first)))));
    a.seal();
    assert_eq!(block_on(a.seal_state()).unwrap().unwrap().0, state);
}

#[test]
fn a_seal_state_that_somebody_damaged_is_named() {
    let backend = MemoryBackend::default();
    let store = replica(&backend);

    backend.tamper(&ObjectName::seal(), Some(b"sealed".to_vec()));

    assert!(matches!(block_on(store.seal_state()), Err(AccessError::SealState(_))));
}
