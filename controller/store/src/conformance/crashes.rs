//! A replica that ends between any two steps: what was acknowledged is there, and nothing is half
//! visible.
//!
//! Each operation runs again and again, over a connection that ends after one change more than the
//! time before: without the next change, or with the change and without its answer. Then a replica
//! that knows nothing of it looks.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::{meta, read, root_key, write};
use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};
use crate::path::SecretPath;
use crate::store::{Config, Precondition, ReadError, Store};

/// Checks every operation that changes something, after every number of changes.
pub(super) async fn crashes<B: Backend>(replica: &impl Fn() -> B) {
    for operation in [
        // Changes every head that there ever was, so it comes before there are more.
        Operation::Rewrap,
        Operation::Update,
        Operation::RollBack,
        Operation::Delete,
        Operation::Sweep,
        Operation::Create,
    ] {
        for last in [Last::Undone, Last::Unanswered] {
            let mut changes = 0;
            while crash(replica, operation, last, changes).await {
                changes += 1;
            }
            assert!(changes > 0, "{operation:?} changes something");
        }
    }
}

/// Runs an operation over a connection that ends after so many changes; `false` if it was done
/// before that.
async fn crash<B: Backend>(
    replica: &impl Fn() -> B,
    operation: Operation,
    last: Last,
    changes: u64,
) -> bool {
    let at = format!("{operation:?}, {changes} changes, then one {last:?}");
    let path: SecretPath = match operation {
        // One that there never was: its first write makes the head.
        Operation::Create => format!("conformance/crash-{last:?}-{changes}").to_lowercase(),
        _ => "conformance/crash".to_owned(),
    }
    .parse()
    .unwrap();
    let before = prepare(&open(replica()).await, operation, &path).await;

    let left = AtomicU64::new(u64::MAX / 2);
    let dying = open(Mortal { backend: replica(), ended: Notify::new(), left, last }).await;
    dying.backend().left.store(changes, Ordering::SeqCst);
    let acknowledged = run(&dying, operation, &path).await;
    let died = dying.backend().left.load(Ordering::SeqCst) == DEAD;

    let store = open(replica()).await;
    let after = versions(&store, &path).await;
    let expected = operation.effect(&before);
    if acknowledged {
        assert_eq!(after, expected, "{at}: what was acknowledged has happened");
    } else {
        assert!(after == before || after == expected, "{at}: all or nothing, and not {after:?}");
    }

    // It goes on from there, and nothing is left behind.
    let next = write(&store, &path, b"next", Precondition::Any).await.unwrap();
    assert!(before.iter().all(|(version, _)| *version < next), "{at}: versions count up");
    assert_eq!(read(&store, &path).await, b"next", "{at}");
    store.rewrap(|_| {}).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0, "{at}: one sweep is enough");
    let stored = store.backend().list(ObjectKind::Version).await.unwrap().len();
    assert_eq!(stored, versions(&store, &path).await.len(), "{at}: nothing is left over");
    store.delete(&path).await.unwrap();
    died
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Create,
    Update,
    RollBack,
    Delete,
    Sweep,
    Rewrap,
}

impl Operation {
    /// What there is after it, newest first, if that is what there was.
    fn effect(self, before: &[(u64, Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
        let newest = before.first().map_or(0, |(version, _)| *version);
        let with = |bytes: &[u8]| {
            let new = (newest + 1, bytes.to_vec());
            std::iter::once(new).chain(before.iter().cloned()).take(KEPT).collect()
        };
        match self {
            Self::Create | Self::Update => with(b"written"),
            Self::RollBack => with(&before[1].1),
            Self::Delete => Vec::new(),
            Self::Sweep | Self::Rewrap => before.to_vec(),
        }
    }
}

/// Brings the path into the state that an operation begins with; returns it.
async fn prepare<B: Backend>(
    store: &Store<B>,
    operation: Operation,
    path: &SecretPath,
) -> Vec<(u64, Vec<u8>)> {
    if operation != Operation::Create {
        for number in 0..KEPT {
            let bytes = [u8::try_from(number).unwrap()];
            write(store, path, &bytes, Precondition::Any).await.unwrap();
        }
    }
    match operation {
        Operation::Sweep => {
            // As writers leave it that end after their first step, while others go on.
            let name = store.backend().list(ObjectKind::Version).await.unwrap().remove(0).name;
            let passed = store.versions(path).await.unwrap()[0].version;
            for _ in 0..3 {
                let object = ObjectName::version(&name.head_of(), passed).unwrap();
                store.backend().create(&object, b"left over").await.unwrap();
            }
        }
        Operation::Rewrap => {
            store.rotate(9).await.unwrap();
        }
        _ => {}
    }
    versions(store, path).await
}

/// Whether it was acknowledged.
async fn run<B: Backend>(
    store: &Store<Mortal<B>>,
    operation: Operation,
    path: &SecretPath,
) -> bool {
    match operation {
        Operation::Create => write(store, path, b"written", Precondition::Create).await.is_ok(),
        Operation::Update => write(store, path, b"written", Precondition::Update).await.is_ok(),
        Operation::RollBack => {
            let version = store.versions(path).await.unwrap()[1].version;
            store.roll_back(path, version, &meta(), Precondition::Any).await.is_ok()
        }
        Operation::Delete => store.delete(path).await.is_ok(),
        Operation::Sweep => before_the_end(store, store.sweep()).await,
        Operation::Rewrap => before_the_end(store, store.rewrap(|_| {})).await,
    }
}

/// Whether the work was done. It asks again when there is no answer, for which a replica that has ended
/// has no time.
async fn before_the_end<B: Backend, T, E>(
    store: &Store<Mortal<B>>,
    work: impl Future<Output = Result<T, E>>,
) -> bool {
    tokio::select! {
        biased;
        done = work => done.is_ok(),
        () = store.backend().ended.notified() => false,
    }
}

/// All versions with their values, newest first.
async fn versions<B: Backend>(store: &Store<B>, path: &SecretPath) -> Vec<(u64, Vec<u8>)> {
    let entries = match store.versions(path).await {
        Ok(entries) => entries,
        Err(ReadError::NotFound { .. }) => return Vec::new(),
        Err(error) => panic!("cannot list `{path}`: {error:?}"),
    };
    let mut versions = Vec::new();
    for entry in entries {
        match store.read(path, Some(entry.version)).await {
            Ok(secret) => versions.push((entry.version, secret.value.expose_secret().to_vec())),
            Err(error) => panic!("version {} is listed and not there: {error:?}", entry.version),
        }
    }
    versions
}

async fn open<B: Backend>(backend: B) -> Store<B> {
    let keep_versions = NonZeroUsize::new(KEPT).unwrap();
    let store = Store::new(backend, Config { keep_versions, ..Config::default() });
    store.unseal(root_key()).await.unwrap();
    store
}

/// A connection that ends after some changes.
struct Mortal<B> {
    backend: B,
    /// Told once.
    ended: Notify,
    /// How many changes are still done, or [`DEAD`].
    left: AtomicU64,
    last: Last,
}

/// What becomes of the change at which the connection ends.
#[derive(Clone, Copy, Debug)]
enum Last {
    Unanswered,
    Undone,
}

/// How a change goes.
enum Fate {
    Done,
    Refused,
    Unanswered,
}

impl<B> Mortal<B> {
    fn check(&self, operation: &'static str) -> Result<(), BackendError> {
        match self.left.load(Ordering::SeqCst) {
            DEAD => Err(gone(operation)),
            _ => Ok(()),
        }
    }

    fn fate(&self) -> Fate {
        let next = |left| match left {
            DEAD => None,
            0 => Some(DEAD),
            left => Some(left - 1),
        };
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        if before == Ok(0) {
            self.ended.notify_one();
        }
        match (before, self.last) {
            (Err(_), _) | (Ok(0), Last::Undone) => Fate::Refused,
            (Ok(0), Last::Unanswered) => Fate::Unanswered,
            (Ok(_), _) => Fate::Done,
        }
    }

    async fn change<T>(
        &self,
        operation: &'static str,
        change: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        match self.fate() {
            Fate::Done => change.await,
            Fate::Refused => Err(gone(operation)),
            Fate::Unanswered => {
                change.await?;
                Err(gone(operation))
            }
        }
    }
}

impl<B: Backend> Backend for Mortal<B> {
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool {
        self.backend.is_current(name, revision)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        self.check("get")?;
        self.backend.get(name).await
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        self.change("create", self.backend.create(name, bytes)).await
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        self.change("replace", self.backend.replace(name, bytes, revision)).await
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        self.change("delete", self.backend.delete(name, revision)).await
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        self.check("list")?;
        self.backend.list(kind).await
    }
}

fn gone(operation: &'static str) -> BackendError {
    BackendError::Unavailable { operation, source: "the replica has ended".into() }
}

/// No change is done any more.
const DEAD: u64 = u64::MAX - 1;

/// How many versions are kept; an update removes the oldest.
const KEPT: usize = 3;
