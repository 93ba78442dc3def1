//! Unsealing: how this replica comes by the root key.
//!
//! `autoUnseal.secret` of the SecretStore names a Secret in another namespace that keeps the root
//! key's one share, as lower-case hex. That is a convenience, exactly as safe as that namespace.
//! Without it the store stays sealed.
//!
//! A new store is initialised on the way. The share is kept before the keyring is made, so a crash
//! between the two loses nothing, and of two replicas that begin at once both end with one key.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tracing::{info, warn};
use watchword_crds::{SecretRef, SecretStore, names};
use watchword_store::{
    Custody, InitializeError, Initialized, RandomError, RootKey, SealConfig, Share, UnsealError,
};
use zeroize::Zeroize;

use super::Service;
use crate::chain::Chain;
use crate::shared::Shared;

/// Unseals the store if it is sealed and may be, again and again until the shutdown; begins when
/// `known` is over, by which time the settings are.
pub(super) async fn keep_unsealed(
    service: Arc<Service>,
    shared: Shared,
    known: impl Future<Output = ()>,
) {
    let condition = shared.readiness.condition("seal");
    // Not yet knowing the settings is not the same as settings that leave the store sealed.
    known.await;
    loop {
        match attempt(&service, &shared).await {
            // Sealed and nothing to do about it is Ready as well: clients reach someone who says
            // `sealed`, and someone can unseal.
            Ok(State::Sealed | State::Unsealed) => condition.met(),
            Err(error) => {
                condition.unmet(Chain(&error).to_string());
            }
        }
        tokio::select! {
            () = shared.shutdown.requested() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

enum State {
    Sealed,
    Unsealed,
}

/// Why an attempt failed. No variant holds anything of a key.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("cannot initialise the store")]
    Initialize(#[from] InitializeError),
    #[error("cannot read or keep the share in Secret {namespace}/{name}")]
    Secret {
        namespace: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("Secret {namespace}/{name} holds no share of a root key")]
    Share { namespace: String, name: String },
    #[error("cannot make a root key")]
    Random(#[from] RandomError),
    #[error("cannot unseal the store")]
    Unseal(#[from] UnsealError),
}

async fn attempt(service: &Service, shared: &Shared) -> Result<State, AttemptError> {
    if !service.store.is_sealed() {
        return Ok(State::Unsealed);
    }
    let Some(settings) = service.settings() else { return Ok(State::Sealed) };
    let auto_unseal = settings.spec.auto_unseal.as_ref();
    let Some(reference) = auto_unseal.and_then(|auto| auto.secret.as_ref()) else {
        return Ok(State::Sealed);
    };
    let root_key = kept_key(&shared.client, reference).await?;
    let created = Timestamp::now().as_second();
    if service.store.initialize(&root_key, &Custody::default(), created).await? == Initialized::Now
    {
        info!("initialised the store");
    }
    service.store.unseal(root_key).await?;
    info!("unsealed the store");
    report(&shared.client).await;
    match service.store.sweep().await {
        Ok(0) => {}
        Ok(objects) => info!(objects, "removed what interrupted writes had left"),
        Err(error) => warn!(error = %Chain(&error), "cannot remove what interrupted writes left"),
    }
    Ok(State::Unsealed)
}

/// The root key that the Secret keeps; a new one, kept first, when there is no such Secret.
async fn kept_key(client: &Client, reference: &SecretRef) -> Result<RootKey, AttemptError> {
    let SecretRef { namespace, name } = reference;
    let failed =
        |source| AttemptError::Secret { namespace: namespace.clone(), name: name.clone(), source };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(secret) = api.get_opt(name).await.map_err(failed)? {
        return parse(secret, reference);
    }
    let root_key = RootKey::generate()?;
    let mut shares = root_key.split(SealConfig::default())?;
    let share = shares.swap_remove(0).to_hex();
    let share = ByteString(share.as_bytes().to_vec());
    let mut secret = Secret {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(SHARE_KEY.to_owned(), share)])),
        immutable: Some(true),
        type_: Some("watchword.dev/root-key-share".to_owned()),
        ..Secret::default()
    };
    let created = api.create(&PostParams::default(), &secret).await;
    wipe(&mut secret);
    match created {
        Ok(mut created) => {
            wipe(&mut created);
            Ok(root_key)
        }
        // Another replica was faster: its key is the key.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            parse(api.get(name).await.map_err(failed)?, reference)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse(mut secret: Secret, reference: &SecretRef) -> Result<RootKey, AttemptError> {
    let share = secret.data.as_ref().and_then(|data| data.get(SHARE_KEY));
    let text = share.and_then(|share| std::str::from_utf8(&share.0).ok());
    let root_key = text
        .and_then(|text| Share::parse(text).ok())
        .and_then(|share| RootKey::combine(&[share]).ok());
    wipe(&mut secret);
    root_key.ok_or_else(|| AttemptError::Share {
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
    })
}

fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flatten().for_each(|(_, bytes)| bytes.0.zeroize());
}

/// Says in the SecretStore's status that the store is open. For people: nothing decides by it.
async fn report(client: &Client) {
    let status = json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "SecretStore",
        "status": {"initialized": true, "sealed": false},
    });
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    let api: Api<SecretStore> = Api::all(client.clone());
    if let Err(error) =
        api.patch_status(names::DEFAULT_STORE, &parameters, &Patch::Apply(&status)).await
    {
        warn!(error = %Chain(&error), "cannot write the status of the SecretStore");
    }
}

const SHARE_KEY: &str = "share";

/// How long to wait between two attempts; also how long a new SecretStore waits for its first.
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);
