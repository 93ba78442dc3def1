//! A store's life over two replicas.

use std::num::NonZeroUsize;

use super::{read, root_key, write};
use crate::backend::Backend;
use crate::name::ObjectKind;
use crate::path::SecretPath;
use crate::root_key::RootKey;
use crate::seal::Custody;
use crate::secret::MAX_VALUE_BYTES;
use crate::store::{Config, Initialized, Precondition, ReadError, Store, UnsealError, WriteError};

/// A store's life over two replicas.
pub(super) async fn stores<B: Backend>(replica: &impl Fn() -> B) {
    let config = Config { keep_versions: NonZeroUsize::new(3).unwrap(), ..Config::default() };
    let (a, b) = (Store::new(replica(), config.clone()), Store::new(replica(), config));
    let key = root_key();
    assert!(!a.is_initialized().await.unwrap());
    assert!(matches!(a.unseal(root_key()).await, Err(UnsealError::NotInitialized)));
    let made = [
        a.initialize(&key, &Custody::default(), 1).await.unwrap(),
        b.initialize(&key, &Custody::default(), 2).await.unwrap(),
    ];
    assert_eq!(made, [Initialized::Now, Initialized::Before], "one initialises");
    a.unseal(root_key()).await.unwrap();
    b.unseal(root_key()).await.unwrap();

    let path: SecretPath = "conformance/db".parse().unwrap();
    for number in 1..=5_u8 {
        let (writer, reader) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let version = write(writer, &path, &[number], Precondition::Any).await.unwrap();
        assert_eq!(version, u64::from(number), "versions count up");
        assert_eq!(read(reader, &path).await, [number], "the other replica reads it");
        assert_eq!(read(writer, &path).await, [number]);
    }
    let versions: Vec<u64> =
        a.versions(&path).await.unwrap().iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [5, 4, 3], "the newest three are kept");
    assert_eq!(a.backend().list(ObjectKind::Version).await.unwrap().len(), 3);
    assert_eq!(b.read(&path, Some(4)).await.ok().unwrap().value.expose_secret(), [4]);
    assert!(matches!(b.read(&path, Some(2)).await, Err(ReadError::VersionNotFound { .. })));
    assert!(matches!(
        write(&a, &path, b"x", Precondition::Create).await,
        Err(WriteError::Exists { .. })
    ));
    assert!(matches!(
        write(&a, &path, b"x", Precondition::Version(4)).await,
        Err(WriteError::Changed { newest: 5, .. })
    ));

    let other: SecretPath = "conformance-2/db".parse().unwrap();
    write(&b, &other, b"other", Precondition::Create).await.unwrap();
    let paths = |entries: Vec<crate::store::Entry>| {
        entries.into_iter().map(|entry| entry.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        paths(a.list(None).await.unwrap().complete().unwrap()),
        ["conformance-2/db", "conformance/db"],
        "a list has the other replica's secrets"
    );
    let directory: SecretPath = "conformance".parse().unwrap();
    assert_eq!(
        paths(b.list(Some(&directory)).await.unwrap().complete().unwrap()),
        ["conformance/db"]
    );

    a.delete(&path).await.unwrap();
    assert!(matches!(b.read(&path, None).await, Err(ReadError::NotFound { .. })));
    assert!(matches!(b.read(&path, Some(5)).await, Err(ReadError::NotFound { .. })));
    assert_eq!(paths(b.list(None).await.unwrap().complete().unwrap()), ["conformance-2/db"]);
    assert_eq!(
        a.backend().list(ObjectKind::Version).await.unwrap().len(),
        1,
        "a deleted secret leaves no version behind"
    );
    let version = write(&b, &path, b"again", Precondition::Create).await.unwrap();
    assert_eq!(version, 6, "version numbers are not used again");
    assert_eq!(read(&a, &path).await, b"again");

    // A value as large as it may be.
    let largest = vec![0x5a; MAX_VALUE_BYTES];
    write(&a, &path, &largest, Precondition::Update).await.unwrap();
    assert!(read(&b, &path).await == largest, "the largest value comes back");

    b.rotate(3).await.unwrap();
    write(&b, &path, b"rotated", Precondition::Any).await.unwrap();
    assert_eq!(read(&a, &path).await, b"rotated", "another replica finds the new term");
    assert_eq!(read(&a, &other).await, b"other", "older terms still open");

    a.seal();
    assert!(matches!(a.read(&path, None).await, Err(ReadError::Sealed)));
    assert!(matches!(a.unseal(RootKey::generate().unwrap()).await, Err(UnsealError::WrongKey)));
    a.unseal(key).await.unwrap();
    assert_eq!(read(&a, &path).await, b"rotated");
    assert_eq!(a.sweep().await.unwrap(), 0, "nothing is left over");
    for path in [path, other] {
        a.delete(&path).await.unwrap();
    }
}
