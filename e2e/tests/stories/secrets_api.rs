//! The Secrets API as its OpenAPI document describes it: every operation is asked of the running
//! store, and every answer judged by the document's own schemas.

mod document;

use std::cell::Cell;
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_e2e::cluster::{Answer, ClientAuthority, Https, answered};
use watchword_e2e::{Cluster, Namespace, run, skip};

use document::Document;

/// One request: the operation, what is asked, and how it must be answered.
struct Row {
    operation: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<&'static str>,
    body: Vec<u8>,
    status: u16,
}

impl Row {
    fn new(operation: &'static str, method: &'static str, path: &str, status: u16) -> Self {
        let path = path.to_owned();
        Self { operation, method, path, headers: Vec::new(), body: Vec::new(), status }
    }

    fn header(mut self, header: &'static str) -> Self {
        self.headers.push(header);
        self
    }

    fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("Content-Type: application/json")
    }

    fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Type: application/octet-stream")
    }
}

#[test]
fn every_operation_of_the_document_is_answered_as_it_says() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("openapi").await?;
        let store = cluster.https("store").await?;
        let token = admin(&cluster, &namespace).await?;
        let document = Document::of(&store, &token).await?;

        let mut told = BTreeSet::new();
        for row in rows(namespace.name()) {
            let answer = answered(async || ask(&store, &token, &row).await).await?;
            let name = format!("{}: {} {}", row.operation, row.method, row.path);
            ensure!(answer.status == row.status, "{name}: {} {}", answer.status, answer.text());
            document.judge(row.operation, row.method, &answer).with_context(|| name)?;
            told.insert(row.operation.to_owned());
        }

        let described: BTreeSet<String> = document
            .operations()
            .map(|(_, _, id)| id.to_owned())
            // It would shut out every other story; its own are in `seal`.
            .filter(|operation| operation != "seal")
            .collect();
        assert_eq!(told, described);
        anyhow::Ok(())
    });
}

#[test]
fn a_client_certificate_of_the_clusters_authority_is_a_user_of_its_groups() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only a local cluster gives its authority away");
            return Ok(());
        };
        let namespace = cluster.namespace("certified").await?;
        let store = cluster.https("store").await?;
        let n = namespace.name();
        for name in ["db", "other"] {
            cluster.create_secret(&namespace.secret(name), "v").await?;
        }
        let rules = |name: &str| {
            json!([{
                "apiGroups": ["store.watchword.dev"], "resources": ["secrets"],
                "resourceNames": [namespace.secret(name)], "verbs": ["read"],
            }])
        };
        // Which binds it to the user `reader@<namespace>` too.
        namespace.account("reader").await?;
        namespace.grant("reader", &rules("db")).await?;
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "group"}, "rules": rules("other"),
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "group"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("ops-{n}")},
            ],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "group"},
        });
        for object in [role, binding] {
            namespace.apply(&object.to_string()).await?;
        }
        let authority = ClientAuthority::of(&node)?;
        let (reader, ops) = (format!("reader@{n}"), format!("ops-{n}"));

        for (user, group, secret, status) in [
            (reader.as_str(), "others", "db", 200),
            (&reader, "others", "other", 403),
            (&reader, &ops, "other", 200),
            ("nobody", &ops, "other", 200),
            ("nobody", &ops, "db", 403),
            ("nobody", "others", "db", 403),
            // Who is in the group by name only is a user of that name.
            (&ops, "others", "other", 403),
        ] {
            let store = store.by(&authority.issue(user, group)?);
            let path = format!("/secrets/v1/secret/default/{}", namespace.secret(secret));
            let answer = answered(async || store.send("GET", &path, &[], b"").await).await?;
            let row = format!("{user} of {group} reads {secret}: {}", answer.text());
            assert_eq!(answer.status, status, "{row}");
        }
        let path = format!("/secrets/v1/secret/default/{}", namespace.secret("db"));
        let posing = store.by(&ClientAuthority::posing()?.issue(&reader, "system:masters")?);
        assert!(posing.send("GET", &path, &[], b"").await.is_err(), "it has an answer");
        let without = answered(async || store.send("GET", &path, &[], b"").await).await?;
        assert_eq!(without.status, 401, "{}", without.text());
        anyhow::Ok(())
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_as_json_however_large_it_is() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("large").await?;
        let store = cluster.https("store").await?;
        let token = admin(&cluster, &namespace).await?;
        let path = format!("/secrets/v1/secret/default/{}", namespace.secret("large"));
        let put = |name: &str, body: Vec<u8>| Row {
            body,
            ..Row::new("createSecret", "PUT", &format!("{path}-{name}"), 413)
                .header("Content-Type: application/octet-stream")
        };

        for bytes in [MAX_BYTES + 1, 2 << 20, 8 << 20] {
            let row = put("too", vec![b'x'; bytes]);
            let answer = answered(async || ask(&store, &token, &row).await).await?;
            assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too_large")));
        }
        let attempts = Cell::new(0);
        // etcd may take long for a megabyte on a busy disk, and may have it nonetheless.
        let answer = answered(async || {
            attempts.set(attempts.get() + 1);
            let name = attempts.get().to_string();
            ask(&store, &token, &put(&name, vec![0xff; MAX_BYTES])).await
        })
        .await?;
        assert_eq!(answer.status, 201, "{}", answer.text());
        anyhow::Ok(())
    });
}

/// The largest value: 1 MiB less 1 KiB.
const MAX_BYTES: usize = (1 << 20) - (1 << 10);

fn rows(n: &str) -> Vec<Row> {
    let api = |path: &str| format!("/secrets/v1/{path}");
    let secret = |path: &str| api(&format!("secret/default/{n}/{path}"));
    let (db, bin, no) = (secret("db"), secret("bin"), secret("missing"));
    let value = json!({"value": "v\n"});
    let web = json!({"path": format!("{n}%2Fdb"), "value": "v\n"});
    let sdk = json!({"author": "sdk", "value": "2", "description": "d", "labels": ["a"]});
    vec![
        Row::new("getOpenApi", "GET", &api("openapi.json"), 200),
        Row::new("ping", "GET", &api("ping"), 200),
        Row::new("pingBackend", "GET", &api("ping/backends/default"), 200),
        Row::new("pingBackend", "GET", &api("ping/backends/all"), 200),
        Row::new("pingBackend", "GET", &api("ping/backends/other"), 404),
        Row::new("getSealStatus", "GET", &api("seal-status/default"), 200),
        Row::new("getSealStatus", "GET", &api("seal-status/other"), 404),
        Row::new("listStores", "GET", &api("store"), 200),
        Row::new("getStore", "GET", &api("store/default"), 200),
        Row::new("getStore", "GET", &api("store/other"), 404),
        Row::new("createStore", "PUT", &api("store/default"), 409).json(&json!({})),
        Row::new("createStore", "PUT", &api("store/other"), 404).json(&json!({"driver": "x"})),
        Row::new("deleteStore", "DELETE", &api("store/default"), 403),
        Row::new("createSecret", "PUT", &db, 201).json(&web),
        Row::new("createSecret", "PUT", &db, 409).json(&value),
        Row::new("createSecret", "PUT", &db, 412).json(&value).header("If-None-Match: *"),
        Row::new("createSecret", "PUT", &no, 400).json(&json!({"valeu": "v"})),
        Row::new("createSecret", "PUT", &no, 400).header("Content-Type: text/plain"),
        Row::new("createSecret", "PUT", &no, 400),
        Row::new("createSecret", "PUT", &bin, 201).bytes(b"\xff\0"),
        Row::new("getSecret", "GET", &db, 200),
        Row::new("getSecret", "GET", &db, 200).header("Accept: application/octet-stream"),
        Row::new("getSecret", "GET", &bin, 200).header("Accept: */*"),
        Row::new("getSecret", "GET", &bin, 400).header("Accept: application/json"),
        Row::new("getSecret", "GET", &db, 400).header("Accept: text/html"),
        Row::new("getSecret", "GET", &db, 304).header("If-None-Match: \"1\""),
        Row::new("getSecret", "GET", &db, 200).header("If-None-Match: \"9\""),
        Row::new("getSecret", "GET", &no, 404),
        Row::new("getSecret", "GET", &format!("{db}?version=1"), 200),
        Row::new("getSecret", "GET", &format!("{db}?version=9"), 404),
        Row::new("getSecret", "GET", &format!("{db}?version=x"), 400),
        Row::new("getSecret", "GET", &format!("{db}?versions=true"), 200),
        Row::new("getSecret", "GET", &format!("{}?list=true", secret("")), 200),
        Row::new("updateSecret", "PATCH", &db, 204).json(&sdk).header("If-Match: \"1\""),
        Row::new("updateSecret", "PATCH", &db, 412).json(&value).header("If-Match: \"1\""),
        Row::new("updateSecret", "PATCH", &db, 204).bytes(b"3"),
        Row::new("updateSecret", "PATCH", &no, 404).json(&value),
        Row::new("updateSecret", "PATCH", &format!("{db}?rollback=1"), 204),
        Row::new("updateSecret", "PATCH", &format!("{db}?rollback=9"), 404),
        Row::new("renewSecret", "PUT", &api(&format!("renew/default/{n}/db")), 204)
            .json(&json!({"duration": "60"})),
        Row::new("revokeSecret", "PUT", &api(&format!("revoke/default/{n}/db")), 204),
        Row::new("revokeSecret", "PUT", &api(&format!("revoke/default/{n}/missing")), 404),
        Row::new("deleteSecret", "DELETE", &db, 412).header("If-Match: \"1\""),
        Row::new("deleteSecret", "DELETE", &db, 204).header("If-Match: \"4\""),
        Row::new("deleteSecret", "DELETE", &db, 404),
        Row::new("listRoot", "GET", &api("secret/default?list=true"), 200),
        Row::new("listRoot", "GET", &api("secret/default"), 400),
        Row::new("listRootFolder", "GET", &api("secret/default/?list=true"), 200),
        Row::new("getAuditKey", "GET", &api("audit/default"), 200),
        Row::new("backup", "GET", &api("backup/default"), 200),
        Row::new("backup", "GET", &api("backup/other"), 404),
        Row::new("restore", "PUT", &api("restore/default"), 409).bytes(b"x"),
        Row::new("restore", "PUT", &api("restore/default"), 400).json(&json!({})),
        Row::new("verifyStore", "GET", &api("verify/default"), 200),
        Row::new("getInit", "GET", &api("init/default"), 200),
        Row::new("init", "PUT", &api("init/default"), 409).json(&json!({})),
        Row::new("unseal", "PUT", &api("unseal/other"), 404).json(&json!({"reset": true})),
        Row::new("autoUnseal", "PUT", &api("auto-unseal/other"), 404),
        Row::new("getRekey", "GET", &api("rekey/default"), 200),
        Row::new("startRekey", "PUT", &api("rekey/default"), 400)
            .json(&json!({"shares": 0, "threshold": 0})),
        Row::new("giveRekeyShare", "PUT", &api("rekey/other/share"), 404)
            .json(&json!({"key": "00", "nonce": "0"})),
        Row::new("cancelRekey", "DELETE", &api("rekey/other"), 404),
        Row::new("getRotation", "GET", &api("rotate/default"), 200),
        Row::new("rotate", "PUT", &api("rotate/other"), 404).json(&json!({})),
    ]
}

/// A token that may do everything.
async fn admin(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    namespace.account("boss").await?;
    let uid = Api::<NamespaceObject>::all(cluster.client()).get(namespace.name()).await?.uid();
    let owner = json!({
        "apiVersion": "v1", "kind": "Namespace", "name": namespace.name(), "uid": uid,
    });
    let name = format!("boss-{}", namespace.name());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "subjects": namespace.subjects("boss"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
    });
    cluster.apply(&binding.to_string()).await?;
    Ok(namespace.token(cluster.client(), "boss", None, None).await?)
}

async fn ask(store: &Https, token: &str, row: &Row) -> Result<Answer> {
    // As a client of DC/OS shows its token.
    let mut headers = vec![format!("Authorization: token={token}")];
    headers.extend(row.headers.iter().map(|&header| header.to_owned()));
    store.send(row.method, &row.path, &headers, &row.body).await
}
