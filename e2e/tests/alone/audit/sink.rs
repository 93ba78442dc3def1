//! The log in a file, beside standard output: rotated, with hashed paths, on a volume that runs full.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::cluster::{Answer, Https, answered};
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, LocalNode, Namespace, wait_for};

use super::{audit_lines, is_ready, log_with, logs, text, verify};
use crate::keeper::begun;

/// Two replicas, each with a file of its own: who was asked has the line; neither log names a path;
/// both verify with the key alone; and when the volume is full, nothing is given out or done.
///
/// There must be no replica when it begins.
pub(crate) async fn is_a_file_too(
    cluster: &Cluster,
    namespace: &Namespace,
    key: &str,
) -> Result<()> {
    with_small_files(cluster).await?;
    let token = admin(cluster, namespace).await?;
    let [one, other] = replicas(cluster, &token).await?;
    let path = namespace.secret("filed");
    wait_for("the store to open", LIMIT, async || {
        let answer = one.ask("PUT", &path, &json!({"value": "first"})).await?;
        ensure!(matches!(answer.status, 201 | 409), "{}", answer.text());
        Ok(())
    })
    .await?;
    wait_for("the other replica to get the key", LIMIT, async || {
        let answer = other.ask("PATCH", &path, &json!({"value": "second"})).await?;
        ensure!(answer.status == 204, "{}", answer.text());
        Ok(())
    })
    .await?;
    each_has_its_own_lines(cluster, [&one, &other], &path, key).await?;

    let node = cluster.local().context("a local cluster")?;
    let asked = until_refused(&one, &path).await?;
    let files: Vec<String> =
        one.files(&node)?.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    assert_eq!(files.len(), 3, "the oldest first, after {asked} requests");
    let whole = files.concat();
    assert!(!whole.contains(&path), "a path stands in the file");
    assert!(audit_lines(&files[2]).len() > 1, "nothing was written after the rotation");
    for file in &files[..2] {
        let last = audit_lines(file).pop().context("an empty file")?;
        assert_eq!(last["event"], "checkpoint", "every file ends with a signature");
    }
    let verified = verify(cluster, &whole, key, &[]).await?;
    assert!(verified.status.success(), "{}", text(&verified));
    let begin_of_last = whole[..whole.len() - 1].rfind('\n').context("one line")? + 1;
    let cut = verify(cluster, &whole[..begin_of_last], key, &[]).await?;
    assert!(cut.status.success() && text(&cut).contains("not closed after"), "{}", text(&cut));
    let cut = verify(cluster, &whole[..begin_of_last], key, &["--closed"]).await?;
    assert_eq!(cut.status.code(), Some(1), "{}", text(&cut));
    let newest = verify(cluster, &files[1..].concat(), key, &[]).await?;
    assert_eq!(newest.status.code(), Some(1), "{}", text(&newest));
    let newest = verify(cluster, &files[1..].concat(), key, &["--partial"]).await?;
    assert!(newest.status.success(), "{}", text(&newest));

    // Neither a value nor a change, until there is room; the other replica has its own.
    let refused = one.ask("PATCH", &path, &json!({"value": "third"})).await?;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("unavailable")));
    let read = answered(async || other.ask("GET", &path, &Value::Null).await).await?;
    assert_eq!((read.status, &read.json()["value"]), (200, &json!("second")));
    // It can be sealed all the same, and not be opened.
    let sealed = one.run("seal").await?;
    assert_eq!(sealed.status, 200, "{}", sealed.text());
    let opened = one.run("auto-unseal").await?;
    assert_eq!((opened.status, &opened.json()["code"]), (503, &json!("unavailable")));
    fs::remove_file(&one.files(&node)?[0])?;
    let opened = one.run("auto-unseal").await?;
    assert_eq!(opened.status, 204, "{}", opened.text());
    let read = answered(async || one.ask("GET", &path, &Value::Null).await).await?;
    assert_eq!((read.status, &read.json()["value"]), (200, &json!("second")));

    let files = one.files(&node)?;
    let newest = fs::read_to_string(files.last().context("no file")?)?;
    let lost = audit_lines(&newest).into_iter().find(|line| line["event"] == "lost");
    let lost = lost.context("the log does not say that lines are missing")?;
    assert!(lost["lost"].as_u64() > Some(0), "{lost}");
    let rest = files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?.concat();
    let verified = verify(cluster, &rest, key, &["--partial"]).await?;
    assert!(verified.status.success(), "{}", text(&verified));
    Ok(())
}

/// One create, answered by the one, and one update, answered by the other.
async fn each_has_its_own_lines(
    cluster: &Cluster,
    replicas: [&Replica; 2],
    path: &str,
    key: &str,
) -> Result<()> {
    let mut both = String::new();
    let mut objects = Vec::new();
    for (replica, [ours, others]) in
        replicas.iter().zip([["create", "update"], ["update", "create"]])
    {
        let is_done =
            |line: &Value, event: &str| line["event"] == event && line["decision"] == "allowed";
        log_with(cluster, &replica.name, ours, |line| is_done(line, ours)).await?;
        let log = logs(cluster, &replica.name).await?;
        let lines = audit_lines(&log);
        let done = |event: &str| lines.iter().find(|line| is_done(line, event));
        let line = done(ours).with_context(|| format!("`{}` has no {ours}", replica.name))?;
        ensure!(done(others).is_none(), "`{}` has the {others} of the other one", replica.name);
        let chain = line["chain"].as_str().unwrap_or_default();
        ensure!(chain.starts_with(&format!("{}/", replica.name)), "{line}");
        ensure!(line["path"].is_null() && !log.contains(path), "the path stands in the log");
        objects.push(line["object"].as_str().context("no object")?.to_owned());
        both += &log;
    }
    assert_eq!(objects[0], objects[1], "one secret has one hash");
    let verified = verify(cluster, &both, key, &[]).await?;
    assert!(verified.status.success(), "{}", text(&verified));
    for Replica { name, .. } in replicas {
        assert!(text(&verified).contains(&format!("{name}/")), "{}", text(&verified));
    }
    Ok(())
}

/// Reads the secret until the file takes no more lines.
async fn until_refused(replica: &Replica, path: &str) -> Result<usize> {
    for asked in (0..MOST).step_by(AT_ONCE) {
        let reads = (0..AT_ONCE).map(async |_| replica.ask("GET", path, &Value::Null).await);
        for answer in join_all(reads).await {
            let answer = answer?;
            // A busy machine has other reasons.
            assert!(matches!(answer.status, 200 | 408 | 503), "{}", answer.text());
            if answer.text().contains("audit log") {
                assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")));
                assert!(!answer.text().contains("second"), "{}", answer.text());
                return Ok(asked + AT_ONCE);
            }
        }
    }
    bail!("{MOST} lines fit")
}

struct Replica {
    name: String,
    store: Https,
    token: String,
}

impl Replica {
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let path = format!("/secrets/v1/secret/default/{path}");
        self.store.ask_once(method, &path, Some(&self.token), body).await
    }

    /// Asks for a ceremony, until some replica runs them.
    async fn run(&self, ceremony: &str) -> Result<Answer> {
        let path = format!("/secrets/v1/{ceremony}/default");
        begun(async || self.store.ask_once("PUT", &path, Some(&self.token), &Value::Null).await)
            .await
    }

    /// The files of its log that there are, the oldest first, as this machine sees them.
    fn files(&self, node: &LocalNode) -> Result<Vec<PathBuf>> {
        let folder = node.root_of(&self.name, "/watchword-controller")?.join("audit");
        let names = ["audit.log.2", "audit.log.1", "audit.log"];
        Ok(names.map(|name| folder.join(name)).into_iter().filter(|file| file.exists()).collect())
    }
}

/// Starts two replicas with three files of 64 KiB each at most, where no more than two and a half
/// have room.
async fn with_small_files(cluster: &Cluster) -> Result<()> {
    let patch = json!({"spec": {"replicas": 2, "template": {"spec": {
        "containers": [{
            "name": "store",
            "args": [
                "--audit-file=/audit/audit.log", "--audit-file-bytes=65536", "--audit-files=3",
                "--audit-paths=hashed",
            ],
            "volumeMounts": [{"name": "audit", "mountPath": "/audit"}],
        }],
        "volumes": [
            {"name": "audit", "emptyDir": {"medium": "Memory", "sizeLimit": "160Ki"}},
        ],
    }}}});
    let arguments =
        ["patch", "-n", names::NAMESPACE, "deployment/watchword-store", "-p", &patch.to_string()];
    let output = cluster.kubectl(&arguments).await?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(())
}

/// The one that leads first.
async fn replicas(cluster: &Cluster, token: &str) -> Result<[Replica; 2]> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let of_store = ListParams::default().labels("app.kubernetes.io/component=store");
    let store = cluster.https("store").await?;
    wait_for("two replicas of the store", LIMIT, async || {
        let listed = pods.list(&of_store).await?;
        let ready = listed.iter().filter(|pod| is_ready(pod));
        let found: Option<Vec<Replica>> = ready
            .map(|pod| {
                let address = pod.status.as_ref()?.pod_ip.clone()?;
                let store = store.at(&address, names::TLS_PORT);
                Some(Replica { name: pod.name_any(), store, token: token.to_owned() })
            })
            .collect();
        let mut found = found.context("no address")?;
        let lease = leases.get(names::STORE).await?.spec.unwrap_or_default();
        let leader = lease.holder_identity.context("nobody leads")?;
        ensure!(found.iter().any(|replica| replica.name == leader), "`{leader}` leads");
        found.sort_by_key(|replica| replica.name != leader);
        found.try_into().map_err(|found: Vec<_>| anyhow::anyhow!("{} are Ready", found.len()))
    })
    .await
}

/// A token that may do everything.
async fn admin(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    namespace.account("boss").await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "boss"}, "subjects": namespace.subjects("boss"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
    });
    cluster.apply(&binding.to_string()).await?;
    Ok(namespace.token(cluster.client(), "boss", None, None).await?)
}

/// More lines than have room.
const MOST: usize = 2000;

const AT_ONCE: usize = 10;
