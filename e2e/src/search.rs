//! Searching a local cluster for values: everything that it keeps or says, in each form that bytes
//! take on the way.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, ResourceExt};
use watchword_crds::names;

use crate::cluster::{Cluster, LocalNode, wait_for};

/// Where to search.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Places {
    /// Everywhere.
    All,
    /// Not in the logs of applications, which say what they were given.
    NoApplications,
}

/// All places where one of the texts is. It is begun anew when something went while it was read.
///
/// # Errors
///
/// Something can never be read.
pub async fn search(
    cluster: &Cluster,
    node: &LocalNode,
    needles: &[String],
    places: Places,
) -> Result<Vec<String>> {
    wait_for("the search to be undisturbed", LIMIT, async || {
        search_once(cluster, node, needles, places).await
    })
    .await
}

async fn search_once(
    cluster: &Cluster,
    node: &LocalNode,
    needles: &[String],
    places: Places,
) -> Result<Vec<String>> {
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
        if places == Places::NoApplications && !is_ours(&source) {
            continue;
        }
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
    let mut files = node.files_with(&needles)?;
    files.retain(|file| {
        // `<folder>/pods/<namespace>_<pod>_<uid>/<container>/0.log`
        let text = file.to_string_lossy();
        let of_pod = text.split_once("/log/pods/").map(|(_, pod)| pod);
        places == Places::All || of_pod.is_none_or(|pod| is_ours(&pod.replace('_', "/")))
    });
    found.extend(files.into_iter().map(|file| format!("file {}", file.display())));
    Ok(found)
}

fn is_ours(source: &str) -> bool {
    source.split('/').next() == Some(names::NAMESPACE)
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

/// The logs of every container of every pod, also of those that were before a restart, by
/// `<namespace>/<pod>/<container>`.
///
/// # Errors
///
/// The pods cannot be listed.
pub async fn logs(cluster: &Cluster) -> Result<Vec<(String, String)>> {
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

/// What the roles, the API server and the kubelets measure, by the path that it was asked for at.
///
/// # Errors
///
/// One of them does not answer.
pub async fn metrics(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let client = cluster.client();
    let mut paths = vec!["/metrics".to_owned()];
    for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await? {
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

/// A value of 32 letters that nobody else uses.
///
/// # Errors
///
/// The kernel gives no random bytes.
pub fn random_value() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        text.push(char::from(b'a' + byte % 26));
        text.push(char::from(b'A' + byte / 26));
        text
    }))
}

/// What a value looks like on its way: itself, base64 wherever it begins, hex, a list of numbers.
pub fn forms(value: &str) -> Vec<String> {
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

/// A value in hex, small letters.
pub fn hex(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Long: it looks into all that there is.
const LIMIT: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
