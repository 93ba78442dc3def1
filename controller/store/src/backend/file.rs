//! The embedded back end: one file (redb), one process.
//!
//! Every change is one transaction, on disk when it is acknowledged (fsync); after a crash the file
//! is as the last acknowledged change left it. The file is locked, so that a second process cannot
//! open it, and created with mode 0600, though it holds only ciphertext. All calls into redb block,
//! and so run on tokio's threads for that; this back end needs a tokio runtime.
//!
//! After a write that the disk did not take, because it is full, redb refuses everything. The next
//! operation opens the file again, as a restart would, and reads go on.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::backend::{Backend, BackendError, Cause, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

/// Objects in one file.
pub struct FileBackend(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// `None` only when the file could not be opened again.
    database: RwLock<Option<Database>>,
    /// Whether it has to be opened again before the next operation.
    failed: AtomicBool,
    /// The newest revision of every head that was read or changed since the file was opened, so
    /// that a hot read need not touch it: the file is locked, nobody else changes it. `None` while a
    /// change is under way, and after one that failed. Kept by the threads that talk to redb, so
    /// that it stays right when the future that waits for them is dropped.
    newest: Mutex<HashMap<ObjectName, Option<u64>>>,
}

impl Inner {
    /// Does something with the database, which nobody closes meanwhile.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.failed.load(Ordering::Acquire) {
            self.reopen()?;
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &*database {
            Some(database) => work(database),
            None => Err(Failure::Database("the file could not be opened again".into())),
        };
        if matches!(result, Err(Failure::Database(_))) {
            self.failed.store(true, Ordering::Release);
        }
        result
    }

    /// Opens the file again.
    fn reopen(&self) -> Result<(), Failure> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // Its lock has to be gone first.
        *database = None;
        *database = Some(open(&self.path, false).map_err(Failure::Database)?);
        // Meanwhile it was not locked.
        self.newest().clear();
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn newest(&self) -> MutexGuard<'_, HashMap<ObjectName, Option<u64>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, name: &ObjectName, revision: Option<u64>) {
        if name.kind() == ObjectKind::Head {
            self.newest().insert(name.clone(), revision);
        }
    }
}

impl FileBackend {
    /// Opens the file at `path`, or makes it. Blocks while redb repairs the file of a process that
    /// was killed.
    ///
    /// # Errors
    ///
    /// [`OpenFileError`] when the file cannot be opened, is not one of ours, or is open elsewhere.
    pub fn open(path: &Path) -> Result<Self, OpenFileError> {
        let database = open(path, true)
            .map_err(|source| OpenFileError { path: path.display().to_string(), source })?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            failed: AtomicBool::new(false),
            newest: Mutex::default(),
        })))
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, BackendError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Conflict(name))) => Err(BackendError::Conflict { name }),
            Ok(Err(Failure::Database(source))) => Err(BackendError::Refused { operation, source }),
            Err(error) => Err(BackendError::Unavailable { operation, source: error.into() }),
        }
    }

    /// One transaction that changes the object of this name, or nothing.
    async fn change(
        &self,
        operation: &'static str,
        name: &ObjectName,
        expected: Expected,
        bytes: Option<Vec<u8>>,
    ) -> Result<Revision, BackendError> {
        let name = name.clone();
        self.run(operation, move |inner| {
            inner.with(|database| change(database, inner, name, &expected, bytes.as_deref()))
        })
        .await
    }
}
impl Backend for FileBackend {
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool {
        matches!(self.0.newest().get(name), Some(Some(newest)) if *newest.to_string() == *revision.0)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        let name = name.clone();
        self.run("get", move |inner| {
            inner.with(|database| {
                let objects = database.begin_read()?.open_table(OBJECTS)?;
                Ok(objects.get(name.as_str())?.map(|object| {
                    let (revision, bytes) = object.value();
                    // Only where nothing is known: a change since this snapshot knows better.
                    if name.kind() == ObjectKind::Head {
                        inner.newest().entry(name.clone()).or_insert(Some(revision));
                    }
                    let revision = Revision(revision.to_string().into());
                    Stored { bytes: bytes.to_vec(), revision }
                }))
            })
        })
        .await
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        self.change("create", name, Expected::Nothing, Some(bytes.to_vec())).await
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        let expected = Expected::Revision(revision.clone());
        self.change("replace", name, expected, Some(bytes.to_vec())).await
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        let expected =
            revision.map_or(Expected::Anything, |r| Expected::RevisionOrNothing(r.clone()));
        self.change("delete", name, expected, None).await.map(|_| ())
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        self.run("list", move |inner| {
            inner.with(|database| {
                let objects = database.begin_read()?.open_table(OBJECTS)?;
                let mut listed = Vec::new();
                for object in objects.iter()? {
                    let (name, object) = object?;
                    let name = ObjectName::parse(name.value());
                    if let Some(name) = name.filter(|name| name.kind() == kind) {
                        let revision = Revision(object.value().0.to_string().into());
                        listed.push(Listed { name, revision });
                    }
                }
                Ok(listed)
            })
        })
        .await
    }
}

fn open(path: &Path, create: bool) -> Result<Database, Cause> {
    // Not truncated: an existing file is a store.
    let file = OpenOptions::new()
        .create(create)
        .mode(0o600)
        .read(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let database = redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(redb::backends::FileBackend::new(file)?)?;
    // A full disk may have no room for more than reading.
    if database.begin_read()?.open_table(COUNTERS).is_err() {
        let transaction = database.begin_write()?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(COUNTERS)?;
        transaction.commit()?;
    }
    Ok(database)
}

/// One transaction that changes the object of this name, or nothing.
fn change(
    database: &Database,
    inner: &Inner,
    name: ObjectName,
    expected: &Expected,
    bytes: Option<&[u8]>,
) -> Result<Revision, Failure> {
    let transaction = database.begin_write()?;
    let mut counters = transaction.open_table(COUNTERS)?;
    // One counter for all objects, so that no revision comes back after a deletion.
    let revision = counters.get(REVISION)?.map_or(0, |last| last.value()) + 1;
    counters.insert(REVISION, revision)?;
    let mut objects = transaction.open_table(OBJECTS)?;
    let found = objects.get(name.as_str())?.map(|object| object.value().0);
    let as_expected = match expected {
        Expected::Anything => true,
        Expected::Nothing => found.is_none(),
        Expected::Revision(revision) => {
            found.is_some_and(|found| *found.to_string() == *revision.0)
        }
        Expected::RevisionOrNothing(revision) => {
            found.is_none_or(|found| *found.to_string() == *revision.0)
        }
    };
    if !as_expected {
        // Dropping the transaction undoes it.
        return Err(Failure::Conflict(name));
    }
    match bytes {
        Some(bytes) => objects.insert(name.as_str(), (revision, bytes))?,
        None => objects.remove(name.as_str())?,
    };
    drop((objects, counters));
    inner.note(&name, None);
    transaction.commit()?;
    inner.note(&name, bytes.is_some().then_some(revision));
    Ok(Revision(revision.to_string().into()))
}

/// Why the file of a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the store's file `{path}`")]
pub struct OpenFileError {
    path: String,
    #[source]
    source: Cause,
}

/// What must be stored before a change.
enum Expected {
    Anything,
    Nothing,
    Revision(Revision),
    RevisionOrNothing(Revision),
}

enum Failure {
    Conflict(ObjectName),
    Database(Cause),
}

impl From<redb::CommitError> for Failure {
    fn from(error: redb::CommitError) -> Self {
        Self::Database(error.into())
    }
}

impl From<redb::StorageError> for Failure {
    fn from(error: redb::StorageError) -> Self {
        Self::Database(error.into())
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Database(error.into())
    }
}

impl From<redb::TransactionError> for Failure {
    fn from(error: redb::TransactionError) -> Self {
        Self::Database(error.into())
    }
}

/// Name → (revision, sealed bytes).
const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");

const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// The revision of the last change, in [`COUNTERS`].
const REVISION: &str = "revision";

/// What redb may keep of the file in memory, where its own default is a gigabyte. The store remembers
/// heads and lately read versions itself, and the kernel the rest.
const CACHE_BYTES: usize = 16 << 20;
