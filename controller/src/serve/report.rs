//! The status of the SecretStore, which the replica that leads writes. It is for people: nothing
//! decides by it.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::warn;
use watchword_crds::{SecretStore, SecretStoreStatus, StoreReplica, names};

use super::Service;
use super::auto_unseal::{initializes_itself, reference};
use super::ceremony::lead::custody;
use super::failure::Failure;
use crate::chain::Chain;

/// Keeps the status as things are, as long as this replica leads.
pub(super) async fn keep(service: &Service) {
    let mut written = None;
    let mut replicas = Vec::new();
    let mut asked: Option<Instant> = None;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() > REPLICAS_INTERVAL) {
            replicas = others(service).await;
            asked = Some(Instant::now());
        }
        match status(service, &replicas).await {
            Ok(Some(status)) if written.as_ref() != Some(&status) => {
                match write(service, &status).await {
                    Ok(()) => written = Some(status),
                    Err(error) => {
                        warn!(error = %Chain(&error), "cannot write the status of the SecretStore");
                    }
                }
                // Something has changed; so the others have.
                asked = None;
            }
            Ok(_) => {}
            Err(failure) => warn!(error = failure.message, "cannot tell the status of the store"),
        }
        sleep(INTERVAL).await;
    }
}

async fn others(service: &Service) -> Vec<StoreReplica> {
    let peers = &service.seal.peers;
    let Ok(replicas) = peers.replicas().await else { return Vec::new() };
    let states = join_all(replicas.others.iter().map(|peer| peers.state(peer))).await;
    let others = replicas.others.into_iter().zip(states);
    others
        .map(|(peer, state)| StoreReplica {
            name: peer.name,
            sealed: state.ok().map(|state| !state.holds),
        })
        .collect()
}

/// `None` if there is no SecretStore to write it to.
async fn status(
    service: &Service,
    others: &[StoreReplica],
) -> Result<Option<SecretStoreStatus>, Failure> {
    let Some(settings) = service.settings() else { return Ok(None) };
    let custody = custody(service).await?;
    let sealed = service.store.is_sealed();
    let own = StoreReplica { name: service.seal.peers.own().to_owned(), sealed: Some(sealed) };
    let mut replicas = [&[own], others].concat();
    replicas.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Some(SecretStoreStatus {
        conditions: conditions(&settings, service.seal.complaint()),
        observed_generation: settings.metadata.generation,
        initialized: Some(custody.is_some()),
        sealed: Some(sealed),
        progress: Some(service.seal_state().await?.progress.into()),
        shares: custody.as_ref().map(|custody| custody.shares.into()),
        threshold: custody.as_ref().map(|custody| custody.threshold.into()),
        fingerprints: custody.map(|custody| custody.pgp_fingerprints).unwrap_or_default(),
        replicas,
    }))
}

/// How well the key that opens the store is kept; and, where the settings ask for something to be
/// done without people, whether it can be.
fn conditions(settings: &SecretStore, complaint: Option<String>) -> Vec<Condition> {
    let (status, reason, message) = match reference(settings) {
        None => ("True", "SharesOnly", "nothing but its shares opens the store".to_owned()),
        Some(reference) => (
            "False",
            "KeptInSecret",
            format!(
                "the key that opens the store is kept in Secret {}/{}: the seal is as safe as that \
                 namespace, and as etcd",
                reference.namespace, reference.name
            ),
        ),
    };
    let application = initializes_itself(settings).then(|| match complaint {
        None => (("True", "Applied"), "the store is as its settings say".to_owned()),
        Some(complaint) => (("False", "Failed"), complaint),
    });
    let protection = condition(settings, "SealIndependent", (status, reason), message);
    let application =
        application.map(|(status, text)| condition(settings, "SettingsApplied", status, text));
    [protection].into_iter().chain(application).collect()
}

/// A condition of the SecretStore, with the time since when it has this status.
pub(super) fn condition(
    settings: &SecretStore,
    kind: &str,
    (status, reason): (&str, &str),
    message: String,
) -> Condition {
    let since = match of_kind(settings, kind) {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        Some(_) => Time(Timestamp::now()),
        // A time of writing would make every status another one, until the first is seen.
        None => settings.creation_timestamp().unwrap_or(Time(Timestamp::UNIX_EPOCH)),
    };
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: settings.metadata.generation,
        last_transition_time: since,
    }
}

fn of_kind<'a>(settings: &'a SecretStore, kind: &str) -> Option<&'a Condition> {
    let conditions = settings.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().find(|one| one.type_ == kind)
}

/// Writes a condition beside those of the replica that leads, unless it is there: a replica that
/// cannot lead, because it has no store, has something to say too.
///
/// # Errors
///
/// The API server does not take it.
pub(super) async fn write_condition(
    client: &Client,
    settings: &SecretStore,
    condition: Condition,
) -> Result<(), kube::Error> {
    if of_kind(settings, &condition.type_) == Some(&condition) {
        return Ok(());
    }
    let manager = format!("{}-{}", names::FIELD_MANAGER, condition.type_);
    apply(client, &manager, &json!({"conditions": [condition]})).await
}

async fn apply(client: &Client, manager: &str, status: &Value) -> Result<(), kube::Error> {
    let status = json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "SecretStore",
        "status": status,
    });
    let parameters = PatchParams::apply(manager).force();
    let api: Api<SecretStore> = Api::all(client.clone());
    api.patch_status(names::DEFAULT_STORE, &parameters, &Patch::Apply(&status)).await.map(drop)
}

async fn write(service: &Service, status: &SecretStoreStatus) -> Result<(), kube::Error> {
    apply(&service.client, names::FIELD_MANAGER, &json!(status)).await
}

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often the other replicas are asked.
const REPLICAS_INTERVAL: Duration = Duration::from_secs(10);
