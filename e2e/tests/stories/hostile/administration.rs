//! Who may run the store: each verb of administration is a right of its own. And how often anybody
//! may be refused.

use serde_json::{Value, json};
use watchword_e2e::cluster::Request;
use watchword_e2e::{Cluster, run};

use super::support::*;

/// Every endpoint of administration with the one verb that it takes, and how it is answered to who
/// has it: not at all where that would change the store under other stories.
fn endpoints() -> Vec<(&'static str, &'static str, Value, &'static str, &'static [u16])> {
    let none = Value::Null;
    vec![
        ("GET", "audit/default", none.clone(), "audit", &[200]),
        ("GET", "backup/default", none.clone(), "backup", &[200]),
        ("PUT", "restore/default", none.clone(), "restore", &[400, 409]),
        ("PUT", "store/default", json!({"driver": "vault"}), "create", &[409]),
        ("PUT", "store/other", json!({"driver": "vault"}), "create", &[404]),
        ("DELETE", "store/default", none.clone(), "delete", &[403]),
        ("GET", "init/default", none.clone(), "init", &[200]),
        ("PUT", "init/default", json!({}), "init", &[409]),
        ("GET", "store", none.clone(), "read", &[200]),
        ("GET", "store/default", none.clone(), "read", &[200]),
        ("GET", "store/other", none.clone(), "read", &[404]),
        ("GET", "rekey/default", none.clone(), "rekey", &[200]),
        ("PUT", "rekey/default", json!({"shares": 0, "threshold": 0}), "rekey", &[400]),
        ("GET", "rotate/default", none.clone(), "rotate", &[200]),
        ("PUT", "rotate/default", json!({}), "rotate", &[]),
        ("PUT", "seal/default", none.clone(), "seal", &[]),
        ("PUT", "unseal/default", json!({"key": "no key"}), "unseal", &[200, 400]),
        ("GET", "verify/default", none, "verify", &[200]),
    ]
}

const VERBS: [&str; 12] = [
    "audit", "backup", "create", "delete", "init", "read", "rekey", "restore", "rotate", "seal",
    "unseal", "verify",
];

#[test]
fn each_verb_of_administration_is_a_right_of_its_own() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("admin").await?;
        let store = cluster.https("store").await?;
        let mut subjects = Vec::new();
        for verb in VERBS {
            let urls = ["/secrets/v1/store/default"];
            grant_urls(&namespace, verb, &json!([{"nonResourceURLs": urls, "verbs": [verb]}]))
                .await?;
            subjects.push((verb, namespace.token(cluster.client(), verb, None, None).await?));
        }
        // Who may read every secret may not run the store.
        let all = json!([{"nonResourceURLs": ["/secrets/v1/secret/*"], "verbs": ["*"]}]);
        grant_urls(&namespace, "secrets", &all).await?;
        subjects.push(("secrets", namespace.token(cluster.client(), "secrets", None, None).await?));

        for (method, path, body, needed, expected) in endpoints() {
            for (verb, token) in &subjects {
                if *verb == needed && expected.is_empty() {
                    continue;
                }
                let url = format!("/secrets/v1/{path}");
                let answer = store.ask(method, &url, Some(token), &body).await?;
                let row = format!("{verb}: {method} {path}: {} {}", answer.status, answer.text());
                if *verb == needed {
                    assert!(expected.contains(&answer.status), "{row}");
                } else {
                    assert_eq!((answer.status, code(&answer)), (403, "denied".into()), "{row}");
                }
            }
        }
        // What everybody may whom the cluster knows, and nobody else.
        for path in ["ping", "ping/backends/all", "seal-status/default", "openapi.json"] {
            let url = format!("/secrets/v1/{path}");
            let (_, token) = &subjects[0];
            assert_eq!(store.ask("GET", &url, Some(token), &Value::Null).await?.status, 200);
            let stranger = store.ask("GET", &url, None, &Value::Null).await?;
            assert_eq!((stranger.status, code(&stranger)), (401, "unauthenticated".into()));
        }

        let denied = format!("system:serviceaccount:{}:secrets", namespace.name());
        audited(&cluster, "denied administration", endpoints().len(), |line| {
            line["subject"]["user"]["name"] == denied && line["decision"] == "denied"
        })
        .await?;
        anyhow::Ok(())
    });
}

#[test]
fn whoever_is_refused_too_often_has_to_wait_and_nobody_else() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("guess").await?;
        let store = cluster.https("store").await?;
        for name in ["guesser", "patient"] {
            namespace.account(name).await?;
        }
        let guesser = namespace.token(cluster.client(), "guesser", None, None).await?;
        let patient = namespace.token(cluster.client(), "patient", None, None).await?;
        let url = |n: usize| format!("/secrets/v1/secret/default/{}/s{n}", namespace.name());

        // Each replica counts for itself.
        let guess = |number| Request {
            method: "GET",
            path: url(number),
            token: Some(guesser.clone()),
            body: Value::Null,
        };
        store.until_told_to_wait(403, guess).await?;

        let answer = store.ask("GET", &url(0), Some(&patient), &Value::Null).await?;
        assert_eq!(answer.status, 403, "{}", answer.text());
        anyhow::Ok(())
    });
}
