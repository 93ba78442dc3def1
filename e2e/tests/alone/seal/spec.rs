//! A store that initialises itself for the people whom its SecretStore names, with keys of the real
//! `gpg`.

use anyhow::{Context, Result, ensure};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use watchword_crds::{SecretStore, names};
use watchword_e2e::holder::Holder;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, wait_for};

use crate::keeper::Keeper;

/// Three keys, two of which open it; returns what `gpg` makes of the three shares. A spec that asks
/// for what cannot be says so in the status, and can be mended.
pub(crate) async fn initialises_the_store(
    cluster: &Cluster,
    keeper: &Keeper,
) -> Result<[String; 3]> {
    let people = [
        ("ann@example.com", Holder::new(cluster, "ann@example.com", "default", "").await?),
        ("bob@example.com", Holder::new(cluster, "bob@example.com", "future-default", "").await?),
        ("eve@example.com", Holder::new(cluster, "eve@example.com", "default", "a word").await?),
    ];
    let (mut keys, mut fingerprints) = (Vec::new(), Vec::new());
    for (name, holder) in &people {
        let line = format!("gpg --export {name} | base64 -w 0");
        keys.push(String::from_utf8(holder.shell(cluster, &line, "").await?)?);
        fingerprints.push(holder.fingerprint(cluster).await?);
    }
    let stores: Api<SecretStore> = Api::all(cluster.client());
    let ask_for = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        stores.patch(names::DEFAULT_STORE, &PatchParams::default(), &patch).await
    };

    ask_for(json!({"shares": 3, "threshold": 2, "pgpKeys": &keys[..2]})).await?;
    wait_for("a status that says what is wrong", LIMIT, async || {
        let status = stores.get(names::DEFAULT_STORE).await?.status.unwrap_or_default();
        let said = status.conditions.iter().any(|one| {
            one.type_ == "SettingsApplied"
                && one.status == "False"
                && one.message.contains("count mismatch between number of provided PGP keys")
        });
        ensure!(said && status.initialized == Some(false), "{status:?}");
        Ok(())
    })
    .await?;

    ask_for(json!({"pgpKeys": keys})).await?;
    wait_for("a store for three people", LIMIT, async || {
        let status = stores.get(names::DEFAULT_STORE).await?.status.unwrap_or_default();
        let said = status.conditions.iter().any(|one| {
            one.type_ == "SettingsApplied" && one.status == "True" && one.reason == "Applied"
        });
        let split = (status.shares, status.threshold, status.sealed);
        ensure!(said && split == (Some(3), Some(2), Some(true)), "{status:?}");
        ensure!(status.fingerprints == fingerprints, "{status:?}");
        Ok(())
    })
    .await?;
    let init = keeper.ask("GET", "init/default", &Value::Null).await?.json();
    assert_eq!(init["pgp_fingerprints"], json!(fingerprints));
    let mut shares = Vec::new();
    for (index, (_, holder)) in people.iter().enumerate() {
        let hex = init["keys"][index].as_str().with_context(|| init.to_string())?;
        shares.push(holder.decrypt(cluster, hex).await?);
        let (_, stranger) = &people[(index + 1) % people.len()];
        assert!(stranger.decrypt(cluster, hex).await.is_err(), "it is for one person only");
    }
    shares.try_into().map_err(|_| anyhow::anyhow!("not three shares"))
}
