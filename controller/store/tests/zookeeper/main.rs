//! The ZooKeeper back end, against a real ZooKeeper: the suite, lost sessions, limits, rights.

#![cfg(all(feature = "testing", feature = "zookeeper"))]
#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not covered by clippy.toml

use std::time::Duration;

use futures::stream::{self, StreamExt};

use watchword_store::backend::memory::MemoryBackend;
use watchword_store::backend::zookeeper::{Digest, Settings, ZooKeeperBackend};
use watchword_store::{
    Backend, BackendError, ObjectKind, ObjectName, Precondition, Value, conformance, migrate,
};

use crate::server::{Options, Server};

mod server;
mod sessions;

/// The name of a head that no store has.
fn name(number: usize) -> ObjectName {
    // Spread over the folders as names of heads are.
    let number = u64::try_from(number).unwrap();
    let digits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ObjectName::parse(&format!("{digits:016x}{number:040x}")).unwrap()
}

fn refusal(error: &BackendError) -> String {
    match error {
        BackendError::Refused { source, .. } => source.to_string(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zookeeper_back_end_conforms() {
    let server = Server::start(Options { jute_max_buffer: 2 * 1024 * 1024, ..Options::default() });

    conformance::run(|| server.backend("/watchword")).await;
}

#[tokio::test]
async fn what_no_server_would_take_is_refused_before_it_is_sent() {
    let server = Server::start(Options::default());
    let backend = server.backend("/dcos/watchword");
    let fits = vec![0xa5; 1_047_000];
    let revision = backend.create(&name(1), &fits).await.unwrap();

    let created = backend.create(&name(2), &[0; 1024 * 1024]).await.unwrap_err();
    let replaced = backend.replace(&name(1), &[0; 1024 * 1024], &revision).await.unwrap_err();

    for error in [created, replaced] {
        let text = refusal(&error);
        assert!(text.contains("-Djute.maxbuffer=2097152"), "{text}");
    }
    assert!(backend.get(&name(1)).await.unwrap().unwrap().bytes == fits);
    assert_eq!(backend.get(&name(2)).await.unwrap(), None);
}

// Servers with a smaller limit than the address says close the connection instead.
#[tokio::test]
async fn a_limit_that_is_wrong_costs_one_request_and_not_the_session() {
    let server = Server::start(Options { jute_max_buffer: 256 * 1024, ..Options::default() });
    let settings = Settings { max_request_bytes: 1024 * 1024, ..server.settings("/watchword") };
    let backend = ZooKeeperBackend::new(settings);
    backend.create(&name(1), b"small").await.unwrap();

    let error = backend.create(&name(2), &[0; 512 * 1024]).await.unwrap_err();

    assert!(matches!(error, BackendError::Unavailable { .. }), "{error:?}");
    assert_eq!(backend.get(&name(1)).await.unwrap().unwrap().bytes, b"small");
    assert_eq!(backend.get(&name(2)).await.unwrap(), None);
}

#[tokio::test]
async fn nodes_of_an_owner_are_for_nobody_else() {
    let server = Server::start(Options::default());
    let owned = |password: &str| {
        let digest = Digest::parse(&format!("watchword:{password}"));
        ZooKeeperBackend::new(Settings { digest, ..server.settings("/watchword") })
    };
    let backend = owned("correct horse");
    let revision = backend.create(&name(1), b"sealed").await.unwrap();

    for stranger in [server.backend("/watchword"), owned("wrong")] {
        let errors = [
            stranger.get(&name(1)).await.unwrap_err(),
            stranger.create(&name(2), b"x").await.unwrap_err(),
            stranger.replace(&name(1), b"x", &revision).await.unwrap_err(),
            stranger.delete(&name(1), None).await.unwrap_err(),
            stranger.delete(&name(1), Some(&revision)).await.unwrap_err(),
            stranger.list(ObjectKind::Head).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(refusal(&error), "not authorized");
        }
    }
    assert_eq!(backend.get(&name(1)).await.unwrap().unwrap().bytes, b"sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_objects_are_listed_with_a_small_buffer() {
    // Of the names alone there are twice as many bytes.
    let server = Server::start(Options { jute_max_buffer: 128 * 1024, ..Options::default() });
    let backend = server.backend("/watchword");
    let created: Vec<_> = stream::iter(0..4000)
        .map(|number| {
            let backend = &backend;
            async move { (name(number), backend.create(&name(number), b"sealed").await.unwrap()) }
        })
        .buffer_unordered(256)
        .collect()
        .await;

    let mut listed: Vec<_> = backend
        .list(ObjectKind::Head)
        .await
        .unwrap()
        .into_iter()
        .map(|object| (object.name, object.revision))
        .collect();

    listed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut created = created;
    created.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(listed, created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_here_from_memory_and_away_again() {
    let server = Server::start(Options::default());
    let (from, to) = (MemoryBackend::default(), MemoryBackend::default());
    let writer = conformance::unsealed(|| from.clone(), 1).await.remove(0);
    for number in 0..20_u8 {
        let path = format!("moved/{}", number % 7).parse().unwrap();
        let value = Value::new(vec![number; 1000]);
        writer.write(&path, &value, &conformance::meta(), Precondition::Any).await.unwrap();
    }

    migrate::copy(&from, &server.backend("/moved"), |_| {}).await.unwrap();
    migrate::copy(&server.backend("/moved"), &to, |_| {}).await.unwrap();

    assert_eq!(to.objects(), from.objects());
}

#[tokio::test]
async fn without_a_server_an_operation_ends_and_says_so() {
    let settings = Settings {
        digest: None,
        // The port of discarded bytes, where nothing listens.
        hosts: "127.0.0.1:9".to_owned(),
        max_request_bytes: 1024 * 1024,
        root: "/watchword".to_owned(),
    };
    let backend = ZooKeeperBackend::new(settings);

    let got = tokio::time::timeout(Duration::from_secs(30), backend.get(&name(1))).await;

    let error = got.unwrap().unwrap_err();
    assert!(matches!(error, BackendError::Unavailable { operation: "get", .. }), "{error:?}");
}
