//! A rotation whose leader is killed while it rewraps, and what a copy of a deleted record is worth
//! before and after the older terms have been destroyed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use watchword_crds::sealed_record::SealedRecord;
use watchword_e2e::records::Records;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, Namespace, wait_for};
use watchword_store::record::Record;

use crate::keeper::{Keeper, Replica};

/// The leader dies when some records are moved and others are not: the next one moves the rest, and
/// none is lost. Then a deleted secret, put back by whoever kept a copy of its records, opens; and
/// opens no more once the older terms are retired.
///
/// There must be enough secrets for a rewrapping to take a moment.
pub(crate) async fn outlives_its_leader(
    cluster: &Cluster,
    keeper: &Keeper,
    namespace: &Namespace,
) -> Result<()> {
    let records = Records::of(cluster).await?;
    let gone = namespace.secret("gone");
    let saved = write_and_save(keeper, &records, &gone).await?;

    let killed = stopped_while_it_rewraps(cluster, keeper, &records).await?;
    keeper.delete(&killed, &DeleteParams::default().grace_period(0)).await?;
    keeper.all_are(false).await?;
    let [leader, follower] = keeper.leader_and_follower().await?;
    assert_ne!(leader.name, killed.name);
    let ended = end_of_rotation(keeper).await?;

    let newest = u32::try_from(ended["term"].as_u64().context("no term")?)?;
    assert_eq!(terms(&records).await?.into_keys().collect::<Vec<_>>(), [newest], "{ended}");
    assert!(ended["terms"].as_array().is_some_and(|terms| terms.len() > 1), "{ended}");
    let log = cluster.audit().await?;
    let rewrapped = |line: &&Value| line["event"] == "rewrap" && line["decision"] == "allowed";
    assert!(log.iter().any(|line| rewrapped(&line)), "no line about the rewrapping");

    // Only the leader knows of the deletion: who has seen it takes nothing older for the truth.
    delete(keeper, &leader, &gone).await?;
    let tombstone = current_head(&records, &saved).await?;
    put_back(&records, &saved).await?;
    keeper.serves(&follower, &gone, VALUE).await?;
    let refused = read(keeper, &leader, &gone).await?;
    assert_eq!(refused.0, 500, "{}", refused.1);
    records.put_back(&tombstone).await?;
    records.remove(&saved.version.name_any()).await?;

    a_replica_that_does_not_answer_is_waited_for(cluster, keeper, [&leader, &follower]).await?;
    let retired = end_of_rotation(keeper).await?;
    assert_eq!(retired["terms"].as_array().map(Vec::len), Some(1), "{retired}");
    let tombstone = current_head(&records, &saved).await?;
    put_back(&records, &saved).await?;
    // Done means: done wherever one asks. Nothing is waited for here.
    let (status, text) = read(keeper, &follower, &gone).await?;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains(&saved.head.name_any()) && text.contains("does not open"), "{text}");
    assert!(!text.contains(VALUE), "{text}");
    let log = cluster.audit().await?;
    let named = |line: &&Value| {
        let record = line["record"].as_str().unwrap_or_default();
        record.starts_with(&saved.head.name_any()) && line["path"] == gone
    };
    let line = log.iter().rfind(named).context("no line names the record")?;
    assert_eq!((&line["event"], &line["decision"]), (&json!("read"), &json!("failed")), "{line}");
    // Nor for who knows nothing of what was: the key comes from a peer, and no older term with it.
    keeper.delete(&follower, &DeleteParams::default()).await?;
    keeper.all_are(false).await?;
    for replica in keeper.replicas().await? {
        let (status, text) = read(keeper, &replica, &gone).await?;
        assert_eq!(status, 500, "`{}`: {text}", replica.name);
    }
    records.put_back(&tombstone).await?;
    records.remove(&saved.version.name_any()).await
}

/// Older terms are not called gone while somebody may hold them.
async fn a_replica_that_does_not_answer_is_waited_for(
    cluster: &Cluster,
    keeper: &Keeper,
    [leader, follower]: [&Replica; 2],
) -> Result<()> {
    let node = cluster.local().context("a local cluster")?;
    node.signal(&follower.name, "/watchword-controller", "STOP")?;
    let waits = async {
        let path = "rotate/default";
        let retire = keeper.ask_at(leader, "PUT", path, &json!({"retire": true})).await?;
        // Telling a replica that does not answer takes a part of the time for an answer.
        ensure!(matches!(retire.status, 200 | 408), "{}", retire.text());
        wait_for("it to be said who is missing", LIMIT, async || {
            let status = keeper.ask_at(leader, "GET", path, &Value::Null).await?.json();
            let error = status["error"].as_str().unwrap_or_default();
            ensure!(error.contains("older terms are yet to be dropped"), "{status}");
            ensure!(error.contains(&follower.name), "{status}");
            ensure!(status["rewrap"]["running"] == true, "{status}");
            Ok(())
        })
        .await
    }
    .await;
    node.signal(&follower.name, "/watchword-controller", "CONT")?;
    waits
}

/// Copies of what lies in the back end for one secret.
struct Saved {
    head: SealedRecord,
    version: SealedRecord,
}

async fn write_and_save(keeper: &Keeper, records: &Records, path: &str) -> Result<Saved> {
    let names = async || {
        let all = records.all().await?;
        anyhow::Ok(all.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>())
    };
    let before = names().await?;
    let url = format!("secret/default/{path}");
    let written = keeper.ask("PUT", &url, &json!({"value": VALUE})).await?;
    ensure!(written.status == 201, "{}: {}", written.status, written.text());
    let new: Vec<String> = names().await?.difference(&before).cloned().collect();
    let [one, other] = new.as_slice() else { bail!("a head and a version, not {new:?}") };
    // A version's name is its head's, and more.
    let (head, version) = if one.len() < other.len() { (one, other) } else { (other, one) };
    Ok(Saved { head: records.get(head).await?, version: records.get(version).await? })
}

async fn put_back(records: &Records, Saved { head, version }: &Saved) -> Result<()> {
    records.put_back(version).await?;
    records.put_back(head).await
}

async fn current_head(records: &Records, saved: &Saved) -> Result<SealedRecord> {
    records.get(&saved.head.name_any()).await
}

async fn delete(keeper: &Keeper, replica: &Replica, path: &str) -> Result<()> {
    let url = format!("secret/default/{path}");
    let deleted = keeper.ask_at(replica, "DELETE", &url, &Value::Null).await?;
    ensure!(deleted.status == 204, "{}: {}", deleted.status, deleted.text());
    Ok(())
}

async fn read(keeper: &Keeper, replica: &Replica, path: &str) -> Result<(u16, String)> {
    let url = format!("secret/default/{path}");
    let answer = keeper.ask_at(replica, "GET", &url, &Value::Null).await?;
    Ok((answer.status, answer.text()))
}

/// Rotates, and stops the leader when some records are moved and some are not. What a stopped
/// process has asked for is done; it asks for no more.
async fn stopped_while_it_rewraps(
    cluster: &Cluster,
    keeper: &Keeper,
    records: &Records,
) -> Result<Replica> {
    let node = cluster.local().context("a local cluster")?;
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let [leader, _] = keeper.leader_and_follower().await?;
        let begun = keeper.ask_at(&leader, "PUT", "rotate/default", &json!({})).await?;
        ensure!(matches!(begun.status, 200 | 408), "{}: {}", begun.status, begun.text());
        loop {
            let status = keeper.ask_at(&leader, "GET", "rotate/default", &Value::Null).await?;
            let rewrap = status.json()["rewrap"].clone();
            if rewrap["done"].as_u64() > Some(0) || rewrap["running"] != true {
                break;
            }
        }
        node.signal(&leader.name, "/watchword-controller", "STOP")?;
        let terms = terms(records).await?;
        if terms.len() > 1 {
            return Ok(leader);
        }
        // It was quicker than this test.
        node.signal(&leader.name, "/watchword-controller", "CONT")?;
        end_of_rotation(keeper).await?;
        seen.push(terms);
    }
    bail!("it was always done: {seen:?}")
}

/// Waits until nothing is left to do, and returns what is said of it then.
async fn end_of_rotation(keeper: &Keeper) -> Result<Value> {
    wait_for("the rotation to end", LIMIT, async || {
        let status = keeper.ask("GET", "rotate/default", &Value::Null).await?;
        let said = status.json();
        ensure!(status.status == 200 && said["rewrap"]["running"] == false, "{}", status.text());
        Ok(said)
    })
    .await
}

/// How many records are of which term.
async fn terms(records: &Records) -> Result<BTreeMap<u32, usize>> {
    let mut terms = BTreeMap::new();
    for record in records.all().await? {
        let bytes = BASE64_STANDARD.decode(&record.spec.record)?;
        // The keyring and the state of the seal are of no term.
        if let Ok(record) = Record::parse(&bytes) {
            *terms.entry(record.term()).or_default() += 1;
        }
    }
    Ok(terms)
}

const VALUE: &str = "canary of what is gone";

/// How many rotations may be over before they can be looked at.
const ATTEMPTS: usize = 10;
