//! A store whose records lie in one file of its own volume.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use watchword_crds::{SealedRecord, names};
use watchword_e2e::cluster::restarts;
use watchword_e2e::holder::succeeded;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, SEALED, run_alone, wait_for};

use crate::keeper::Keeper;
use crate::rollout;

#[test]
fn a_store_in_a_file_keeps_what_it_has_acknowledged_when_its_process_is_killed() {
    run_alone("file", "e2e/manifests/file", async |cluster: Cluster| {
        let namespace = cluster.namespace("file").await?;
        let secret = namespace.secret("s");
        cluster.create_secret(&secret, "value of s").await?;
        let records: Api<SealedRecord> = Api::namespaced(cluster.client(), names::NAMESPACE);
        assert_eq!(records.list(&ListParams::default()).await?.items.len(), 0, "in the cluster");
        let web = with_variable(task("web", "echo \"<$S>\"; exec sleep 600"), "S", &secret);
        namespace.define("web", &json!({"tasks": [web]})).await?;
        namespace.says(&namespace.running_pod("web").await?, None, "<value of s>\n").await?;

        let node = cluster.local().context("a local cluster")?;
        for number in 0..2 {
            let (pod, restarts) = store(&cluster).await?;
            cluster.update_secret(&secret, format!("value {number}")).await?;
            node.signal(&pod, "/watchword-controller", "KILL")?;

            wait_for("the store to be started again", LIMIT, async || {
                let (again, now) = store(&cluster).await?;
                ensure!(again == pod && now > restarts, "{again} was restarted {now} times");
                Ok(())
            })
            .await?;
            let got = wait_for("the store to open by itself", LIMIT, async || {
                succeeded(cluster.watchword(&["secret", "get", &secret], b"").await?)
            })
            .await?;
            assert_eq!(got, format!("value {number}").into_bytes());
        }
        anyhow::Ok(())
    });
}

#[test]
fn a_store_moves_from_the_cluster_into_a_file_by_a_backup() {
    run_alone("into-file", SEALED, async |cluster: Cluster| {
        let keeper = Keeper::initialize(&cluster).await?;
        keeper.unseal_at(&keeper.replicas().await?[0]).await?;
        keeper.all_are(false).await?;
        let secret = "shop/s";
        cluster.create_secret(secret, "value of s").await?;

        // As docs/store.md says it.
        let folder = tempfile::tempdir()?;
        let backup = folder.path().join("store.backup");
        let backup = backup.to_str().context("no text")?;
        succeeded(cluster.watchword_answered(&["store", "seal"], b"").await?)?;
        succeeded(cluster.watchword_answered(&["store", "backup", "--file", backup], b"").await?)?;
        rollout::apply(&cluster, "into-file").await?;
        succeeded(cluster.watchword_answered(&["store", "restore", "--file", backup], b"").await?)?;

        let share = json!({"key": keeper.share().await?});
        wait_for("the store to be unsealed", LIMIT, async || {
            let answer = keeper.ask("PUT", "unseal/default", &share).await?;
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
            Ok(())
        })
        .await?;
        let read = async || succeeded(cluster.watchword(&["secret", "get", secret], b"").await?);
        assert_eq!(wait_for("the secret", LIMIT, &read).await?, b"value of s");
        let records: Api<SealedRecord> = Api::namespaced(cluster.client(), names::NAMESPACE);
        let before = records.list(&ListParams::default()).await?.items.len();
        cluster.update_secret(secret, "newer").await?;
        assert_eq!(wait_for("the newer one", LIMIT, &read).await?, b"newer");
        let after = records.list(&ListParams::default()).await?.items.len();
        assert_eq!(after, before, "what is written lies in the file");
        anyhow::Ok(())
    });
}

/// The pod of the store, and how often its container was started again.
async fn store(cluster: &Cluster) -> Result<(String, i32)> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=store");
    let list = pods.list(&selector).await?;
    let [pod] = list.items.as_slice() else { bail!("{} pods", list.items.len()) };
    let name = pod.metadata.name.clone().context("no name")?;
    Ok((name, restarts(pod)))
}
