//! Broken requests, and clients that dawdle.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchword_e2e::cluster::Https;
use watchword_e2e::{Cluster, run};

#[test]
fn requests_that_are_too_large_or_make_no_sense_are_refused_at_once() {
    run(async |cluster: Cluster| {
        let (store, webhook) = (cluster.https("store").await?, cluster.https("webhook").await?);
        let valid = r#"{"version":1,"container":"web","want":["env"]}"#;
        let padded = |bytes: usize| [valid.as_bytes(), &vec![b' '; bytes]].concat();
        let deep = "[".repeat(50_000).into_bytes();
        let mut rows: Vec<(&Https, &str, &str, Vec<u8>, u16)> = vec![
            (&store, "POST", "/v1/resolve", padded(0), 401),
            (&store, "POST", "/v1/resolve", padded(64 << 10), 413),
            (&store, "POST", "/v1/resolve", padded(8 << 20), 413),
            (&store, "POST", "/v1/resolve", Vec::new(), 400),
            (&store, "POST", "/v1/resolve", valid[..20].into(), 400),
            (&store, "POST", "/v1/resolve", deep.clone(), 400),
            (&store, "POST", "/v1/resolve", b"\xff\xfe\0".to_vec(), 400),
            (&store, "POST", "/v1/check", padded(64 << 10), 413),
            (&store, "GET", "/v1/resolve", Vec::new(), 405),
            (&store, "POST", "/v1/resolve/", padded(0), 404),
            (&store, "POST", "/v1/../v1/resolve", padded(0), 404),
            (&store, "POST", "/v2/resolve", padded(0), 404),
        ];
        for text in [
            r#"{"version":2,"container":"web","want":["env"]}"#,
            r#"{"version":1,"container":"web","want":["env"],"pod":"other"}"#,
            r#"{"version":1,"container":"web","want":["everything"]}"#,
            r#"{"version":1,"want":["env"]}"#,
            r#"{"version":"1","container":"web","want":["env"]}"#,
            "null",
        ] {
            rows.push((&store, "POST", "/v1/resolve", text.into(), 400));
        }
        let review = |version: &str| {
            json!({"apiVersion": version, "kind": "AdmissionReview", "request": {"uid": "u"}})
                .to_string()
                .into_bytes()
        };
        for path in ["/mutate/pods", "/validate/taskdefinitions"] {
            rows.push((&webhook, "POST", path, vec![b' '; (3 << 20) + 1], 413));
            rows.push((&webhook, "POST", path, b"{".to_vec(), 400));
            rows.push((&webhook, "POST", path, deep.clone(), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1beta1"), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1"), 200));
        }
        let json = ["Content-Type: application/json".to_owned()];
        for (server, method, path, body, status) in rows {
            let started = Instant::now();
            let answer = server.send(method, path, &json, &body).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let request = format!("{method} {path} with {} bytes: {start}", body.len());
            let answer = answer.with_context(|| request.clone())?;
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
            assert!(started.elapsed() < Duration::from_secs(10), "{request}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn clients_that_dawdle_are_cut_off() {
    run(async |cluster: Cluster| {
        let (store, webhook) = (cluster.https("store").await?, cluster.https("webhook").await?);
        let head = "POST /v1/resolve HTTP/1.1\r\nHost: x\r\n";
        let body = format!("{head}Content-Length: 40\r\n\r\n{{\"version\":");
        let silent = async |server: &Https| {
            let mut stream = server.connect().await?;
            let mut rest = Vec::new();
            // Whether it ends in order or with a reset: it ends.
            stream.read_to_end(&mut rest).await.ok();
            anyhow::Ok(rest)
        };
        let halting = async |text: &str| {
            let mut stream = store.handshake().await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            anyhow::Ok(rest)
        };
        let all = async {
            tokio::try_join!(
                silent(&store),
                silent(&webhook),
                halting(""),
                halting(head),
                halting(&body)
            )
        };

        // Limits of ten seconds each, one after another at most.
        let ends = tokio::time::timeout(Duration::from_secs(45), all).await;

        let (_, _, _, _, body) = ends.context("a slow client is still connected")??;
        let answer = String::from_utf8_lossy(&body).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        anyhow::Ok(())
    });
}
