//! Sealing: one state for the whole store, whichever of its replicas is there. The stories have a
//! cluster to themselves, with two stores that nothing opens but people.

mod limits;
mod rotation;
mod spec;
mod strangers;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use watchword_crds::{SecretStore, names};
use watchword_e2e::records::Records;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, SEALED, run_alone, wait_for};
use watchword_store::backend::file::FileBackend;
use watchword_store::{
    Backend, Config as StoreConfig, Custody, ObjectName, RootKey, SealConfig, Store,
};

use crate::keeper::{Keeper, Replica};

#[test]
fn one_unseal_serves_all_and_a_seal_holds_for_all() {
    run_alone("seal", SEALED, async |cluster: Cluster| {
        let keeper = Keeper::initialize(&cluster).await?;
        a_new_store_is_opened_once(&cluster, &keeper).await?;
        let namespace = cluster.namespace("sealed").await?;
        let secret = namespace.secret("s");
        cluster.create_secret(&secret, "value of s").await?;

        sealed_pods_wait_and_one_unseal_starts_them(&cluster, &keeper, &namespace).await?;
        a_restarted_replica_gets_the_key_from_its_peer(&keeper, &secret).await?;
        no_acknowledged_write_is_lost_when_either_is_killed(&keeper, &namespace).await?;
        a_rekeying_reaches_the_other_replica(&keeper, &secret).await?;
        rotation::outlives_its_leader(&cluster, &keeper, &namespace).await?;
        every_write_is_there(&keeper, &namespace).await?;
        what_is_sealed_by_hand_stays_sealed(&keeper, &secret).await
    });
}

#[test]
fn a_store_begins_as_its_spec_says_a_lost_leader_forgets_shares_and_a_seal_names_who_is_silent() {
    run_alone("lost", SEALED, async |cluster: Cluster| {
        let keeper = Keeper::of(&cluster).await?;
        let shares = spec::initialises_the_store(&cluster, &keeper).await?;
        a_new_leader_begins_at_zero(&keeper, &shares).await?;
        a_seal_waits_for_a_replica_that_does_not_answer(&cluster, &keeper).await?;
        another_store_in_its_place_is_not_opened(&cluster, &keeper, &shares).await
    });
}

#[test]
fn two_stores_that_open_by_themselves_begin_with_one_pair_and_leave_sealed_what_people_sealed() {
    run_alone("opening", "e2e/manifests/opening", async |cluster: Cluster| {
        let keeper = Keeper::of(&cluster).await?;
        keeper.all_are(false).await?;
        one_pair_is_kept_and_no_root_key(&cluster, &keeper).await?;

        keeper.seal().await?;
        for replica in keeper.replicas().await? {
            keeper.delete(&replica, &DeleteParams::default()).await?;
        }
        keeper.all_are(true).await?;
        let [leader, _] = keeper.leader_and_follower().await?;
        let opened = keeper.ask_at(&leader, "PUT", "auto-unseal/default", &Value::Null).await?;
        assert_eq!(opened.status, 204, "{}", opened.text());
        keeper.all_are(false).await?;
        only_shares_in_custody_are_decrypted(&keeper).await
    });
}

/// DC/OS' clients give the encrypted share back. Of any other message nothing is said, so that nobody
/// learns from many what the kept key makes of them.
async fn only_shares_in_custody_are_decrypted(keeper: &Keeper) -> Result<()> {
    keeper.seal().await?;
    let init = keeper.ask("GET", "init/default", &Value::Null).await?.json();
    let share = init["keys"][0].as_str().context("no share")?;
    let changed = format!("{}00", &share[..share.len() - 2]);
    for message in ["", "00", "no hex", &share[2..], &changed] {
        let give = json!({"key": format!("{message} ")});
        let refused = keeper.ask("PUT", "auto-unseal/default", &give).await?;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let said = refused.json()["message"].clone();
        assert!(said.to_string().contains("none of the encrypted shares"), "{said}");
    }

    let given = keeper.ask("PUT", "auto-unseal/default", &json!({"key": share})).await?;

    let opened = json!({"sealed": false, "threshold": 1, "shares": 1, "progress": 0});
    assert_eq!((given.status, given.json()), (200, opened));
    Ok(())
}

/// What the Secret keeps opens the share in custody, and is not that share.
async fn one_pair_is_kept_and_no_root_key(cluster: &Cluster, keeper: &Keeper) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), "watchword-unseal");
    let [kept] = &secrets.list(&ListParams::default()).await?.items[..] else {
        bail!("more or less than one Secret");
    };
    let data = kept.data.as_ref().context("no data")?;
    let [(name, armor)] = &data.iter().collect::<Vec<_>>()[..] else { bail!("{:?}", data.keys()) };
    let armor = std::str::from_utf8(&armor.0)?;
    assert_eq!(*name, "private.asc");
    assert!(armor.starts_with("-----BEGIN PGP PRIVATE KEY BLOCK-----"), "{name}");
    keeper.takes_key(armor);
    let share = keeper.share().await?;
    assert_eq!(share.len(), 64, "a whole root key as hex");
    assert!(!armor.contains(&share), "the root key stands in the Secret");
    let stores: Api<SecretStore> = Api::all(cluster.client());
    wait_for("a status that says how safe that is", LIMIT, async || {
        let status = stores.get(names::DEFAULT_STORE).await?.status.unwrap_or_default();
        let said = status.conditions.iter().any(|one| {
            one.type_ == "SealIndependent" && one.status == "False" && one.reason == "KeptInSecret"
        });
        let replicas = status.replicas.iter().filter(|one| one.sealed == Some(false)).count();
        ensure!(said && replicas == 2 && status.fingerprints.len() == 1, "{status:?}");
        Ok(())
    })
    .await
}

#[test]
fn nobody_but_the_stores_own_pods_gets_the_key_and_whoever_is_refused_too_often_waits() {
    run_alone("peers", SEALED, async |cluster: Cluster| {
        let keeper = Keeper::initialize(&cluster).await?;
        keeper.unseal_at(&keeper.replicas().await?[0]).await?;
        keeper.all_are(false).await?;
        strangers::are_refused(&cluster, &keeper).await?;
        limits::are_each_ones_own(&cluster, &keeper).await
    });
}

/// Init, wrong shares, and one share given to the replica that does not lead.
async fn a_new_store_is_opened_once(cluster: &Cluster, keeper: &Keeper) -> Result<()> {
    let again = keeper.ask("PUT", "init/default", &json!({})).await?;
    assert_eq!(again.status, 409, "{}", again.text());
    assert!(again.text().contains("already exists"), "{}", again.text());
    let refused = cluster.watchword(&["secret", "list", "/"], b"").await?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("sealed"), "{refused:?}");

    for replica in keeper.replicas().await? {
        let wrong = json!({"key": "00".repeat(31) + "01"});
        let answer = keeper.ask_at(&replica, "PUT", "unseal/default", &wrong).await?;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let status = keeper.seal_status(&replica).await?;
        assert_eq!(status, json!({"sealed": true, "threshold": 1, "shares": 1, "progress": 0}));
    }

    let [_, follower] = keeper.leader_and_follower().await?;
    let answer = keeper.unseal_at(&follower).await?;
    assert_eq!(answer["sealed"], false, "whoever is asked, the leader does it: {answer}");
    whoever_is_answered_finds_it_open(keeper).await
}

/// Answered means: open wherever one asks. A replica that a busy machine does not let answer in time
/// follows seconds later, so it has some rounds.
async fn whoever_is_answered_finds_it_open(keeper: &Keeper) -> Result<()> {
    for _ in 0..5 {
        let mut open = true;
        for replica in keeper.replicas().await? {
            open &= keeper.seal_status(&replica).await?["sealed"] == false;
        }
        if open {
            return Ok(());
        }
        keeper.all_are(false).await?;
        keeper.seal().await?;
        keeper.unseal_at(&keeper.replicas().await?[0]).await?;
    }
    bail!("of two replicas one is always found sealed")
}

async fn a_new_leader_begins_at_zero(keeper: &Keeper, shares: &[String; 3]) -> Result<()> {
    let progress = async |replica: &Replica| {
        anyhow::Ok(keeper.seal_status(replica).await?["progress"].clone())
    };
    let [leader, follower] = keeper.leader_and_follower().await?;
    assert_eq!(keeper.give(&follower, &shares[0]).await?["progress"], 1);
    for replica in [&leader, &follower] {
        assert_eq!(progress(replica).await?, 1, "the progress is recorded for all");
    }

    keeper.kill(&leader).await?;

    let [leader, _] = keeper.leader_and_follower().await?;
    wait_for("a progress of 0", LIMIT, async || {
        let now = progress(&leader).await?;
        ensure!(now == 0, "{now}");
        Ok(())
    })
    .await?;
    assert_eq!(keeper.give(&leader, &shares[1]).await?["progress"], 1, "the first is forgotten");
    assert_eq!(keeper.give(&leader, &shares[1]).await?["progress"], 1, "the same share again");
    let open = keeper.give(&leader, &shares[2]).await?;
    assert_eq!(open, json!({"sealed": false, "threshold": 2, "shares": 3, "progress": 0}));
    keeper.all_are(false).await
}

async fn a_seal_waits_for_a_replica_that_does_not_answer(
    cluster: &Cluster,
    keeper: &Keeper,
) -> Result<()> {
    let [leader, follower] = keeper.leader_and_follower().await?;
    let node = cluster.local().context("a local cluster")?;
    node.signal(&follower.name, "/watchword-controller", "STOP")?;
    let sealed = wait_for("an answer that names who is missing", LIMIT, async || {
        let sealed = keeper.ask_at(&leader, "PUT", "seal/default", &Value::Null).await?;
        // A busy machine may have had no time left to say it.
        let is_told = sealed.status == 200 || sealed.text().contains(&follower.name);
        ensure!(is_told, "{}: {}", sealed.status, sealed.text());
        anyhow::Ok(sealed)
    })
    .await;
    node.signal(&follower.name, "/watchword-controller", "CONT")?;

    let sealed = sealed?;
    assert_eq!(sealed.status, 503, "{}", sealed.text());
    // It follows what is recorded, without being asked again.
    keeper.all_are(true).await?;
    keeper.seal().await
}

/// Whoever can write to the back end puts a store of their own there, for the same people. What these
/// bring opens it; the store does not.
async fn another_store_in_its_place_is_not_opened(
    cluster: &Cluster,
    keeper: &Keeper,
    shares: &[String; 3],
) -> Result<()> {
    let records = Records::of(cluster).await?;
    let genuine = records.get(ObjectName::keyring().as_str()).await?;
    let (keyring, share) = another_keyring().await?;
    let mut other = genuine.clone();
    other.spec.record = BASE64_STANDARD.encode(keyring);
    records.put_back(&other).await?;

    let [leader, _] = keeper.leader_and_follower().await?;
    let give = json!({"key": share});
    let refused = keeper.ask_at(&leader, "PUT", "unseal/default", &give).await?;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("is not the one that was there"), "{}", refused.text());
    for replica in keeper.replicas().await? {
        assert_eq!(keeper.seal_status(&replica).await?["sealed"], true);
    }

    records.put_back(&genuine).await?;
    keeper.give(&leader, &shares[0]).await?;
    assert_eq!(keeper.give(&leader, &shares[1]).await?["sealed"], false);
    keeper.all_are(false).await
}

/// The keyring of a store that has nothing to do with the one here, and its only share.
async fn another_keyring() -> Result<(Vec<u8>, String)> {
    let folder = tempfile::tempdir()?;
    let store =
        Store::new(FileBackend::open(&folder.path().join("store"))?, StoreConfig::default());
    let root_key = RootKey::generate()?;
    let mut custody = Custody::default();
    (custody.shares, custody.threshold) = (1, 1);
    store.initialize(&root_key, &custody, 1).await?;
    let [share] = &root_key.split(SealConfig::new(1, 1, 0)?)?[..] else { bail!("not one share") };
    let share = share.to_hex().to_string();
    store.unseal(root_key).await?;
    // Newer than anything that the replicas have seen.
    for _ in 0..20 {
        store.rotate(1).await?;
    }
    let keyring = store.backend().get(&ObjectName::keyring()).await?.context("no keyring")?;
    Ok((keyring.bytes, share))
}

/// A sealed store: everything is refused at once by every replica, a new pod waits and says why;
/// and one unseal starts it.
async fn sealed_pods_wait_and_one_unseal_starts_them(
    cluster: &Cluster,
    keeper: &Keeper,
    namespace: &Namespace,
) -> Result<()> {
    let secret = namespace.secret("s");
    keeper.seal().await?;
    // Answered means: dropped by all. Nothing is waited for here.
    for replica in keeper.replicas().await? {
        assert_eq!(keeper.seal_status(&replica).await?["sealed"], true);
        let path = format!("secret/default/{secret}");
        let read = keeper.ask_at(&replica, "GET", &path, &Value::Null).await?;
        assert_eq!((read.status, &read.json()["code"]), (503, &json!("sealed")), "{}", read.text());
    }

    let late = with_variable(task("late", "echo \"<$S>\"; exec sleep 600"), "S", &secret);
    namespace.define("late", &json!({"tasks": [late]})).await?;
    namespace.waits_because("late", "waiting for the secret store: sealed").await?;

    keeper.unseal_at(&keeper.replicas().await?[0]).await?;
    namespace.in_state("late", "TASK_RUNNING").await?;
    let pod = namespace.running_pod("late").await?;
    namespace.says(&pod, None, "<value of s>\n").await?;
    keeper.all_are(false).await?;
    keeper.all_serve(&secret, "value of s").await?;
    let events = cluster.audit().await?;
    for event in ["init", "seal", "unseal", "handover"] {
        ensure!(events.iter().any(|line| line["event"] == event), "no audit line about {event}");
    }
    Ok(())
}

async fn a_restarted_replica_gets_the_key_from_its_peer(
    keeper: &Keeper,
    secret: &str,
) -> Result<()> {
    for index in [0, 1] {
        let gone = &keeper.replicas().await?[index];
        keeper.delete(gone, &DeleteParams::default()).await?;
        keeper.all_are(false).await?;
        keeper.all_serve(secret, "value of s").await?;
    }
    Ok(())
}

/// 200 writes, and either replica killed once while they go on.
async fn no_acknowledged_write_is_lost_when_either_is_killed(
    keeper: &Keeper,
    namespace: &Namespace,
) -> Result<()> {
    let victims = keeper.replicas().await?;
    let path = |index: usize| namespace.secret(&format!("write-{index}"));
    let mut killed = 0;
    for begin in (0..WRITES).step_by(10) {
        let batch = join_all((begin..begin + 10).map(async |index| {
            wait_for(&format!("write {index} to be acknowledged"), LIMIT, async || {
                let body = json!({"value": format!("value {index}")});
                let url = format!("secret/default/{}", path(index));
                let answer = keeper.ask("PUT", &url, &body).await?;
                // The one before may have been done, and its answer lost.
                match answer.status {
                    201 | 409 => Ok(()),
                    status => bail!("{status}: {}", answer.text()),
                }
            })
            .await
        }));
        let kill = async {
            if begin == 40 || begin == 120 {
                let victim = &victims[killed];
                killed += 1;
                // The other one must hold the key: two that die at once seal the store.
                if killed == 2 {
                    keeper.all_are(false).await?;
                }
                keeper.kill(victim).await?;
            }
            anyhow::Ok(())
        };
        let (written, killed) = tokio::join!(batch, kill);
        killed?;
        written.into_iter().collect::<Result<Vec<()>>>()?;
    }

    keeper.all_are(false).await?;
    every_write_is_there(keeper, namespace).await
}

async fn every_write_is_there(keeper: &Keeper, namespace: &Namespace) -> Result<()> {
    for replica in keeper.replicas().await? {
        for index in 0..WRITES {
            let path = namespace.secret(&format!("write-{index}"));
            keeper.serves(&replica, &path, &format!("value {index}")).await?;
        }
    }
    Ok(())
}

/// New shares for a new key: the old share is worth nothing, and no secret is lost.
async fn a_rekeying_reaches_the_other_replica(keeper: &Keeper, secret: &str) -> Result<()> {
    let before = keeper.share().await?;
    let begun = keeper.ask("PUT", "rekey/default", &json!({})).await?;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let nonce = begun.json()["nonce"].clone();
    let stale = json!({"key": before, "nonce": "another"});
    assert_eq!(keeper.ask("PUT", "rekey/default/share", &stale).await?.status, 400);
    let share = json!({"key": before, "nonce": nonce});
    let done = keeper.ask("PUT", "rekey/default/share", &share).await?;
    assert_eq!((done.status, &done.json()["complete"]), (200, &json!(true)), "{}", done.text());
    keeper.has_another_key(&begun.json())?;
    assert_ne!(keeper.share().await?, before);

    keeper.all_serve(secret, "value of s").await?;
    // Each alone holds the new key: the other one is gone, and comes back with it.
    for index in [0, 1] {
        let gone = &keeper.replicas().await?[index];
        keeper.delete(gone, &DeleteParams::default()).await?;
        keeper.all_are(false).await?;
    }
    keeper.all_serve(secret, "value of s").await
}

async fn what_is_sealed_by_hand_stays_sealed(keeper: &Keeper, secret: &str) -> Result<()> {
    keeper.seal().await?;

    for replica in keeper.replicas().await? {
        keeper.delete(&replica, &DeleteParams::default()).await?;
    }
    // They are Ready: someone has to be able to unseal them.
    keeper.all_are(true).await?;

    keeper.unseal_at(&keeper.replicas().await?[1]).await?;
    keeper.all_are(false).await?;
    keeper.all_serve(secret, "value of s").await
}

/// How many writes go on while replicas are killed.
const WRITES: usize = 200;
