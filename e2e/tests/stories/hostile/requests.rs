//! Broken requests, and clients that dawdle.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchword_e2e::cluster::{Https, answered};
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, run, wait_for};

#[test]
fn requests_that_are_too_large_or_make_no_sense_are_refused() {
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
            let mut longest = review("admission.k8s.io/v1");
            longest.resize(3 << 20, b' ');
            rows.push((&webhook, "POST", path, longest, 200));
            rows.push((&webhook, "POST", path, vec![b' '; (3 << 20) + 1], 413));
            rows.push((&webhook, "POST", path, b"{".to_vec(), 400));
            rows.push((&webhook, "POST", path, deep.clone(), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1beta1"), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1"), 200));
        }
        let json = ["Content-Type: application/json".to_owned()];
        let flood = [json[0].clone(), format!("X-Flood: {}", "x".repeat(1 << 20))];
        for server in [&store, &webhook] {
            let flooded = async || server.send("POST", "/v1/resolve", &flood, b"{}").await;
            let answer = answered(flooded).await?;
            assert_eq!(answer.status, 431, "{}", answer.text());
        }
        // A body whose size nobody says is counted as it comes.
        let chunk = [b"100000\r\n".as_slice(), &[b' '; 1 << 20], b"\r\n"].concat();
        let chunks = [chunk.repeat(4), b"0\r\n\r\n".to_vec()].concat();
        for (server, path) in [(&store, "/v1/resolve"), (&webhook, "/mutate/pods")] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: \
                 application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            // A body has seconds to come, which may be too few for a busy machine.
            wait_for(&format!("{path} to refuse chunks"), LIMIT, async || {
                let mut stream = server.handshake().await?;
                stream.write_all(head.as_bytes()).await?;
                // Who refuses it early does not read it to its end.
                stream.write_all(&chunks).await.ok();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.ok();
                let answer = String::from_utf8_lossy(&answer).into_owned();
                ensure!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
                Ok(())
            })
            .await?;
        }
        for (server, method, path, body, status) in rows {
            let answer = answered(async || server.send(method, path, &json, &body).await).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let request = format!("{method} {path} with {} bytes: {start}", body.len());
            let answer = answer.with_context(|| request.clone())?;
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
        }
        anyhow::Ok(())
    });
}

#[test]
fn clients_that_dawdle_are_cut_off() {
    run(async |cluster: Cluster| {
        let (store, webhook) = (cluster.https("store").await?, cluster.https("webhook").await?);
        let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
        let all = [(&store, "/v1/resolve"), (&webhook, "/mutate/pods")].map(|(server, path)| {
            let head = head(path);
            let body = format!("{head}Content-Length: 4000\r\n\r\n{{\"version\":");
            async move {
                let header = format!("{head}X-Slow: ");
                let (.., halted, dripped) = tokio::try_join!(
                    silent(server),
                    halting(server, ""),
                    halting(server, &head),
                    dripping(server, &header),
                    halting(server, &body),
                    dripping(server, &body),
                )?;
                anyhow::Ok([halted, dripped])
            }
        });

        let ends = tokio::time::timeout(Duration::from_secs(100), try_join_all(all)).await;

        for answer in ends.context("a slow client is still connected")??.iter().flatten() {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        }
        anyhow::Ok(())
    });
}

/// Connects and says nothing, until the server ends it, in order or with a reset.
async fn silent(server: &Https) -> anyhow::Result<()> {
    let mut stream = server.connect().await?;
    stream.read_to_end(&mut Vec::new()).await.ok();
    Ok(())
}

/// Says so much and no more; what the server answers before it ends the connection.
async fn halting(server: &Https, text: &str) -> anyhow::Result<String> {
    let mut stream = server.handshake().await?;
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Says so much, and then a letter now and again, which a limit on silence would let pass.
async fn dripping(server: &Https, text: &str) -> anyhow::Result<String> {
    let (mut reader, mut writer) = tokio::io::split(server.handshake().await?);
    writer.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    let drip = async {
        while writer.write_all(b"x").await.is_ok() && writer.flush().await.is_ok() {
            // No condition is waited for: slowness is what this client is about.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = reader.read_to_end(&mut answer) => {}
        () = drip => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
