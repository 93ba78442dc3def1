//! The file back end on a disk that is full: a real one of a few megabytes, which is mounted for the
//! test. Where that is not allowed, files may not grow beyond a limit instead.

#![cfg(all(feature = "file", feature = "testing"))]
#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not covered by clippy.toml

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{Resource, geteuid, getrlimit};
use tempfile::TempDir;

use watchword_store::backend::file::FileBackend;
use watchword_store::{
    AccessError, Backend, BackendError, ObjectName, Precondition, ReadError, SecretPath, Store,
    Value, WriteError, conformance,
};

/// A disk of its own, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    fn mount(bytes: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let size = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), &*size)
            .expect("a tmpfs can be mounted by root");
        Self(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).ok();
    }
}

async fn open(file: &Path) -> Store<FileBackend> {
    let backend = std::sync::Mutex::new(Some(FileBackend::open(file).unwrap()));
    conformance::unsealed(|| backend.lock().unwrap().take().unwrap(), 1).await.remove(0)
}

async fn put(store: &Store<FileBackend>, path: &SecretPath, byte: u8) -> Result<u64, WriteError> {
    let value = Value::new(vec![byte; 100_000]);
    store.write(path, &value, &conformance::meta(), Precondition::Any).await
}

/// Every value of `written` is there, whole, and nothing that was never acknowledged is half there.
async fn check(store: &Store<FileBackend>, written: &[(SecretPath, u8)]) {
    for (path, byte) in written {
        let secret = store.read(path, None).await.unwrap_or_else(|e| panic!("`{path}`: {e:?}"));
        assert!(secret.value.expose_secret() == vec![*byte; 100_000], "`{path}` is whole");
    }
    for entry in store.list(None).await.unwrap().complete().unwrap() {
        assert!(store.read(&entry.path, None).await.is_ok(), "what is listed can be read");
    }
}

async fn fill_and_go_on(file: &Path) {
    let store = open(file).await;
    let mut written = Vec::new();
    let refused = loop {
        let byte = u8::try_from(written.len()).expect("the disk is small");
        let path: SecretPath = format!("full/{byte}").parse().unwrap();
        match put(&store, &path, byte).await {
            Ok(_) => written.push((path, byte)),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            &refused,
            WriteError::Access {
                source: AccessError::Backend(
                    BackendError::Refused { .. } | BackendError::Unavailable { .. }
                ),
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(written.len() > 5, "{refused:?}");

    // While it is full, everything that was acknowledged can be read, and writes go on failing.
    check(&store, &written).await;
    let more: SecretPath = "full/more".parse().unwrap();
    put(&store, &more, 0).await.unwrap_err();
    put(&store, &written[0].0, 0).await.unwrap_err();
    check(&store, &written).await;
    assert!(matches!(store.read(&more, None).await, Err(ReadError::NotFound { .. })));

    // The same after a restart of the process; also of single objects, of which a write needs two.
    let mut objects = Vec::new();
    for number in 0..4 {
        let name = ObjectName::parse(&format!("{number:056x}.1.{number:016x}")).unwrap();
        if store.backend().create(&name, &[0; 5000]).await.is_ok() {
            objects.push(name);
        }
    }
    drop(store);
    let store = open(file).await;
    check(&store, &written).await;
    for name in objects {
        assert!(store.backend().get(&name).await.unwrap().is_some(), "`{name}` was acknowledged");
        store.backend().delete(&name, None).await.ok();
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_on_a_full_disk() {
    if geteuid().is_root() {
        let disk = Disk::mount(4 * 1024 * 1024);
        let file = disk.0.path().join("store");
        fill_and_go_on(&file).await;

        // With room again, without a restart in between.
        let store = Arc::new(open(&file).await);
        while put(&store, &"full/last".parse().unwrap(), 1).await.is_ok() {}
        let size = std::ffi::CString::new("size=16777216").unwrap();
        mount_remount(disk.0.path(), MountFlags::empty(), &*size).unwrap();
        put(&store, &"full/last".parse().unwrap(), 2).await.unwrap();
        check(&store, &[("full/last".parse().unwrap(), 2)]).await;
    } else if getrlimit(Resource::Fsize).current.is_some() {
        let folder = TempDir::new().unwrap();
        fill_and_go_on(&folder.path().join("store")).await;
    } else {
        // This very test again, where no file grows beyond 4 MiB (of 512 bytes) and the signal
        // that says so is ignored.
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "no_acknowledged_write_is_lost_on_a_full_disk"])
            .status()
            .unwrap();
        assert!(status.success());
    }
}
