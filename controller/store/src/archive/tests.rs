use std::convert::Infallible;
use std::num::NonZeroUsize;

use futures::sink;
use proptest::prelude::*;

use super::*;
use crate::backend::memory::{Failure, MemoryBackend};
use crate::conformance;
use crate::insist::block_on;
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::seal::Custody;
use crate::secret::Value;
use crate::store::{Config, Precondition, Store};

fn store(backend: &MemoryBackend) -> Store<MemoryBackend> {
    block_on(conformance::unsealed(|| backend.clone(), 1)).remove(0)
}

fn put(store: &Store<MemoryBackend>, path: &str, bytes: &[u8]) {
    let path: SecretPath = path.parse().unwrap();
    let value = Value::new(bytes.to_vec());
    block_on(store.write(&path, &value, &conformance::meta(), Precondition::Any)).unwrap();
}

/// A store with a few secrets, one of them deleted.
fn sample() -> MemoryBackend {
    let backend = MemoryBackend::default();
    let store = store(&backend);
    put(&store, "a/one", b"1");
    put(&store, "a/one", b"2");
    put(&store, "gone", b"x");
    block_on(store.delete(&"gone".parse().unwrap())).unwrap();
    backend
}

fn written(backend: &MemoryBackend) -> (Summary, Vec<u8>) {
    let mut file = Vec::new();
    let sink = sink::unfold(&mut file, |file: &mut Vec<u8>, piece: Vec<u8>| async move {
        file.extend_from_slice(&piece);
        Ok::<_, Infallible>(file)
    });
    let summary = block_on(write(backend, sink)).unwrap();
    (summary, file)
}

fn pieces(file: &[u8], length: usize) -> impl Stream<Item = Result<Vec<u8>, Infallible>> {
    stream::iter(file.chunks(length).map(|piece| Ok(piece.to_vec())).collect::<Vec<_>>())
}

fn restored(backend: &MemoryBackend, file: &[u8]) -> Result<Summary, ReadArchiveError> {
    block_on(read(backend, pieces(file, 1000)))
}

fn is_initialized(backend: &MemoryBackend) -> bool {
    backend.objects().contains_key(&ObjectName::keyring())
}

#[test]
fn a_backup_brings_everything_back_but_the_seal_state() {
    let backend = sample();
    let objects = backend.objects();
    backend.tamper(&ObjectName::seal(), Some(b"of running replicas".to_vec()));

    let (summary, file) = written(&backend);
    let other = MemoryBackend::default();
    assert_eq!(block_on(check(pieces(&file, 7))).unwrap(), summary);
    assert_eq!(restored(&other, &file).unwrap(), summary);

    assert_eq!(other.objects(), objects);
    assert_eq!(summary.objects, u64::try_from(objects.len()).unwrap());
    assert_eq!(block_on(store(&other).list(None)).unwrap().entries.len(), 1);
}

#[test]
fn a_backup_is_written_and_restored_though_answers_are_lost_now_and_then() {
    let backend = MemoryBackend::default();
    let store = store(&backend);
    for number in 0..50 {
        put(&store, &format!("shop/{number}"), b"x");
    }
    let objects = backend.objects();
    let other = MemoryBackend::default();
    backend.leave_unanswered(19);
    other.leave_unanswered(19);

    let (_, file) = written(&backend);
    restored(&other, &file).unwrap();

    assert_eq!(other.objects(), objects);
}

#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let backend = MemoryBackend::default();

    is_send(&write(&backend, sink::drain()));
    is_send(&read(&backend, pieces(b"", 1)));
    is_send(&check(pieces(b"", 1)));
}

#[test]
fn nothing_of_a_secret_is_in_a_backup() {
    let backend = MemoryBackend::default();
    put(&store(&backend), "canary/path", b"canary-77c0de");

    let (_, file) = written(&backend);

    for needle in [&b"canary-77c0de"[..], b"canary/path", b"conformance"] {
        assert!(!file.windows(needle.len()).any(|window| window == needle));
    }
}

#[test]
fn a_store_that_is_not_initialised_has_no_backup() {
    let sink = sink::drain();

    let error = block_on(write(&MemoryBackend::default(), sink)).unwrap_err();

    assert!(matches!(error, WriteArchiveError::NotInitialized));
}

#[test]
fn a_backup_is_not_restored_over_a_store() {
    let (_, file) = written(&sample());
    let other = MemoryBackend::default();
    store(&other);
    let objects = other.objects();

    let error = restored(&other, &file).unwrap_err();

    assert!(matches!(error, ReadArchiveError::AlreadyInitialized));
    assert_eq!(other.objects(), objects);
}

#[test]
fn a_file_that_was_cut_anywhere_initialises_nothing_and_the_whole_one_then_does() {
    let backend = sample();
    let (_, file) = written(&backend);
    for length in 0..file.len() {
        assert!(block_on(check(pieces(&file[..length], 64))).is_err(), "{length}");
    }
    for length in (0..file.len()).step_by(37) {
        let other = MemoryBackend::default();

        restored(&other, &file[..length]).unwrap_err();

        assert!(!is_initialized(&other), "{length}");
        restored(&other, &file).unwrap();
        assert_eq!(other.objects(), backend.objects(), "{length}");
    }
}

#[test]
fn a_file_with_any_bit_flipped_initialises_nothing_and_the_right_one_then_does() {
    let backend = sample();
    let (_, file) = written(&backend);
    for bit in 0..8 * file.len() {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(block_on(check(pieces(&damaged, 4096))).is_err(), "bit {bit}");
        // Every place in a byte comes up.
        if bit % 41 == 0 {
            let other = MemoryBackend::default();
            restored(&other, &damaged).unwrap_err();
            assert!(!is_initialized(&other), "bit {bit}");
            match restored(&other, &file) {
                Ok(_) => assert_eq!(other.objects(), backend.objects(), "bit {bit}"),
                // The flipped bit made a record newer; a person has to look.
                Err(ReadArchiveError::Newer { .. }) => {}
                Err(error) => panic!("bit {bit}: {error:?}"),
            }
        }
    }
}

#[test]
fn bytes_after_the_end_and_other_files_are_refused() {
    let (_, mut file) = written(&sample());
    file.push(0);

    for (bytes, expected) in [
        (file, ParseArchiveError::Trailing),
        (Vec::new(), ParseArchiveError::Magic),
        (b"WWSR".to_vec(), ParseArchiveError::Magic),
        (b"WWBACKUP\x02".to_vec(), ParseArchiveError::Format { format: 2 }),
        (b"WWBACKUP\x01\x00".to_vec(), ParseArchiveError::NoKeyring),
        (b"WWBACKUP\x01\x07".to_vec(), ParseArchiveError::Damaged),
    ] {
        let other = MemoryBackend::default();
        match restored(&other, &bytes).unwrap_err() {
            ReadArchiveError::Parse(error) => assert_eq!(error, expected),
            error => panic!("{error:?}"),
        }
        assert!(!is_initialized(&other));
    }
}

#[test]
fn a_restore_that_ends_after_any_step_is_finished_by_the_next() {
    let backend = sample();
    let (_, file) = written(&backend);
    for failure in [Failure::Before, Failure::After] {
        let mut steps = 0;
        loop {
            let other = MemoryBackend::default();
            other.fail_after(steps, failure);
            let result = restored(&other, &file);
            other.heal();
            if result.is_ok() {
                break;
            }
            // Only the answer to the very last step can be lost and the store be whole.
            if !is_initialized(&other) {
                restored(&other, &file).unwrap();
            }
            assert_eq!(other.objects(), backend.objects(), "{steps} {failure:?}");
            steps += 1;
        }
        assert!(steps > 4);
    }
}

#[test]
fn what_was_written_after_the_backup_is_not_lost_with_the_keyring() {
    let backend = sample();
    let (_, file) = written(&backend);
    put(&store(&backend), "a/one", b"newer");
    backend.tamper(&ObjectName::keyring(), None);
    let objects = backend.objects();

    let error = restored(&backend, &file).unwrap_err();

    assert!(matches!(error, ReadArchiveError::Newer { .. }), "{error:?}");
    assert!(objects.iter().all(|(name, bytes)| backend.objects().get(name) == Some(bytes)));
}

#[test]
fn secrets_of_another_store_are_not_taken_over() {
    let (_, file) = written(&sample());
    let other = MemoryBackend::default();
    put(&store(&other), "theirs", b"x");
    other.tamper(&ObjectName::keyring(), None);

    let error = restored(&other, &file).unwrap_err();

    assert!(matches!(error, ReadArchiveError::Strangers { count: 1 }), "{error:?}");
    assert!(!is_initialized(&other));
}

#[test]
fn a_damaged_record_is_named_when_the_backup_is_made() {
    let backend = sample();
    let name = backend.objects().into_keys().find(|n| n.kind() == ObjectKind::Version).unwrap();
    backend.tamper(&name, Some(b"WWSR".to_vec()));

    let error = block_on(write(&backend, sink::drain())).unwrap_err();

    let WriteArchiveError::Record(ParseArchiveError::Record { object, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(object, name);
}

#[test]
fn a_keyring_that_changes_meanwhile_is_noticed() {
    let backend = sample();
    let store = store(&backend);
    let store = &store;
    let sink = sink::unfold((), |(), _| async move {
        store.rotate(7).await.unwrap();
        Ok::<_, Infallible>(())
    });

    let error = block_on(write(&backend, Box::pin(sink))).unwrap_err();

    assert!(matches!(error, WriteArchiveError::KeyringChanged), "{error:?}");
}

#[test]
fn a_secret_that_is_written_meanwhile_is_whole_in_the_backup() {
    let backend = MemoryBackend::default();
    let writer = Store::new(
        backend.clone(),
        Config { keep_versions: NonZeroUsize::new(2).unwrap(), ..Config::default() },
    );
    let key = RootKey::generate().unwrap();
    block_on(writer.initialize(&key, &Custody::default(), 1)).unwrap();
    block_on(writer.unseal(key)).unwrap();
    for number in 0..8 {
        put(&writer, &format!("busy/{number}"), b"0");
    }
    // Each piece that is written finds some secrets changed, and older versions removed.
    let bytes = std::sync::Mutex::new(Vec::new());
    let (writer, file) = (&writer, &bytes);
    let sink = sink::unfold(0_u8, |round, piece: Vec<u8>| async move {
        for number in 0..8_u8 {
            if round < 20 && (round + number).is_multiple_of(3) {
                let path = format!("busy/{number}").parse().unwrap();
                let value = Value::new(vec![round]);
                let meta = conformance::meta();
                writer.write(&path, &value, &meta, Precondition::Any).await.unwrap();
            }
        }
        file.lock().unwrap().extend_from_slice(&piece);
        Ok::<_, Infallible>(round + 1)
    });

    block_on(write(&backend, Box::pin(sink))).unwrap();
    let other = MemoryBackend::default();
    restored(&other, &bytes.lock().unwrap()).unwrap();

    let reader = Store::new(other, Config::default());
    block_on(
        reader.unseal(
            RootKey::combine(
                &writer
                    .root_key()
                    .unwrap()
                    .split(crate::seal::SealConfig::new(1, 1, 0).unwrap())
                    .unwrap(),
            )
            .unwrap(),
        ),
    )
    .unwrap();
    let listed = block_on(reader.list(None)).unwrap().entries;
    assert_eq!(listed.len(), 8);
    for entry in listed {
        for version in block_on(reader.versions(&entry.path)).unwrap() {
            assert!(block_on(reader.read(&entry.path, Some(version.version))).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_written_is_read_in_pieces_of_any_length(
        secrets in proptest::collection::vec(("[a-z]{1,6}/[a-z]{1,6}", ".{0,300}"), 0..6),
        length in 1_usize..5000,
    ) {
        let backend = MemoryBackend::default();
        let store = store(&backend);
        for (path, value) in &secrets {
            put(&store, path, value.as_bytes());
        }

        let (summary, file) = written(&backend);
        let other = MemoryBackend::default();
        let read = block_on(read(&other, pieces(&file, length))).unwrap();

        prop_assert_eq!(read, summary);
        prop_assert_eq!(other.objects(), backend.objects());
    }
}
