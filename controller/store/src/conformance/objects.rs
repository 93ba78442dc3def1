//! Objects of a back end: one life by one caller, and many callers at one object.

use futures::future::join_all;

use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::seal::Custody;
use crate::secret::MAX_VALUE_BYTES;

/// One object's life, by one caller.
pub(super) async fn objects<B: Backend>(backend: &B) {
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
pub(super) async fn contention<B: Backend>(replica: &impl Fn() -> B) {
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
