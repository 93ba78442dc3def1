//! What becomes of operations when servers die, stand still, or forget a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use watchword_store::backend::zookeeper::ZooKeeperBackend;
use watchword_store::{
    AccessError, Backend, BackendError, Precondition, Store, Value, WriteError, conformance,
};

use crate::name;
use crate::server::{Options, Server};

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_replaced_by_the_next_operation() {
    let server = Server::start(Options {
        max_session_timeout: Duration::from_secs(3),
        ..Options::default()
    });
    let backend = server.backend("/watchword");
    let revision = backend.create(&name(1), b"one").await.unwrap();

    server.freeze();
    // Ends with the session, long before the ten seconds of a request.
    let lost = backend.replace(&name(1), b"two", &revision).await.unwrap_err();
    server.thaw();

    assert!(matches!(lost, BackendError::Unavailable { operation: "replace", .. }), "{lost:?}");
    let found = backend.get(&name(1)).await.unwrap().unwrap();
    // It may have happened, and its outcome can be read.
    assert!(found.bytes == b"one" && found.revision == revision || found.bytes == b"two");
    backend.replace(&name(1), b"three", &found.revision).await.unwrap();
    assert_eq!(backend.get(&name(1)).await.unwrap().unwrap().bytes, b"three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_acknowledged_write_is_lost_when_the_server_is_killed_again_and_again() {
    let mut server = Server::start(Options {
        max_session_timeout: Duration::from_secs(2),
        ..Options::default()
    });
    let stores: Vec<Arc<Store<ZooKeeperBackend>>> =
        conformance::unsealed(|| server.backend("/watchword"), 2)
            .await
            .into_iter()
            .map(Arc::new)
            .collect();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for number in 0..6_u8 {
        let store = Arc::clone(&stores[usize::from(number % 2)]);
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        writers.spawn(async move {
            // Three paths, each written by two replicas.
            let path = format!("lost/session-{}", number / 2).parse().unwrap();
            let mut written = Vec::new();
            for round in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let bytes = [&[number][..], &round.to_be_bytes()].concat();
                let value = Value::new(bytes.clone());
                match store.write(&path, &value, &conformance::meta(), Precondition::Any).await {
                    Ok(version) => {
                        written.push((path.clone(), version, bytes));
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(WriteError::Access {
                        source: AccessError::Backend(BackendError::Unavailable { .. }),
                        ..
                    }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            written
        });
    }

    for _ in 0..3 {
        let before = acknowledged.load(Ordering::Relaxed);
        let more = async {
            while acknowledged.load(Ordering::Relaxed) < before + 60 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, more).await.expect("writes go on after a crash");
        server.kill();
        server.restart();
    }
    stop.store(true, Ordering::Relaxed);
    let written: Vec<_> = writers.join_all().await.into_iter().flatten().collect();

    let fresh = conformance::unsealed(|| server.backend("/watchword"), 1).await.remove(0);
    assert!(written.len() >= 180);
    for (path, version, bytes) in &written {
        let secret = fresh.read(path, Some(*version)).await.ok().unwrap();
        assert_eq!(secret.value.expose_secret(), bytes.as_slice(), "version {version} of `{path}`");
    }
    // What crashes left behind is removed, and no version with it.
    fresh.sweep().await.unwrap();
    assert_eq!(fresh.sweep().await.unwrap(), 0);
    for (path, version, _) in &written {
        assert!(fresh.read(path, Some(*version)).await.is_ok());
    }
}

/// Long enough for a small machine; a backend that opens no new session would never write again.
const LIMIT: Duration = Duration::from_secs(300);
