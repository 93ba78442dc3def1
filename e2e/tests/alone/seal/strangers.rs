//! Who tries to talk to a store's pod as if they were another one.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::Cluster;
use watchword_e2e::images::BUSYBOX;
use watchword_e2e::watchword::LIMIT;

use crate::keeper::{Keeper, Replica};

/// Every route is refused to: nobody; a person with all rights; a tenant's pod with the store's
/// labels, service account name and audience; a real peer's token from another address; and the
/// token of a peer that is gone. Nothing is given out, and the log knows of it.
pub(crate) async fn are_refused(cluster: &Cluster, keeper: &Keeper) -> Result<()> {
    let replicas = keeper.replicas().await?;
    let [replica, other] = replicas.as_slice() else { anyhow::bail!("two replicas") };
    let namespace = cluster.namespace("stranger").await?;
    namespace.account(names::STORE).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "watchword-store-x",
            "labels": {"app.kubernetes.io/component": "store", "app.kubernetes.io/name": "watchword"},
        },
        "spec": {
            "serviceAccountName": names::STORE,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "store", "image": BUSYBOX, "command": ["sleep", "600"]}],
            "volumes": [{
                "name": "token",
                "projected": {"sources": [
                    {"serviceAccountToken": {"audience": "watchword-peer", "path": "token"}},
                ]},
            }],
        },
    });
    namespace.apply(&pod.to_string()).await?;
    namespace.pod_ready("watchword-store-x", LIMIT).await?;
    let tenant = token(cluster, namespace.name(), "watchword-store-x").await?;
    let stolen = token(cluster, names::NAMESPACE, &other.name).await?;

    let strangers = [
        ("nobody", None),
        ("a person", Some(keeper.token().to_owned())),
        ("a tenant's pod that looks like a store", Some(tenant)),
        ("a peer's token from elsewhere", Some(stolen.clone())),
    ];
    for (who, token) in &strangers {
        refused(keeper, replica, who, token.as_deref()).await?;
    }

    // A token outlives its pod for a while, wherever reviews are cached.
    keeper.delete(other, &DeleteParams::default().grace_period(0)).await?;
    refused(keeper, replica, "a peer that is gone", Some(&stolen)).await?;

    let person = keeper.token().to_owned();
    let answer = keeper.ask_with(&person, "GET", "ping").await?;
    ensure!(answer.status == 200, "the person's token is not what is wrong: {}", answer.text());
    let answer = keeper.ask_with(&stolen, "GET", "seal-status/default").await?;
    ensure!(answer.status == 401, "a peer's token is good for nothing else: {}", answer.text());
    // Its successor is one that gets the key.
    keeper.all_are(false).await?;
    let lines = cluster.audit().await?;
    let denied = |line: &&Value| line["event"] == "handover" && line["decision"] == "denied";
    ensure!(lines.iter().filter(denied).count() >= strangers.len(), "{lines:?}");
    Ok(())
}

async fn refused(keeper: &Keeper, replica: &Replica, who: &str, token: Option<&str>) -> Result<()> {
    let routes = [
        ("GET", "/peer/v1/state"),
        ("POST", "/peer/v1/key"),
        ("POST", "/peer/v1/look"),
        ("POST", "/peer/v1/seal"),
        ("POST", "/peer/v1/forward"),
        ("GET", "/peer/v1/none"),
        ("GET", "/secrets/v1/seal-status/default"),
    ];
    let channel = keeper.channel(replica);
    for (method, path) in routes {
        let key = json!({"public_key": "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
        let answer = channel.ask(method, path, token, &key).await?;
        ensure!(
            matches!(answer.status, 401 | 403),
            "{who}: {method} {path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    // On the port of people and agents there is no such path at all.
    let outside = keeper.outside(replica).ask("POST", "/peer/v1/key", token, &json!({})).await?;
    ensure!(outside.status == 404, "{who}: {} {}", outside.status, outside.text());
    let status = keeper.seal_status(replica).await?;
    ensure!(status["sealed"] == false, "{who} has sealed the store");
    Ok(())
}

/// A token for peers, got as the kubelet of the pod's node gets it.
async fn token(cluster: &Cluster, namespace: &str, pod: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let found = pods.get(pod).await?;
    let node = found.spec.and_then(|spec| spec.node_name).context("not on a node yet")?;
    let groups = ["system:nodes", "system:authenticated"];
    let kubelet = cluster.client_as(&format!("system:node:{node}"), &groups).await?;
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["watchword-peer".to_owned()],
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.to_owned()),
                uid: found.metadata.uid,
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(kubelet, namespace);
    let made =
        accounts.create_token_request(names::STORE, &PostParams::default(), &request).await?;
    made.status.map(|status| status.token).context("no token")
}
