use std::cell::RefCell;

use super::*;
use crate::backend::memory::{Failure, MemoryBackend};
use crate::conformance;
use crate::insist::block_on;
use crate::secret::Value;
use crate::store::{Precondition, Store};

fn store(backend: &MemoryBackend) -> Store<MemoryBackend> {
    block_on(conformance::unsealed(|| backend.clone(), 1)).remove(0)
}

fn put(store: &Store<MemoryBackend>, path: &str, bytes: &[u8]) {
    let value = Value::new(bytes.to_vec());
    let path = path.parse().unwrap();
    block_on(store.write(&path, &value, &conformance::meta(), Precondition::Any)).unwrap();
}

fn sample() -> MemoryBackend {
    let backend = MemoryBackend::default();
    let store = store(&backend);
    put(&store, "a/one", b"1");
    put(&store, "a/one", b"2");
    put(&store, "b", b"3");
    backend.tamper(&ObjectName::seal(), Some(b"a state".to_vec()));
    backend
}

fn migrate(from: &MemoryBackend, to: &MemoryBackend) -> Result<Progress, MigrateError> {
    block_on(copy(from, to, |_| {}))
}

#[test]
fn everything_is_copied_as_it_is_and_progress_is_told() {
    let (from, to) = (sample(), MemoryBackend::default());
    let told = RefCell::new(Vec::new());

    let done =
        block_on(copy(&from, &to, |progress| told.borrow_mut().push(progress.done))).unwrap();

    assert_eq!(to.objects(), from.objects());
    assert_eq!(done, Progress { done: 7, total: 7 });
    assert_eq!(*told.borrow(), (0..=7).collect::<Vec<_>>());
    assert_eq!(block_on(store(&to).list(None)).unwrap().entries.len(), 2);
}

#[test]
fn everything_is_copied_though_answers_are_lost_now_and_then() {
    let (from, to) = (MemoryBackend::default(), MemoryBackend::default());
    let writer = store(&from);
    for number in 0..50 {
        put(&writer, &format!("shop/{number}"), b"x");
    }
    from.leave_unanswered(19);
    to.leave_unanswered(19);

    migrate(&from, &to).unwrap();

    assert_eq!(to.objects(), from.objects());
}

#[test]
fn a_migration_that_ends_after_any_step_is_finished_by_the_next() {
    let from = sample();
    for failure in [Failure::Before, Failure::After] {
        let mut steps = 0;
        loop {
            let to = MemoryBackend::default();
            to.fail_after(steps, failure);
            let result = migrate(&from, &to);
            to.heal();
            if result.is_ok() {
                break;
            }
            match migrate(&from, &to) {
                // The answer to the last step was lost.
                Ok(_) | Err(MigrateError::Done) => {}
                Err(error) => panic!("{steps} {failure:?}: {error:?}"),
            }
            assert_eq!(to.objects(), from.objects(), "{steps} {failure:?}");
            steps += 1;
        }
        // Of seven; that the answer to the last one alone is lost stops nothing.
        assert!(steps >= 6);
    }
}

#[test]
fn what_an_earlier_attempt_copied_is_brought_up_to_date() {
    let (from, to) = (sample(), MemoryBackend::default());
    to.fail_after(6, Failure::Before);
    migrate(&from, &to).unwrap_err();
    to.heal();
    let writer = store(&from);
    put(&writer, "a/one", b"later");
    block_on(writer.delete(&"b".parse().unwrap())).unwrap();

    migrate(&from, &to).unwrap();

    assert_eq!(to.objects(), from.objects());
}

#[test]
fn a_second_migration_says_that_there_was_a_first_and_changes_nothing() {
    let (from, to) = (sample(), MemoryBackend::default());
    migrate(&from, &to).unwrap();
    put(&store(&to), "written/since", b"x");
    let objects = to.objects();

    let error = migrate(&from, &to).unwrap_err();

    assert!(matches!(error, MigrateError::Done), "{error:?}");
    assert_eq!(to.objects(), objects);
}

#[test]
fn another_store_is_not_written_over_nor_mixed_with() {
    for leave_keyring in [true, false] {
        let (from, to) = (sample(), sample());
        if !leave_keyring {
            to.tamper(&ObjectName::keyring(), None);
        }
        let objects = to.objects();

        let error = migrate(&from, &to).unwrap_err();

        assert!(matches!(error, MigrateError::Occupied), "{error:?}");
        assert_eq!(to.objects(), objects);
    }
}

#[test]
fn a_source_that_is_written_meanwhile_is_noticed() {
    for path in ["a/one", "new"] {
        let (from, to) = (sample(), MemoryBackend::default());
        let name = from.objects().into_keys().find(|n| n.kind() == ObjectKind::Head).unwrap();
        let new = ObjectName::head(&[9; 32], &path.parse().unwrap());

        let error = block_on(copy(&from, &to, |progress| {
            if progress.done == progress.total - 1 {
                from.tamper(if path == "new" { &new } else { &name }, Some(b"changed".to_vec()));
            }
        }))
        .unwrap_err();

        assert!(matches!(error, MigrateError::Busy { .. }), "{error:?}");
        assert!(!to.objects().contains_key(&ObjectName::keyring()));
    }
}

#[test]
fn without_a_store_there_is_nothing_to_migrate() {
    let error = migrate(&MemoryBackend::default(), &MemoryBackend::default()).unwrap_err();

    assert!(matches!(error, MigrateError::NotInitialized), "{error:?}");
}
