//! What `verify` finds, and rolling back.

use futures::TryStreamExt;

use super::*;
use crate::head::About;
use crate::seal::SealState;

fn verified(store: &Store<MemoryBackend>) -> Vec<Verified> {
    block_on(async { store.verify().await.unwrap().try_collect().await.unwrap() })
}

fn damaged(store: &Store<MemoryBackend>) -> Vec<(ObjectName, String)> {
    verified(store).into_iter().filter_map(|line| Some((line.object, line.damage?))).collect()
}

/// A store with a path of two versions; its head, and the versions in order.
fn filled() -> (MemoryBackend, ObjectName, [ObjectName; 2]) {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"hunter2").unwrap();
    put(&store, b"hunter3").unwrap();
    let name = store.keys().unwrap().keyring.head_name(&path());
    let mut versions = backend
        .objects()
        .into_keys()
        .filter(|name| name.kind() == ObjectKind::Version)
        .collect::<Vec<_>>();
    versions.sort();
    (backend, name, versions.try_into().unwrap())
}

#[test]
fn a_sound_store_has_a_line_for_every_object_and_says_nothing_secret() {
    let (backend, head, versions) = filled();
    let store = replica(&backend);
    let deleted: SecretPath = "shop/old".parse().unwrap();
    block_on(async {
        let value = Value::new(b"gone".to_vec());
        store.write(&deleted, &value, &meta(), Precondition::Any).await.unwrap();
        store.delete(&deleted).await.unwrap();
        store.record_namespace("shop", "uid", &Standing::First).await.unwrap();
        store.set_seal_state(&SealState::default(), None).await.unwrap();
        store.rotate(2).await.unwrap();
    });

    let lines = verified(&store);

    let names: Vec<_> = lines.iter().map(|line| line.object.clone()).collect();
    assert_eq!(names.len(), backend.objects().len());
    assert!(backend.objects().keys().all(|name| names.contains(name)));
    assert!(lines.iter().all(|line| line.damage.is_none()), "{lines:?}");
    let line = |name: &ObjectName| lines.iter().find(|line| line.object == *name).unwrap();
    assert_eq!((line(&head).sequence, line(&head).newest, line(&head).deleted), (2, 2, false));
    assert_eq!(line(&versions[1]).sequence, 2);
    assert_eq!(line(&ObjectName::keyring()).sequence, 2);
    let tombstone = line(&store.keys().unwrap().keyring.head_name(&deleted));
    assert_eq!((tombstone.sequence, tombstone.newest, tombstone.deleted), (3, 1, true));
    let text = serde_json::to_string(&lines).unwrap();
    for secret in ["hunter", "shop", "grace", "old"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn every_kind_of_damage_is_found_and_names_its_record() {
    type Tamper = fn(&MemoryBackend, &ObjectName, &[ObjectName; 2]) -> ObjectName;
    let cases: [(&str, Tamper); 7] = [
        ("tampered with", |backend, _, [old, _]| {
            let mut bytes = backend.objects()[old].clone();
            *bytes.last_mut().unwrap() ^= 1;
            backend.tamper(old, Some(bytes));
            old.clone()
        }),
        ("tampered with", |backend, head, _| {
            let mut bytes = backend.objects()[head].clone();
            *bytes.last_mut().unwrap() ^= 1;
            backend.tamper(head, Some(bytes));
            head.clone()
        }),
        ("belongs to", |backend, _, [old, new]| {
            backend.tamper(new, Some(backend.objects()[old].clone()));
            new.clone()
        }),
        ("cut short", |backend, _, [old, _]| {
            backend.tamper(old, Some(backend.objects()[old][..100].to_vec()));
            old.clone()
        }),
        ("format 2 is unknown", |backend, head, _| {
            let mut bytes = backend.objects()[head].clone();
            bytes[4] = 2;
            backend.tamper(head, Some(bytes));
            head.clone()
        }),
        ("missing", |backend, _, [old, _]| {
            backend.tamper(old, None);
            old.clone()
        }),
        ("not a record of Watchword", |backend, _, _| {
            backend.tamper(&ObjectName::seal(), Some(b"unsealed".to_vec()));
            ObjectName::seal()
        }),
    ];
    for (text, tamper) in cases {
        let (backend, head, versions) = filled();
        let object = tamper(&backend, &head, &versions);

        let found = damaged(&replica(&backend));

        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, object);
        assert!(found[0].1.contains(text), "{} instead of {text}", found[0].1);
    }
}

#[test]
fn an_older_head_that_was_put_back_shows_where_the_newer_one_was_seen_and_by_its_sequence_elsewhere()
 {
    let backend = MemoryBackend::default();
    let store = replica(&backend);
    put(&store, b"one").unwrap();
    let before = backend.objects();
    put(&store, b"two").unwrap();
    let head = store.keys().unwrap().keyring.head_name(&path());

    backend.tamper(&head, Some(before[&head].clone()));

    assert_eq!(damaged(&store)[0].0, head);
    // A replica that has just started cannot know: the audit log does.
    let lines = verified(&replica(&backend));
    assert_eq!(lines.iter().find(|line| line.object == head).unwrap().sequence, 1);
}

#[test]
fn a_sealed_store_is_not_verified() {
    let store = replica(&MemoryBackend::default());
    store.seal();

    assert!(matches!(block_on(store.verify()).err(), Some(VerifyError::Sealed)));
}

#[test]
fn an_older_version_becomes_the_newest_with_its_value_and_kind() {
    let store = replica(&MemoryBackend::default());
    let binary = Meta { content_type: ContentType::Binary, ..meta() };
    block_on(store.write(&path(), &Value::new(b"one".to_vec()), &binary, Precondition::Any))
        .unwrap();
    put(&store, b"two").unwrap();
    let who = Meta {
        author: "ada".to_owned(),
        created: 2000,
        content_type: ContentType::Text,
        about: None,
    };

    let version = block_on(store.roll_back(&path(), 1, &who, Precondition::Version(2))).unwrap();

    assert_eq!(version, 3);
    let secret = block_on(store.read(&path(), None)).ok().unwrap();
    assert_eq!(secret.value.expose_secret(), b"one");
    assert_eq!(secret.meta, Meta { content_type: ContentType::Binary, ..who });
    assert_eq!(block_on(store.versions(&path())).unwrap().len(), 3);
}

#[test]
fn how_many_versions_are_kept_may_change_while_the_store_runs() {
    let store = replica(&MemoryBackend::default());
    for number in 1..=3 {
        put(&store, &[number]).unwrap();
    }

    store.keep_versions(NonZeroUsize::MIN);
    put(&store, &[4]).unwrap();

    let versions = block_on(store.versions(&path())).unwrap();
    assert_eq!(versions.iter().map(|entry| entry.version).collect::<Vec<_>>(), [4]);
}

#[test]
fn what_people_say_of_a_secret_stays_until_they_say_something_else() {
    let store = replica(&MemoryBackend::default());
    let said = |description: Option<&str>, labels: Option<&[&str]>| About {
        description: description.map(str::to_owned),
        labels: labels.map(|labels| labels.iter().map(|&label| label.to_owned()).collect()),
    };
    let write = |about: Option<About>| {
        let meta = Meta { about: about.map(Box::new), ..meta() };
        block_on(store.write(&path(), &Value::new(b"v".to_vec()), &meta, Precondition::Any))
            .unwrap()
    };
    let read = || block_on(store.read(&path(), None)).ok().unwrap().meta.about.map(|about| *about);

    write(Some(said(Some("of the shop"), Some(&["a", "b"]))));
    write(None);
    let kept = read();
    write(Some(said(Some("of the bank"), None)));
    let half = read();
    write(Some(said(Some(""), Some(&[]))));
    let nothing = read();
    block_on(store.roll_back(&path(), 3, &meta(), Precondition::Any)).unwrap();
    let back = read();
    block_on(store.roll_back(&path(), 4, &meta(), Precondition::Any)).unwrap();
    let nothing_again = read();
    write(Some(said(Some("of the shop"), None)));
    block_on(store.delete(&path())).unwrap();
    write(None);

    assert_eq!(kept, Some(said(Some("of the shop"), Some(&["a", "b"]))));
    assert_eq!(half, Some(said(Some("of the bank"), Some(&["a", "b"]))));
    assert_eq!(nothing, None);
    assert_eq!(back, half);
    assert_eq!(nothing_again, None);
    assert_eq!(read(), None, "a new secret of the same path is another one");
}

#[test]
fn a_roll_back_to_what_is_not_there_is_refused() {
    let store = replica(&MemoryBackend::default());
    let roll_back =
        |version, precondition| block_on(store.roll_back(&path(), version, &meta(), precondition));
    assert!(matches!(roll_back(1, Precondition::Any), Err(WriteError::NotFound { .. })));
    for number in 1..=4 {
        put(&store, &[number]).unwrap();
    }

    // The first of four was trimmed, as three are kept.
    for version in [0, 1, 5] {
        assert!(matches!(
            roll_back(version, Precondition::Any),
            Err(WriteError::VersionNotFound { .. })
        ));
    }
    assert!(matches!(
        roll_back(2, Precondition::Version(3)),
        Err(WriteError::Changed { newest: 4, .. })
    ));
    assert!(matches!(roll_back(2, Precondition::Create), Err(WriteError::Exists { .. })));
    block_on(store.delete(&path())).unwrap();
    assert!(matches!(roll_back(2, Precondition::Any), Err(WriteError::NotFound { .. })));
}

#[test]
fn a_secret_that_is_deleted_while_it_is_rolled_back_does_not_come_back() {
    let (backend, _, _) = filled();
    let interposed = interposed::Interposed::new(&backend);
    let store = Store::new(interposed.clone(), config());
    block_on(store.unseal(root_key())).unwrap();
    let other = replica(&backend);
    interposed.before_change(ObjectKind::Version, move || {
        block_on(other.delete(&path())).unwrap();
    });

    let refused = block_on(store.roll_back(&path(), 1, &meta(), Precondition::Any));

    assert!(matches!(refused, Err(WriteError::NotFound { .. })));
    assert_eq!(get(&replica(&backend)), None);
}
