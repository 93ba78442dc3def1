//! The pair whose private half a Secret keeps, in a namespace of its own: never the root key.
//!
//! The Secret is created once and never changed. Taking it away, or its namespace's rights, is how
//! one stops the store from opening by itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::task;
use watchword_crds::SecretRef;
use watchword_store::openpgp::{GenerateError, PrivateKey};
use zeroize::Zeroize;

/// Why there is no kept pair. No variant holds anything of it.
#[derive(Debug, thiserror::Error)]
pub(in crate::serve) enum KeptError {
    #[error("cannot make an OpenPGP pair")]
    Generate(#[from] GenerateError),
    #[error("Secret {namespace}/{name} is not there")]
    Missing { namespace: String, name: String },
    #[error("Secret {namespace}/{name} keeps no OpenPGP private key as `{PRIVATE_KEY}`")]
    NoKey { namespace: String, name: String },
    #[error("cannot read or create Secret {namespace}/{name}")]
    Secret {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the work was cut off")]
    Task(#[from] task::JoinError),
}

/// The pair that the Secret keeps.
///
/// # Errors
///
/// [`KeptError::Missing`] when there is no such Secret.
pub(in crate::serve) async fn existing(
    client: &Client,
    reference: &SecretRef,
) -> Result<PrivateKey, KeptError> {
    let SecretRef { namespace, name } = reference.clone();
    match get(client, reference).await? {
        Some(secret) => parse(secret, reference),
        None => Err(KeptError::Missing { namespace, name }),
    }
}

/// The pair that the Secret keeps; a new one, kept first, when there is no such Secret.
///
/// # Errors
///
/// [`KeptError`].
pub(in crate::serve) async fn pair(
    client: &Client,
    reference: &SecretRef,
) -> Result<PrivateKey, KeptError> {
    if let Some(secret) = get(client, reference).await? {
        return parse(secret, reference);
    }
    let private_key = generate().await?;
    let armor = ByteString(private_key.to_armor()?.as_bytes().to_vec());
    let mut secret = Secret {
        metadata: ObjectMeta { name: Some(reference.name.clone()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(PRIVATE_KEY.to_owned(), armor)])),
        immutable: Some(true),
        type_: Some("watchword.dev/unseal-key".to_owned()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), &reference.namespace);
    let created = api.create(&PostParams::default(), &secret).await;
    wipe(&mut secret);
    match created {
        Ok(mut created) => {
            wipe(&mut created);
            Ok(private_key)
        }
        // Another replica was faster: its pair is the pair.
        Err(kube::Error::Api(status)) if status.code == 409 => existing(client, reference).await,
        Err(error) => Err(failed(reference)(error)),
    }
}

/// Makes a pair, which takes seconds of computing.
///
/// # Errors
///
/// [`KeptError::Generate`].
pub(in crate::serve) async fn generate() -> Result<PrivateKey, KeptError> {
    let created = Timestamp::now().as_second();
    Ok(task::spawn_blocking(move || PrivateKey::generate(USER_ID, created)).await??)
}

async fn get(client: &Client, reference: &SecretRef) -> Result<Option<Secret>, KeptError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &reference.namespace);
    api.get_opt(&reference.name).await.map_err(failed(reference))
}

fn parse(mut secret: Secret, reference: &SecretRef) -> Result<PrivateKey, KeptError> {
    let armor = secret.data.as_ref().and_then(|data| data.get(PRIVATE_KEY));
    let private_key = armor.and_then(|armor| PrivateKey::parse(&armor.0).ok());
    wipe(&mut secret);
    let SecretRef { namespace, name } = reference.clone();
    private_key.ok_or(KeptError::NoKey { namespace, name })
}

fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flatten().for_each(|(_, bytes)| bytes.0.zeroize());
}

fn failed(reference: &SecretRef) -> impl Fn(kube::Error) -> KeptError {
    let SecretRef { namespace, name } = reference.clone();
    move |source| KeptError::Secret {
        namespace: namespace.clone(),
        name: name.clone(),
        source: Box::new(source),
    }
}

/// The key in the Secret.
const PRIVATE_KEY: &str = "private.asc";

/// How the pair calls itself.
const USER_ID: &str = "Watchword secret store";
