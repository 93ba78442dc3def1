//! Initialising by hand: the first root key, its shares, and nothing that could be had twice.

use std::error::Error;

use serde::Serialize;
use watchword_protocol::ErrorCode;
use watchword_store::{Custody, InitializeError, Intent};
use zeroize::Zeroizing;

use super::now;
use super::pair::Pair;
use crate::serve::Service;
use crate::serve::auto_unseal::{self, AutoUnsealError};
use crate::serve::ceremony::operation::{CheckedSplit, Reply};
use crate::serve::failure::Failure;
use crate::serve::place::Filling;

/// What `init` answers, in DC/OS' shape. It has no `Debug`: it may hold a private key.
#[derive(Serialize)]
pub(in crate::serve) struct InitAnswer {
    /// Whether there is a keyring.
    pub initialized: bool,
    /// The shares, each encrypted: hex of an OpenPGP message.
    pub keys: Vec<String>,
    /// For which keys.
    pub pgp_fingerprints: Vec<String>,
    /// Always empty: there is no other way in.
    pub recovery_keys: [String; 0],
    /// Always empty: there is no root token. Who may do what, the cluster says.
    pub root_token: &'static str,
    /// The private half of a pair that was made for it, armoured; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgp_private_key: Option<Zeroizing<String>>,
}

impl InitAnswer {
    /// For a store whose shares are held so; not initialised if by nobody.
    pub(in crate::serve) fn new(custody: Option<Custody>) -> Self {
        let initialized = custody.is_some();
        let Custody { keys, pgp_fingerprints, .. } = custody.unwrap_or_default();
        Self {
            initialized,
            keys,
            pgp_fingerprints,
            recovery_keys: [],
            root_token: "",
            pgp_private_key: None,
        }
    }
}

/// `PUT /secrets/v1/init/default`
pub(super) async fn init(service: &Service, split: CheckedSplit) -> Result<Reply, Failure> {
    let unreadable = |error: &dyn Error| {
        Failure::unavailable("cannot tell whether the store is initialised", error)
    };
    if service.store.is_initialized().await.map_err(|error| unreadable(&error))? {
        return Err(initialized());
    }
    let CheckedSplit { config, mut keys } = split;
    let mut pgp_private_key = None;
    if keys.is_empty() {
        let (public_key, shown) = Pair::get(service).await?.halves()?;
        keys.push(public_key);
        pgp_private_key = shown;
    }
    let (root_key, custody) = auto_unseal::split_for(config, &keys).map_err(unsplit)?;
    let claimed = service.place.claim(service.settings().as_deref(), Filling::New).await;
    claimed.map_err(|error| error.failure())?;
    // What a store that was here before has left must not seal this one.
    service
        .change_seal_state(|state| (state.intent, state.progress) = (Intent::Unsealed, 0))
        .await?;
    match service.store.initialize(&root_key, &custody, now()).await {
        Ok(_) => service.own_place(&root_key).await,
        Err(InitializeError::AlreadyInitialized) => return Err(initialized()),
        Err(error) => return Err(Failure::unavailable("cannot initialise the store", &error)),
    }
    // It may be one that opens by itself.
    service.seal.bell.notify_one();
    Ok(Reply::ok(&InitAnswer { pgp_private_key, ..InitAnswer::new(Some(custody)) }))
}

/// Why a key could not be split, for who gave the keys.
pub(super) fn unsplit(error: AutoUnsealError) -> Failure {
    match error {
        AutoUnsealError::Entrust(error) => Failure::new(
            ErrorCode::BadRequest,
            format!("Error encrypting with a given PGP key: {}", crate::chain::Chain(&error)),
        ),
        error => Failure::unavailable("cannot make a root key", &error),
    }
}

fn initialized() -> Failure {
    Failure::new(
        ErrorCode::AlreadyExists,
        "the store is initialised: a keyring already exists. To change shares and keys, rekey",
    )
}
