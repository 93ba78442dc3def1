//! What the stories share: asking the store, reading its audit log, forging pods, granting rights.

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod};
use kube::api::{ListParams, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_e2e::cluster::{Answer, Https};
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, images, wait_for};

/// Asks the store for the variables of a container.
pub(crate) async fn resolve(store: &Https, token: &str, container: &str) -> anyhow::Result<Answer> {
    store.ask("POST", "/v1/resolve", Some(token), &wanted(container)).await
}

/// What is asked of the store for the variables of a container.
pub(crate) fn wanted(container: &str) -> Value {
    json!({"version": 1, "container": container, "want": ["env"]})
}

/// The values of a resolve answer, decoded; empty if it is a refusal.
pub(crate) fn values(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let decode = |value: &Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    json["env"].as_array().into_iter().flatten().map(|one| decode(&one["value"])).collect()
}

pub(crate) fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// The token that is mounted into a container.
pub(crate) async fn token(
    namespace: &Namespace,
    pod: &str,
    container: &str,
) -> anyhow::Result<String> {
    let cat = ["cat", "/var/run/watchword/token"];
    let read = namespace.printed(pod, Some(container), &cat).await?;
    Ok(read.trim().to_owned())
}

/// A definition `web` with one secret variable; its pod, once it runs.
pub(crate) async fn running_web(namespace: &Namespace) -> anyhow::Result<String> {
    namespace.cluster().create_secret(&namespace.secret("db"), "value").await?;
    let web = with_variable(task("web", SLEEP), "DB", &namespace.secret("db"));
    namespace.define("web", &json!({"tasks": [web]})).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    namespace.running_pod("web").await
}

/// A pod that looks like one of `web`, made by a tenant: no label, so no webhook looks at it.
pub(crate) fn forged(name: &str, account: &str, revision: &str) -> Value {
    let token = json!({"path": "token", "audience": "watchword:web", "expirationSeconds": 600});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "serviceAccountName": account,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": images::BUSYBOX, "command": ["/bin/sh", "-c", SLEEP],
                "env": [{"name": "WATCHWORD_REVISION", "value": revision}],
                "volumeMounts": [{"name": "token", "mountPath": "/token"}],
            }],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}],
        },
    })
}

/// Waits until a container of the pod with these labels has ended with a message.
pub(crate) async fn launch_failure(
    namespace: &Namespace,
    labels: &str,
    container: &str,
) -> anyhow::Result<String> {
    let pods: Api<Pod> = namespace.api();
    wait_for(&format!("container `{container}` to fail"), LIMIT, async || {
        let list = pods.list(&ListParams::default().labels(labels)).await?;
        let statuses = list.items.into_iter().filter_map(|pod| pod.status);
        let ended = statuses
            .flat_map(|status| status.container_statuses.unwrap_or_default())
            .filter(|status| status.name == container)
            .flat_map(|status| [status.state, status.last_state])
            .find_map(|state| state?.terminated)
            .context("it has not ended")?;
        ensure!(ended.exit_code == 78, "it ended with {}", ended.exit_code);
        ended.message.context("no message")
    })
    .await
}

/// Waits until the audit log has at least `count` such lines.
pub(crate) async fn audited(
    cluster: &Cluster,
    what: &str,
    count: usize,
    is_one: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    wait_for(&format!("audit lines on {what}"), LIMIT, async || {
        let lines = cluster.audit().await?;
        let found = lines.iter().filter(|line| is_one(line)).count();
        ensure!(found >= count, "{found} of {} lines", lines.len());
        Ok(())
    })
    .await
}

/// Waits until the audit log says at least `count` times that a pod was denied, and why.
pub(crate) async fn denied(
    cluster: &Cluster,
    namespace: &Namespace,
    pod: &str,
    count: usize,
) -> anyhow::Result<()> {
    audited(cluster, &format!("pod `{pod}`"), count, |line| {
        let who = &line["subject"]["container"];
        who["namespace"] == namespace.name()
            && who["pod"] == pod
            && line["event"] == "resolve"
            && line["decision"] == "denied"
            && line["cause"].is_string()
    })
    .await
}

/// What a definition with this id, or its default one, is refused with; empty if it is let in.
pub(crate) async fn refused_id(namespace: &Namespace, id: Option<&str>) -> anyhow::Result<String> {
    let definition = json!({
        "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
        "metadata": {"name": "web", "namespace": namespace.name()},
        "spec": {"id": id, "tasks": [task("web", SLEEP)]},
    });
    let arguments = ["create", "--dry-run=server", "--filename=-"];
    let output = namespace.cluster().kubectl_with(&arguments, &definition.to_string()).await?;
    Ok(match output.status.success() {
        true => String::new(),
        false => String::from_utf8(output.stderr)?,
    })
}

/// Waits until an id is refused in these words: the webhook hears of a Space by a watch.
pub(crate) async fn refuses_id(
    namespace: &Namespace,
    id: Option<&str>,
    words: &str,
) -> anyhow::Result<()> {
    wait_for(&format!("{id:?} to be refused"), LIMIT, async || {
        let refusal = refused_id(namespace, id).await?;
        ensure!(refusal.contains(words), "{refusal:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn allows_id(namespace: &Namespace, id: &str) -> anyhow::Result<()> {
    wait_for(&format!("{id} to be allowed"), LIMIT, async || {
        let refusal = refused_id(namespace, Some(id)).await?;
        ensure!(refusal.is_empty(), "{refusal}");
        Ok(())
    })
    .await
}

pub(crate) async fn space(
    namespace: &Namespace,
    name: &str,
    namespaces: &[&str],
    prefixes: &[&str],
    more: &Value,
) -> anyhow::Result<()> {
    let mut spec = json!({"namespaces": namespaces, "prefixes": prefixes});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    apply_owned(namespace, "Space", name, &spec).await
}

/// Applies a cluster-scoped object that goes when the namespace goes.
pub(crate) async fn apply_owned(
    namespace: &Namespace,
    kind: &str,
    name: &str,
    spec: &Value,
) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": "watchword.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "ownerReferences": [owner(namespace).await?]}, "spec": spec,
    });
    namespace.cluster().apply(&object.to_string()).await.map(drop)
}

pub(crate) async fn owner(namespace: &Namespace) -> anyhow::Result<Value> {
    let all: Api<NamespaceObject> = Api::all(namespace.cluster().client());
    let uid = all.get(namespace.name()).await?.uid();
    Ok(json!({"apiVersion": "v1", "kind": "Namespace", "name": namespace.name(), "uid": uid}))
}

/// Gives a new service account rules on URLs, which hold in the whole cluster.
pub(crate) async fn grant_urls(
    namespace: &Namespace,
    name: &str,
    rules: &Value,
) -> anyhow::Result<()> {
    namespace.account(name).await?;
    let role = format!("{name}-{}", namespace.name());
    let metadata = json!({"name": role, "ownerReferences": [owner(namespace).await?]});
    let api_version = "rbac.authorization.k8s.io/v1";
    for object in [
        json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": metadata,
               "rules": rules}),
        json!({"apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": metadata,
               "subjects": namespace.subjects(name),
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                           "name": role}}),
    ] {
        namespace.cluster().apply(&object.to_string()).await?;
    }
    Ok(())
}

pub(crate) fn strategic() -> PatchParams {
    PatchParams::default()
}

pub(crate) const FINALIZER: &str = "e2e.watchword.dev/kept";
pub(crate) const SLEEP: &str = "exec sleep 600";
