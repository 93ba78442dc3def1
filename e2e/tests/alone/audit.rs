//! The audit log on a real cluster: who did what stands in the log of the replica that did it, what
//! kubectl collects verifies, edited copies do not; and a record that is put back past the store is
//! found by comparing store and log.

mod sink;

use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use watchword_crds::sealed_record::SealedRecord;
use watchword_crds::{TaskRevision, names};
use watchword_e2e::records::Records;
use watchword_e2e::watchword::{LIMIT, judged, task, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run_alone, run_audited, wait_for};

const OVERLAY: &str = "manifests/overlays/dev";

/// A change of a log's lines, at one of them.
type Edit = fn(&mut Vec<String>, usize);

#[test]
fn the_log_says_who_did_what_and_shows_every_edit() {
    run_audited("audit-log", OVERLAY, async |cluster: Cluster| {
        let namespace = cluster.namespace("audited").await?;
        let path = namespace.secret("db");
        cluster.create_secret(&path, "one").await?;
        cluster.update_secret(&path, "two").await?;
        let web = with_variable(task("web", "echo \"<$DB>\"; exec sleep 600"), "DB", &path);
        namespace.define("web", &json!({"tasks": [web]})).await?;
        let pod = namespace.running_pod("web").await?;
        namespace.says(&pod, None, "<two>\n").await?;
        let uid = namespace.api::<Pod>().get(&pod).await?.uid().context("no uid")?;
        namespace.account("nosy").await?;
        let token = namespace.token(cluster.client(), "nosy", None, None).await?;
        let store = cluster.https("store").await?;
        let url = format!("/secrets/v1/secret/default/{path}");
        let denied = store.ask("GET", &url, Some(&token), &Value::Null).await?;
        let unknown = store.ask("GET", &url, Some("nobody's"), &Value::Null).await?;
        assert_eq!((denied.status, unknown.status), (403, 401));
        cluster.delete_secret(&path).await?;

        let replica = replica(&cluster).await?;
        let log = signed_log(&cluster, &replica, &path).await?;
        let lines: Vec<Value> = audit_lines(&log);
        let of_path: Vec<&Value> = lines.iter().filter(|line| line["path"] == *path).collect();
        let said: Vec<[&str; 2]> = of_path
            .iter()
            .map(|line| ["event", "decision"].map(|field| line[field].as_str().unwrap_or("")))
            .collect();
        let story = [
            ["create", "attempted"],
            ["create", "allowed"],
            ["update", "attempted"],
            ["update", "allowed"],
            ["resolve", "allowed"],
            ["read", "denied"],
            ["delete", "attempted"],
            ["delete", "allowed"],
        ];
        assert_eq!(said, story);
        let versions: Vec<_> = of_path.iter().map(|line| line["version"].as_u64()).collect();
        let none = None;
        assert_eq!(versions, [none, Some(1), none, Some(2), Some(2), none, none, Some(2)]);
        let container = &of_path[4]["subject"]["container"];
        assert_eq!([&container["pod"], &container["uid"]], [&json!(pod), &json!(uid)]);
        assert_eq!(container["namespace"], namespace.name());
        let nosy = format!("system:serviceaccount:{}:nosy", namespace.name());
        let who = &of_path[5]["subject"]["user"];
        assert_eq!(who["name"], nosy);
        assert!(who["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{who}");
        assert!(of_path[5]["cause"].as_str().is_some_and(|cause| cause.contains("may not read")));
        assert!(of_path[0]["subject"]["user"]["name"].is_string(), "{}", of_path[0]);
        let objects: Vec<_> = of_path.iter().map(|line| &line["object"]).collect();
        assert!(objects[0].as_str().is_some_and(|object| object.len() == 56), "{objects:?}");
        assert!(objects.iter().all(|object| *object == objects[0]), "{objects:?}");
        let stranger = |line: &Value| line["subject"]["nobody"].is_object();
        assert!(lines.iter().any(stranger), "the unknown token has no line");
        let chain = lines[0]["chain"].as_str().context("no chain")?;
        assert!(chain.starts_with(&format!("{replica}/")), "{chain} is not of {replica}");
        assert!(!log.contains("nobody's"), "a token stands in the log");

        let key = key(&cluster).await?;
        let verified = verify(&cluster, &log, &key, &[]).await?;
        assert!(verified.status.success(), "{}", text(&verified));
        assert!(text(&verified).contains("not closed after line"), "{}", text(&verified));
        let ours = |line: &&str| line.contains("{\"kind\":\"audit\"");
        let whole: Vec<String> =
            log.split_inclusive('\n').filter(ours).map(str::to_owned).collect();
        let is_written = |line: &String| line.contains("\"version\":1");
        let at = whole.iter().position(is_written).context("no version 1")?;
        let edits: [(&str, Edit); 4] = [
            ("was removed", |lines, at| drop(lines.remove(at))),
            ("was changed", |lines, at| {
                lines[at] = lines[at].replace("\"version\":1", "\"version\":9");
            }),
            ("was moved here", |lines, at| lines.swap(at, at + 1)),
            ("is there again", |lines, at| lines.insert(at + 3, lines[at].clone())),
        ];
        for (words, edit) in edits {
            let mut lines = whole.clone();
            edit(&mut lines, at);
            let edited = verify(&cluster, &lines.concat(), &key, &[]).await?;
            assert_eq!(edited.status.code(), Some(1), "{}", text(&edited));
            let said = text(&edited);
            assert!(said.contains(&format!("chain {chain}: line {at}")), "{words}: {said}");
            assert!(said.contains(words), "{words}: {said}");
        }

        // An orderly end closes the chain.
        let log = log_to_its_end(&cluster, &replica).await?;
        let closed = verify(&cluster, &log, &key, &["--closed"]).await?;
        assert!(closed.status.success(), "{}", text(&closed));
        let end = log.rfind("{\"kind\":\"audit\"").context("no line")?;
        let cut = &log[..end];
        let open = verify(&cluster, cut, &key, &["--closed"]).await?;
        assert_eq!(open.status.code(), Some(1), "{}", text(&open));
        let open = verify(&cluster, cut, &key, &[]).await?;
        assert!(text(&open).contains("not closed after line"), "{}", text(&open));

        refusals_stand_in_the_log_of_the_api_server(&cluster, &namespace).await?;
        sink::is_a_file_too(&cluster, &namespace, &key).await
    });
}

/// What webhooks and policies refuse never gets to Watchword's log.
async fn refusals_stand_in_the_log_of_the_api_server(
    cluster: &Cluster,
    namespace: &Namespace,
) -> Result<()> {
    let by_policy = "the label watchword.dev/inject is \"yes\", which means nothing";
    let by_webhook = "no task definition of namespace";
    for (label, words) in [("yes", by_policy), ("true", by_webhook)] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "refused", "labels": {names::INJECT_LABEL: label}},
            "spec": {"containers": [{"name": "x", "image": images::BUSYBOX}]},
        });
        let pod = pod.to_string();
        let refused = judged(async || namespace.apply(&pod).await).await?;
        let said = format!("{:#}", refused.err().context("it was let in")?);
        ensure!(said.contains(words), "{label}: {said}");
    }

    // What is not this namespace's, a forged revision, a changed image, a token.
    let sleeps = task("web", "exec sleep 600");
    let foreign = json!({"tasks": [sleeps], "id": "/somebody-elses/web"});
    let refused = namespace.define("foreign", &foreign).await.err().context("it was let in")?;
    let by_id = "somebody-elses";
    ensure!(format!("{refused:#}").contains(by_id), "{refused:#}");
    let idle = json!({"tasks": [sleeps], "run": {"service": {"instances": 0}}});
    namespace.define("idle", &idle).await?;
    namespace.condition("idle", "Accepted", "True").await?;
    wait_for("the Deployment", LIMIT, async || namespace.api::<Deployment>().get("idle").await)
        .await?;
    for refused in [
        &["set", "image", "deployment/idle", "*=localhost/other:1"][..],
        &["create", "token", "default", "--audience=watchword:web"],
    ] {
        let output = namespace.kubectl(refused).await?;
        ensure!(!output.status.success(), "{refused:?} was let in");
    }
    let revisions: Api<TaskRevision> = namespace.api();
    let mut forged = revisions.list(&ListParams::default()).await?.items.remove(0);
    forged.metadata = ObjectMeta { name: Some("forged".to_owned()), ..ObjectMeta::default() };
    let refused = revisions.create(&PostParams::default(), &forged).await;
    ensure!(refused.is_err(), "a forged revision was let in");

    let log = cluster.local().context("no local cluster")?.logs().join("audit.log");
    wait_for("the refusals in the API server's log", LIMIT, async || {
        let log = std::fs::read_to_string(&log)?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let annotated: Vec<Value> = events
            .filter(|event| event["objectRef"]["namespace"] == namespace.name())
            .map(|event| event["annotations"].clone())
            .collect();
        let has = |key: &str, words: &str| {
            annotated.iter().any(|one| one[key].as_str().is_some_and(|text| text.contains(words)))
        };
        ensure!(has("pods.watchword.dev/denied", by_webhook), "the webhook's: {annotated:?}");
        ensure!(has("taskdefinitions.watchword.dev/denied", by_id), "the id's: {annotated:?}");
        let of_policies = "validation.policy.admission.k8s.io/validation_failure";
        for policy in ["opt-in", "task-workloads", "token-audience", "authority"] {
            let policy = format!("watchword-{policy}");
            ensure!(has(of_policies, &policy), "{policy}: {annotated:?}");
        }
        Ok(())
    })
    .await
}

#[test]
fn a_record_that_is_put_back_is_found_by_comparing_store_and_log() {
    run_alone("audit-store", OVERLAY, async |cluster: Cluster| {
        cluster.create_secret("shop/older", "one").await?;
        cluster.create_secret("shop/deleted", "one").await?;
        cluster.create_secret("shop/gone", "one").await?;
        cluster.create_secret("shop/untouched", "one").await?;
        let first = replica(&cluster).await?;
        let lines = log_with(&cluster, &first, "the last secret's line", |line| {
            line["path"] == "shop/untouched" && line["decision"] == "allowed"
        })
        .await?;
        let object = |path: &str| {
            let line = lines.iter().find(|line| line["path"] == *path);
            line.and_then(|line| line["object"].as_str()).unwrap_or_default().to_owned()
        };
        let records = Records::of(&cluster).await?;
        let mut saved = Vec::new();
        for path in ["shop/older", "shop/deleted"] {
            let of_path: Vec<SealedRecord> = records
                .all()
                .await?
                .into_iter()
                .filter(|record| record.name_any().starts_with(&object(path)))
                .collect();
            assert_eq!(of_path.len(), 2, "{path}: a head and a version");
            saved.extend(of_path);
        }

        cluster.update_secret("shop/older", "two").await?;
        cluster.delete_secret("shop/deleted").await?;
        // Whoever holds the store's account, or etcd, while no replica that knows better runs.
        let mut log = log_to_its_end(&cluster, &first).await?;
        for record in &saved {
            records.put_back(record).await?;
        }
        records.remove(&object("shop/gone")).await?;
        // As a writer leaves it that ends before its head names it, and whom another overtakes.
        let untouched = object("shop/untouched");
        let of_path =
            |record: &SealedRecord| record.name_any().starts_with(&format!("{untouched}."));
        let all = records.all().await?;
        let mut leftover = all.into_iter().find(of_path).context("no version of it")?;
        leftover.metadata.name = Some(another_suffix(&leftover.name_any()));
        records.put_back(&leftover).await?;

        scale(&cluster, 1).await?;
        let second = replica(&cluster).await?;
        // Put back whole, it opens: the store itself cannot tell.
        let got = wait_for("the store to open", LIMIT, async || {
            let got = cluster.watchword(&["secret", "get", "shop/older"], b"").await?;
            ensure!(got.status.success(), "{}", text(&got));
            Ok(got)
        })
        .await?;
        assert_eq!(got.stdout, b"one");
        wait_for("what was left behind to be removed", LIMIT, async || {
            let versions = records.all().await?.iter().filter(|record| of_path(record)).count();
            ensure!(versions == 1, "{versions} of them");
            Ok(())
        })
        .await?;
        log += &logs(&cluster, &second).await?;
        let file = file(&log)?;
        let arguments = ["store", "verify", "--output", "json", "--audit", &file_name(&file)];
        let output = cluster.watchword_answered(&arguments, b"").await?;

        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no JSON: {}", text(&output)))?;
        let mut found: Vec<(String, String)> = said["findings"]
            .as_array()
            .context("no findings")?
            .iter()
            .map(|one| ["path", "kind"].map(|field| one[field].as_str().unwrap_or("").to_owned()))
            .map(|[path, kind]| (path, kind))
            .collect();
        found.sort();
        let expected =
            [("shop/deleted", "undeleted"), ("shop/gone", "missing"), ("shop/older", "put_back")]
                .map(|(path, kind)| (path.to_owned(), kind.to_owned()));
        assert_eq!(found, expected, "{said}");

        // Sealing is written down, and signs what stands there before the key goes.
        let sealed = cluster.watchword_answered(&["store", "seal"], b"").await?;
        assert!(sealed.status.success(), "{}", text(&sealed));
        // The replica may see its own word before it has answered, and writes that down too.
        let is_seal = |line: &Value| line["event"] == "seal" && line["decision"] == "allowed";
        let of_user = |line: &Value| line["subject"]["user"]["name"].is_string();
        let of_seal = |line: &Value| is_seal(line) && of_user(line);
        let lines = log_with(&cluster, &second, "the seal's line", of_seal).await?;
        let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
        assert!(events.contains(&"unseal"), "{events:?}");
        let at = lines.iter().position(is_seal).context("no line of it")?;
        assert!(events[at..].contains(&"checkpoint"), "{events:?}");
        Ok(())
    });
}

/// The name of another object for the same version: its last digit is another.
fn another_suffix(version: &str) -> String {
    let (name, last) = version.split_at(version.len() - 1);
    format!("{name}{}", if last == "0" { "1" } else { "0" })
}

/// The one replica of the store that is Ready and not about to end.
async fn replica(cluster: &Cluster) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let of_store = ListParams::default().labels("app.kubernetes.io/component=store");
    wait_for("a replica of the store", LIMIT, async || {
        let listed = pods.list(&of_store).await?;
        let mut ready = listed.iter().filter(|pod| is_ready(pod));
        anyhow::Ok(ready.next().context("none is Ready")?.name_any())
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready" && one.status == "True");
    pod.metadata.deletion_timestamp.is_none() && ready.next().is_some()
}

/// What kubectl collects, as docs/audit.md says.
async fn logs(cluster: &Cluster, pod: &str) -> Result<String> {
    let arguments = ["logs", "-n", names::NAMESPACE, pod, "--prefix", "--timestamps", "--tail=-1"];
    let output = cluster.kubectl(&arguments).await?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// The audit lines of a replica, as soon as one of them is this: what was answered may be on its way
/// through the container's pipe.
async fn log_with(
    cluster: &Cluster,
    replica: &str,
    what: &str,
    is_one: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>> {
    wait_for(what, LIMIT, async || {
        let lines = audit_lines(&logs(cluster, replica).await?);
        ensure!(lines.iter().any(&is_one), "it is none of {} lines", lines.len());
        Ok(lines)
    })
    .await
}

/// The log as soon as a signature stands behind the deletion of `path`.
async fn signed_log(cluster: &Cluster, replica: &str, path: &str) -> Result<String> {
    wait_for("a checkpoint after the deletion", LIMIT, async || {
        let log = logs(cluster, replica).await?;
        let lines = audit_lines(&log);
        let is_last = |line: &Value| line["path"] == *path && line["event"] == "delete";
        let last = lines.iter().rposition(is_last).context("no deletion")?;
        let signed = lines[last..].iter().any(|line| line["event"] == "checkpoint");
        ensure!(signed, "no checkpoint yet");
        Ok(log)
    })
    .await
}

/// Runs so many replicas of the store.
async fn scale(cluster: &Cluster, replicas: u32) -> Result<()> {
    let count = format!("--replicas={replicas}");
    let arguments = ["scale", "-n", names::NAMESPACE, "deployment/watchword-store", &count];
    let output = cluster.kubectl(&arguments).await?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(())
}

/// Ends the one replica there is, and returns its whole log.
async fn log_to_its_end(cluster: &Cluster, replica: &str) -> Result<String> {
    let arguments = ["logs", "--follow", "-n", names::NAMESPACE, replica, "--tail=-1"];
    let folder = TempDir::new()?;
    let path = folder.path().join("log");
    let mut follower = cluster
        .command("kubectl")
        .args(arguments)
        .stdout(Stdio::from(std::fs::File::create(&path)?))
        .spawn()
        .context("cannot run `kubectl`")?;
    // It follows once it has printed what there is.
    wait_for("kubectl to follow", LIMIT, async || {
        ensure!(std::fs::metadata(&path)?.len() > 0, "nothing yet");
        Ok(())
    })
    .await?;
    scale(cluster, 0).await?;
    follower.wait().await?;
    Ok(std::fs::read_to_string(path)?)
}

async fn key(cluster: &Cluster) -> Result<String> {
    let output = cluster.watchword_answered(&["audit", "public-key"], b"").await?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn verify(cluster: &Cluster, log: &str, key: &str, flags: &[&str]) -> Result<Output> {
    let file = file(log)?;
    let name = file_name(&file);
    let arguments = ["audit", "verify", &name, "--public-key", key];
    cluster.watchword(&[&arguments, flags].concat(), b"").await
}

fn file(log: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    std::fs::write(&file, log)?;
    Ok(file)
}

fn file_name(file: &NamedTempFile) -> String {
    file.path().display().to_string()
}

/// The lines of the audit log, whatever kubectl puts in front of them.
fn audit_lines(log: &str) -> Vec<Value> {
    let json =
        log.lines().filter_map(|line| line.find("{\"kind\":\"audit\"").map(|at| &line[at..]));
    json.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
