//! A store whose records lie in a ZooKeeper, and the ways there and away.

mod server;

use std::cell::{Cell, RefCell};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};
use watchword_crds::{SealedRecord, SecretStore, names};
use watchword_e2e::holder::succeeded;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, SEALED, run_alone, wait_for};

use crate::keeper::Keeper;
use crate::rollout;
use server::ZooKeeper;

#[test]
fn a_store_lives_in_a_zookeeper_and_moves_to_the_cluster_and_back() {
    run_alone("zookeeper", SEALED, async |cluster: Cluster| {
        let mut server = ZooKeeper::start(&cluster).await?;
        a_file_is_refused_to_two_replicas(&cluster).await?;
        let keeper = a_store_without_records_follows_its_settings(&cluster).await?;
        let namespace = cluster.namespace("zookeeper").await?;
        let secret = namespace.secret("s");
        cluster.create_secret(&secret, "value of s").await?;
        nothing_lies_in_the_cluster(&cluster).await?;
        a_pod_gets_it(&namespace, &secret).await?;
        let written = no_acknowledged_write_is_lost(&keeper, &namespace, &mut server).await?;
        a_seal_outlives_the_server(&keeper, &mut server, &secret).await?;

        let all = [&[(secret, "value of s".to_owned())], &written[..]].concat();
        it_moves_to_the_cluster(&cluster, &keeper, &all).await?;
        it_moves_back(&cluster, &keeper, &all).await
    });
}

async fn a_file_is_refused_to_two_replicas(cluster: &Cluster) -> Result<()> {
    set_backend(cluster, &json!({"file": {"path": "/data/store"}})).await?;

    in_use(cluster, "False", "single replica").await?;
    // Whoever applies the overlay next has not asked for a file.
    change(cluster, &json!([{"op": "remove", "path": "/spec/backend"}])).await
}

/// Two stores that run on the cluster, where nothing is, begin in the ZooKeeper that they are shown.
async fn a_store_without_records_follows_its_settings(cluster: &Cluster) -> Result<Keeper> {
    rollout::apply(cluster, "zookeeper").await?;
    in_use(cluster, "True", FIRST).await?;
    let keeper = Keeper::initialize(cluster).await?;
    keeper.unseal_at(&keeper.replicas().await?[0]).await?;
    keeper.all_are(false).await?;
    assert_eq!(written_down(cluster).await?, FIRST);
    Ok(keeper)
}

async fn nothing_lies_in_the_cluster(cluster: &Cluster) -> Result<()> {
    let records: Api<SealedRecord> = Api::namespaced(cluster.client(), names::NAMESPACE);
    assert_eq!(records.list(&ListParams::default()).await?.items.len(), 0);
    Ok(())
}

async fn a_pod_gets_it(namespace: &Namespace, secret: &str) -> Result<()> {
    let web = with_variable(task("web", "echo \"<$S>\"; exec sleep 600"), "S", secret);
    namespace.define("web", &json!({"tasks": [web]})).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    let pod = namespace.running_pod("web").await?;
    namespace.says(&pod, None, "<value of s>\n").await
}

/// Writes go on while a replica is killed, while the server crashes and while it stands still for
/// longer than sessions last. Returns what was acknowledged: paths and values.
async fn no_acknowledged_write_is_lost(
    keeper: &Keeper,
    namespace: &Namespace,
    server: &mut ZooKeeper,
) -> Result<Vec<(String, String)>> {
    let victim = keeper.replicas().await?.remove(0);
    let (acknowledged, refused) = (RefCell::new(Vec::new()), Cell::new(0));
    let stop = Cell::new(false);
    let writer = async |writer: usize| {
        let mut number = 0;
        while !stop.get() {
            number += 1;
            let (path, value) =
                (namespace.secret(&format!("{writer}-{number}")), format!("{writer}/{number}"));
            let url = format!("secret/default/{path}");
            let answer = keeper.ask("PUT", &url, &json!({"value": value})).await;
            match answer.map(|answer| answer.status) {
                Ok(201) => acknowledged.borrow_mut().push((path, value)),
                Ok(408 | 503) => refused.set(refused.get() + 1),
                // The connection ended with a replica: whether it was written nobody knows.
                _ => {}
            }
        }
    };
    let more = async |count: usize| {
        let before = acknowledged.borrow().len();
        wait_for("writes to be acknowledged", LIMIT, async || {
            let now = acknowledged.borrow().len();
            ensure!(now >= before + count, "{now}, {before} before");
            Ok(())
        })
        .await
    };
    let chaos = async {
        let done = async {
            more(40).await?;
            keeper.kill(&victim).await?;
            more(40).await?;
            server.crash().await?;
            more(40).await?;
            let before = refused.get();
            server.freeze()?;
            let lost = wait_for("a write to be refused", LIMIT, async || {
                ensure!(refused.get() > before, "none is");
                Ok(())
            })
            .await;
            server.thaw()?;
            lost?;
            more(40).await
        }
        .await;
        stop.set(true);
        done
    };
    let (done, _) = tokio::join!(chaos, join_all((0..4).map(writer)));
    done?;

    keeper.all_are(false).await?;
    let acknowledged = acknowledged.into_inner();
    assert!(acknowledged.len() >= 160);
    serve_all(keeper, &acknowledged).await?;
    Ok(acknowledged)
}

async fn a_seal_outlives_the_server(
    keeper: &Keeper,
    server: &mut ZooKeeper,
    secret: &str,
) -> Result<()> {
    keeper.seal().await?;
    server.crash().await?;
    keeper.all_are(true).await?;
    let [replica, _] = &keeper.replicas().await?[..] else { unreachable!("there are two") };
    let path = format!("secret/default/{secret}");
    let read = keeper.ask_at(replica, "GET", &path, &Value::Null).await?;
    assert_eq!(read.json()["code"], "sealed");

    keeper.unseal_at(replica).await?;
    keeper.all_are(false).await?;
    keeper.all_serve(secret, "value of s").await
}

/// A change of the settings alone moves nothing: one replica goes on where it is, another waits.
async fn it_moves_to_the_cluster(
    cluster: &Cluster,
    keeper: &Keeper,
    secrets: &[(String, String)],
) -> Result<()> {
    set_backend(cluster, &json!({"kubernetes": {}})).await?;
    in_use(cluster, "False", "watchword store migrate").await?;
    keeper.all_serve(&secrets[0].0, &secrets[0].1).await?;
    let [stays, gone] = &keeper.replicas().await?[..] else { unreachable!("there are two") };
    keeper.delete(gone, &DeleteParams::default()).await?;
    one_waits_and_says(cluster, &stays.name, "watchword store migrate").await?;
    keeper.serves(stays, &secrets[0].0, &secrets[0].1).await?;
    set_backend(cluster, &json!({"zookeeper": {"address": FIRST}})).await?;
    in_use(cluster, "True", FIRST).await?;
    keeper.all_are(false).await?;

    keeper.seal().await?;
    set_backend(cluster, &json!({"kubernetes": {}, "movedFrom": FIRST})).await?;
    rollout::restart(cluster).await?;
    in_use(cluster, "True", "kubernetes:").await?;
    keeper.all_are(true).await?;
    let new = keeper.ask("PUT", "init/default", &json!({})).await?;
    assert_eq!(new.status, 409, "a new store in the place of the old one: {}", new.text());
    migrate(cluster, FIRST, "kubernetes").await?;

    let replica = keeper.replicas().await?.remove(0);
    keeper.unseal_at(&replica).await?;
    keeper.all_are(false).await?;
    serve_all(keeper, secrets).await
}

/// Under another node: what was left behind under the first is an older state.
async fn it_moves_back(
    cluster: &Cluster,
    keeper: &Keeper,
    secrets: &[(String, String)],
) -> Result<()> {
    keeper.seal().await?;
    migrate(cluster, "kubernetes", SECOND).await?;
    set_backend(cluster, &json!({"zookeeper": {"address": SECOND}, "movedFrom": "kubernetes"}))
        .await?;
    rollout::restart(cluster).await?;
    in_use(cluster, "True", SECOND).await?;
    assert_eq!(written_down(cluster).await?, SECOND);

    let replica = keeper.replicas().await?.remove(0);
    keeper.unseal_at(&replica).await?;
    keeper.all_are(false).await?;
    serve_all(keeper, secrets).await?;
    cluster.update_secret(&secrets[0].0, "new").await?;
    keeper.all_serve(&secrets[0].0, "new").await?;

    // What was left in the cluster is no place to go back to: it would open with the same shares.
    set_backend(cluster, &json!({"kubernetes": {}, "movedFrom": SECOND})).await?;
    let [stays, gone] = &keeper.replicas().await?[..] else { unreachable!("there are two") };
    keeper.delete(gone, &DeleteParams::default()).await?;
    one_waits_and_says(cluster, &stays.name, "still holds an older state").await?;
    keeper.serves(stays, &secrets[0].0, "new").await
}

/// Every replica serves every secret.
async fn serve_all(keeper: &Keeper, secrets: &[(String, String)]) -> Result<()> {
    for (path, value) in secrets {
        keeper.all_serve(path, value).await?;
    }
    Ok(())
}

async fn migrate(cluster: &Cluster, from: &str, to: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let digest = folder.path().join("digest");
    std::fs::write(&digest, "watchword:correct horse\n")?;
    let digest = digest.to_str().context("a path of text")?;
    let migrate =
        ["store", "migrate", "--from", from, "--to", to, "--zookeeper-digest-file", digest];
    succeeded(cluster.watchword_answered(&migrate, b"").await?)?;
    Ok(())
}

async fn set_backend(cluster: &Cluster, backend: &Value) -> Result<()> {
    change(cluster, &json!([{"op": "replace", "path": "/spec/backend", "value": backend}])).await
}

async fn change(cluster: &Cluster, patch: &Value) -> Result<()> {
    let stores: Api<SecretStore> = Api::all(cluster.client());
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch.clone())?);
    stores.patch(names::DEFAULT_STORE, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until the status says whether the records lie where they should, and this.
async fn in_use(cluster: &Cluster, status: &str, text: &str) -> Result<()> {
    let stores: Api<SecretStore> = Api::all(cluster.client());
    wait_for(&format!("BackendInUse={status} with {text:?}"), LIMIT, async || {
        let store = stores.get(names::DEFAULT_STORE).await?;
        let conditions = store.status.unwrap_or_default().conditions;
        let said = conditions.iter().any(|one| {
            one.type_ == "BackendInUse" && one.status == status && one.message.contains(text)
        });
        ensure!(said, "{conditions:?}");
        Ok(())
    })
    .await
}

async fn written_down(cluster: &Cluster) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let lease = leases.get(names::STORE_BACKEND).await?;
    lease.spec.and_then(|spec| spec.holder_identity).context("no place")
}

/// Waits until a replica other than `stays` has this in its log, and is not Ready.
async fn one_waits_and_says(cluster: &Cluster, stays: &str, text: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let stores = ListParams::default().labels("app.kubernetes.io/component=store");
    wait_for("a replica that waits", LIMIT, async || {
        let others = pods.list(&stores).await?.items;
        let mut names = others.iter().filter_map(|pod| pod.metadata.name.as_deref());
        let other = names.find(|name| *name != stays).context("no other")?;
        let log = pods.logs(other, &LogParams::default()).await?;
        ensure!(log.contains(text), "{log}");
        let pod = pods.get(other).await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        ensure!(conditions.iter().any(|one| one.type_ == "Ready" && one.status == "False"));
        Ok(())
    })
    .await
}

const FIRST: &str = "zookeeper://10.99.0.1:2181/watchword?jute.maxbuffer=2097152";
const SECOND: &str = "zookeeper://10.99.0.1:2181/second?jute.maxbuffer=2097152";
