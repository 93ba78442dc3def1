//! A value is where it was asked for and nowhere else.
//!
//! Random values are stored and delivered as variable, as file and to a probe, and fail to be
//! delivered, while every role logs all that it can. Then everything that the cluster keeps or says
//! is searched for them, in each form that bytes take on the way. A value that was left lying about
//! on purpose proves that the search finds what is there.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, ResourceExt};
use serde_json::json;
use watchword_crds::names;
use watchword_e2e::cluster::LocalNode;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run, skip, wait_for};

#[test]
fn a_value_is_found_nowhere_but_where_it_was_asked_for() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only a local cluster lets itself be searched");
            return Ok(());
        };
        cluster
            .disturb(["controller", "webhook", "store"], async |roles| {
                let trace = roles.iter().map(|role| role.set_variable("RUST_LOG", "trace"));
                try_join_all(trace).await?;
                let namespace = cluster.namespace("canary").await?;
                deliver_and_search(&namespace, &node).await
            })
            .await
    });
}

async fn deliver_and_search(namespace: &Namespace, node: &LocalNode) -> Result<()> {
    let cluster = namespace.cluster();
    let [variable, file, member, broken, control] =
        [random()?, random()?, random()?, random()?, random()?];
    cluster.create_secret(&namespace.secret("variable"), &variable).await?;
    cluster.create_secret(&namespace.secret("file"), "the first version").await?;
    cluster.update_secret(&namespace.secret("file"), &file).await?;
    let object = json!({"password": member, "port": 1}).to_string();
    cluster.create_secret(&namespace.secret("object"), object).await?;
    cluster.create_secret(&namespace.secret("broken"), format!("{broken}\0")).await?;

    // One that gets all: as variables, as files of both kinds, in a probe.
    let web = task("web", "cat $MESOS_SANDBOX/sandbox-file /file > /dev/null && exec sleep 600");
    let web = with_variable(web, "VARIABLE", &namespace.secret("variable"));
    let web = with_variable(web, "MEMBER", &namespace.secret("object@password"));
    let web = with_file(web, "/file", "RO", &namespace.secret("file"));
    let mut web = with_file(web, "sandbox-file", "RW", &namespace.secret("file"));
    web["health_check"] = json!({
        "type": "COMMAND", "command": {"value": "test -n \"$VARIABLE\" && test -n \"$MEMBER\""},
        "interval_seconds": 1.0, "delay_seconds": 0.0,
    });
    namespace.define("web", &json!({"tasks": [web]})).await?;
    // One that fails on each: a member that is not there, no object at all, no text.
    let bad = |name: &str, secret: &str| {
        with_variable(task(name, "exec sleep 600"), "X", &namespace.secret(secret))
    };
    let failing =
        [bad("member", "object@none"), bad("text", "variable@none"), bad("zero", "broken")];
    namespace.define("failing", &json!({"tasks": failing})).await?;
    // What is left lying about: in an annotation, in arguments, in a log.
    let careless = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "careless", "annotations": {"note": hex(&control)}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "careless", "image": images::BUSYBOX,
                "command": ["sh", "-c", "echo $0; sleep 600; exit 1", control],
            }],
        },
    });
    namespace.apply(&careless.to_string()).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    let pod = namespace.running_pod("web").await?;
    namespace.pod_ready(&pod, LIMIT).await?;
    namespace.in_state("failing", "TASK_FAILED").await?;
    namespace.says("careless", None, &format!("{control}\n")).await?;
    // It has arrived, so it is not missing everywhere. The probe may succeed a moment before the
    // agent has become the application, and nobody may look into the agent.
    wait_for("the application to have its variables", LIMIT, async || {
        let environment =
            namespace.exec(&pod, None, &["cat", "/proc/1/environ"]).await?.success()?;
        ensure!(environment.contains(&variable) && environment.contains(&member), "no variable");
        Ok(())
    })
    .await?;
    let read = namespace
        .exec(&pod, None, &["cat", "/file", "/mnt/mesos/sandbox/sandbox-file"])
        .await?
        .success()?;
    assert_eq!(read, format!("{file}{file}"));
    ensure!(
        logs(cluster).await?.iter().any(|(_, text)| text.contains("\"level\":\"TRACE\"")),
        "no role logs at level trace"
    );

    let values = [&variable, &file, &member, &broken];
    let needles: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
    let found = wait_for("the search to be undisturbed", LIMIT, async || {
        search(cluster, node, &needles).await
    })
    .await?;
    assert!(found.is_empty(), "a secret is found in {found:#?}");

    let found = search(cluster, node, &forms(&control)).await?;
    for place in
        ["etcd /registry/pods/", "object Pod ", "log of ", "arguments of ", "file ", "/etcd/"]
    {
        assert!(found.iter().any(|one| one.contains(place)), "{place} is not in {found:#?}");
    }
    Ok(())
}

/// All places where one of the texts is.
async fn search(cluster: &Cluster, node: &LocalNode, needles: &[String]) -> Result<Vec<String>> {
    let holds = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        needles.iter().any(|needle| text.contains(needle.as_str()))
    };
    let mut found = Vec::new();
    for entry in node.etcd("").await? {
        if holds(&entry.value) || holds(entry.key.as_bytes()) {
            found.push(format!("etcd {}", entry.key));
        }
    }
    for (object, text) in objects(cluster).await? {
        if holds(text.as_bytes()) {
            found.push(format!("object {object}"));
        }
    }
    for (source, text) in logs(cluster).await? {
        if holds(text.as_bytes()) {
            found.push(format!("log of {source}"));
        }
    }
    for (source, text) in metrics(cluster).await? {
        if holds(text.as_bytes()) {
            found.push(format!("metrics of {source}"));
        }
    }
    for process in node.processes()? {
        if holds(&process.command_line) {
            found.push(format!("arguments of {}", process.pid));
        }
    }
    let needles: Vec<&[u8]> = needles.iter().map(String::as_bytes).collect();
    let files = node.files_with(&needles)?;
    found.extend(files.into_iter().map(|file| format!("file {}", file.display())));
    Ok(found)
}

/// Every object of every kind that the API server lists, Events and Secrets among them.
async fn objects(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let discovery = Discovery::new(cluster.client()).run().await?;
    let mut objects = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            ensure!(matches!(capabilities.scope, Scope::Cluster | Scope::Namespaced));
            let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
            let list = api.list(&ListParams::default()).await;
            let list = list.with_context(|| format!("cannot list {}", resource.plural))?;
            for object in list {
                let namespace = object.namespace().unwrap_or_default();
                let name = format!("{} {namespace}/{}", resource.kind, object.name_any());
                objects.push((name, serde_json::to_string(&object)?));
            }
        }
    }
    ensure!(objects.len() > 100, "discovery finds {} objects only", objects.len());
    Ok(objects)
}

/// The logs of every container of every pod, also of those that were before a restart.
async fn logs(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let mut logs = Vec::new();
    for pod in Api::<Pod>::all(cluster.client()).list(&ListParams::default()).await? {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
        let spec = pod.spec.unwrap_or_default();
        let containers =
            spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
        for container in containers.map(|container| container.name) {
            for previous in [false, true] {
                let parameters = LogParams {
                    container: Some(container.clone()),
                    previous,
                    ..LogParams::default()
                };
                // A container that has not been started, or not before, has none.
                if let Ok(text) = pods.logs(&name, &parameters).await {
                    logs.push((format!("{namespace}/{name}/{container}"), text));
                }
            }
        }
    }
    Ok(logs)
}

/// What the roles, the API server and the kubelets measure.
async fn metrics(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let client = cluster.client();
    let mut paths = vec!["/metrics".to_owned()];
    for node in Api::<k8s_openapi::api::core::v1::Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        paths.push(format!("/api/v1/nodes/{}/proxy/metrics", node.name_any()));
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), names::NAMESPACE);
    let list = pods.list(&ListParams::default()).await?;
    for pod in list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let (namespace, name) = (names::NAMESPACE, pod.name_any());
        paths.push(format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics"));
    }
    let mut metrics = Vec::new();
    for path in paths {
        let text = client.request_text(http::Request::get(&path).body(Vec::new())?).await;
        let text = text.with_context(|| format!("cannot read {path}"))?;
        ensure!(text.contains("# EOF") || text.contains("# HELP"), "{path} has no metrics");
        metrics.push((path, text));
    }
    Ok(metrics)
}

/// What a value looks like on its way: itself, base64 wherever it begins, hex, a list of numbers.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned(), hex(value), hex(value).to_uppercase()];
    for before in 0..3 {
        let encoded = BASE64_STANDARD.encode(format!("{}{value}", &"xx"[..before]));
        // Neither the characters that depend on what stands before, nor those on what follows.
        let end = (before + value.len()) * 8 / 6;
        forms.push(encoded[(before * 8).div_ceil(6)..end].to_owned());
    }
    for separator in [",", ", "] {
        let numbers: Vec<String> = value.bytes().map(|byte| byte.to_string()).collect();
        forms.push(numbers.join(separator));
    }
    forms
}

fn hex(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// 32 characters that nobody else uses.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        text.push(char::from(b'a' + byte % 26));
        text.push(char::from(b'A' + byte / 26));
        text
    }))
}

#[test]
fn each_form_of_a_value_is_recognised() {
    let value = "aBcDeFgHiJkLmNoP";
    let wrapped = |text: &str| BASE64_STANDARD.encode(format!("{text}{value}and more"));

    let forms = forms(value);

    let texts = [
        format!("x{value}y"),
        wrapped(""),
        wrapped("a"),
        wrapped("ab"),
        wrapped("abc"),
        format!("{:?}", value.as_bytes()),
        json!(value.as_bytes()).to_string(),
        format!("{:x?}", value.as_bytes()).replace(['[', ']', ',', ' '], ""),
        "6142634465466748694a6B4C6D4E6F50".to_lowercase(),
    ];
    for text in texts {
        assert!(forms.iter().any(|form| text.contains(form.as_str())), "{text}: {forms:?}");
    }
}
