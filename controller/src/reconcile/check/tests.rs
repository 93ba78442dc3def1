//! Questions over a real TLS connection, and how long answers hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::listen::Limits;
use crate::readiness::Readiness;
use crate::shutdown::{Shutdown, Trigger};
use crate::tls::{ServeTls, serve};

const NOW: &str = "2026-11-23T12:00:00Z";

/// A store that always answers the same, and what a controller needs to ask it.
struct Store {
    asked: Arc<AtomicUsize>,
    checks: Checks,
    _directory: TempDir,
    _trigger: Trigger,
}

impl Store {
    async fn answering(status: u16, body: Value) -> Self {
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("tls.crt"), certified.cert.pem()).unwrap();
        std::fs::write(path("ca.crt"), certified.cert.pem()).unwrap();
        std::fs::write(path("tls.key"), certified.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("token"), "the-token\n").unwrap();

        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let answer = async move |headers: HeaderMap, Json(request): Json<CheckRequest>| {
            counter.fetch_add(1, Ordering::Relaxed);
            assert_eq!(headers["authorization"], "Bearer the-token");
            assert_eq!((request.namespace.as_str(), request.revision.as_str()), ("shop", "web-1"));
            (StatusCode::from_u16(status).unwrap(), Json(body.clone()))
        };
        let (trigger, shutdown) = Shutdown::channel();
        tokio::spawn(serve(ServeTls {
            address,
            client_ca: None,
            limits: Limits::default(),
            readiness: Readiness::new(&shutdown),
            router: Router::new().route(CHECK_PATH, post(answer)),
            shutdown,
            tls_dir: directory.path().to_owned(),
        }));
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let trust = TrustArgs {
            ca_dir: directory.path().to_owned(),
            store_url: format!("https://localhost:{}/", address.port()),
        };
        Self {
            asked,
            checks: Checks::new(&trust, path("token")),
            _directory: directory,
            _trigger: trigger,
        }
    }

    async fn ask(&self, seconds: i64, latest: Option<i64>) -> Asked {
        let key = Key { name: "web".to_owned(), namespace: "shop".to_owned() };
        let question = Question {
            key: &key,
            latest: latest.map(at),
            now: at(seconds),
            revision: Some("web-1"),
            wants: true,
        };
        self.checks.ask(question).await
    }
}

#[rstest]
#[case::good(200, json!({"references": [{"name": "shop/db", "resolver": "store", "version": 2}]}), None)]
#[case::sealed(503, json!({"code": "sealed", "message": "the store is sealed"}), Some(("Sealed", "waiting for the secret store: sealed")))]
#[case::nonsense(200, json!([1]), Some(("StoreUnavailable", "waiting for the secret store: cannot understand the secret store's answer")))]
#[case::refused(403, json!({"code": "denied", "message": "you are not the controller"}), Some(("CheckRefused", "the secret store refuses to check the references: you are not the controller")))]
#[tokio::test]
async fn what_the_store_says_becomes_a_check(
    #[case] status: u16,
    #[case] body: Value,
    #[case] unknown: Option<(&str, &str)>,
) {
    let store = Store::answering(status, body).await;

    let asked = store.ask(0, None).await;

    match (&asked.check, unknown) {
        (Check::Answered(references), None) => assert_eq!(references[0].version, Some(2)),
        (Check::Unknown { message, reason, .. }, Some(expected)) => {
            assert_eq!((*reason, message.as_str()), expected);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(asked.resolved_since.is_some(), unknown.is_none());
}

#[tokio::test]
async fn an_answer_holds_until_it_is_old_or_a_pod_has_asked_since() {
    let store = Store::answering(200, json!({"references": []})).await;

    for (seconds, latest, asked) in [
        (0, None, 1),
        (500, None, 1),
        (501, Some(-5), 1),
        (502, Some(501), 2),
        // Pods come in bursts.
        (503, Some(503), 2),
        (506, Some(503), 3),
        (507 + 600, None, 4),
    ] {
        store.ask(seconds, latest).await;
        assert_eq!(store.asked.load(Ordering::Relaxed), asked, "at {seconds}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_unknown_and_never_an_error() {
    let trust = TrustArgs {
        ca_dir: PathBuf::from("/nowhere"),
        store_url: "https://localhost:9".to_owned(),
    };
    let key = Key { name: "web".to_owned(), namespace: "shop".to_owned() };
    let question =
        Question { key: &key, latest: None, now: at(0), revision: Some("web-1"), wants: true };

    let asked = Checks::new(&trust, PathBuf::from("/nowhere")).ask(question).await;

    assert!(matches!(asked.check, Check::Unknown { reason: "StoreUnavailable", .. }), "{asked:?}");
}

#[tokio::test]
async fn definitions_share_the_silence_of_a_store_and_ask_again_when_it_is_over() {
    let store = Store::answering(200, json!({"references": []})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trust = TrustArgs {
        ca_dir: store.checks.ca.parent().unwrap().to_owned(),
        store_url: format!("https://localhost:{}", listener.local_addr().unwrap().port()),
    };
    let tried = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tried);
    // What accepts and says nothing of TLS.
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let checks = Checks::new(&trust, store.checks.token.clone());
    let ask = async |name: &str| {
        let key = Key { name: name.to_owned(), namespace: "shop".to_owned() };
        let question =
            Question { key: &key, latest: None, now: at(0), revision: Some("web-1"), wants: true };
        (checks.ask(question).await.check, tried.load(Ordering::Relaxed))
    };

    let (first, tried_once) = ask("web").await;
    let (second, tried_still) = ask("worker").await;
    *checks.lock_silence() = None;
    let (_, tried_again) = ask("cron").await;

    assert!(matches!(first, Check::Unknown { reason: "StoreUnavailable", .. }), "{first:?}");
    assert_eq!(first, second);
    assert!(tried_once > 0);
    assert_eq!(tried_still, tried_once);
    assert!(tried_again > tried_once);
}

#[test]
fn a_store_is_away_since_it_was_last_there_and_back_since_the_first_good_answer() {
    let away = |since| Check::Unknown { message: String::new(), reason: "Sealed", since };
    let good = || Check::Answered(Vec::new());

    let one = Asked::after(None, good(), "web-1", at(0));
    let two = Asked::after(Some(&one), away(at(10)), "web-1", at(10));
    let three = Asked::after(Some(&two), away(at(20)), "web-1", at(20));
    let four = Asked::after(Some(&three), good(), "web-1", at(30));
    let five = Asked::after(Some(&four), good(), "web-1", at(40));

    assert_eq!((two.check, three.check), (away(at(0)), away(at(0))));
    assert_eq!((one.resolved_since, three.resolved_since), (Some(at(0)), None));
    assert_eq!((four.resolved_since, five.resolved_since), (Some(at(30)), Some(at(30))));
}

fn at(seconds: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}
