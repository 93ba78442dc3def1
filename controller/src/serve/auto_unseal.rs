//! Initialising and opening the store without people, as far as the SecretStore's settings say so.
//!
//! - `pgpKeys`: a new store is initialised for these keys. Whoever has the private ones opens it.
//! - `autoUnseal.secret`: a new store is initialised for a pair of our own making, whose private
//!   half is kept in that Secret ([`kept`]), and is opened with it. The seal is then as strong as
//!   that Secret's namespace: the status of the SecretStore says so.
//!
//! Two replicas may begin at once. The pair is one because the Secret is created and never replaced;
//! the keyring is one for the same reason; and the pair is kept before the keyring is made, so that
//! a crash between the two loses nothing.

use jiff::Timestamp;
use tracing::info;
use watchword_crds::{SecretRef, SecretStore};
use watchword_store::openpgp::{DecryptError, KeyError, PrivateKey, PublicKey};
use watchword_store::{
    AccessError, CombineError, Custody, EntrustError, InitializeError, Initialized, RandomError,
    RootKey, SealConfig, Share, entrust,
};

use super::Service;
use super::audit::{Event, Subject};
use super::ceremony::operation::{CheckedSplit, Split};
use super::failure::Failure;
use super::place::{Filling, PlaceError};
use super::seal::{Gate, TakeKeyError, about};

pub(super) mod kept;

/// Why the store could not be initialised or opened without people. No variant holds anything of a
/// key.
#[derive(Debug, thiserror::Error)]
pub(super) enum AutoUnsealError {
    #[error("cannot read who holds the shares")]
    Access(#[from] AccessError),
    #[error("cannot put the shares together")]
    Combine(#[from] CombineError),
    #[error("cannot open a share with the kept key")]
    Decrypt(#[from] DecryptError),
    #[error("cannot encrypt the shares")]
    Entrust(#[from] EntrustError),
    #[error("{}", .0.message)]
    Failure(Failure),
    #[error("cannot initialise the store")]
    Initialize(#[from] InitializeError),
    #[error("the kept key is not fit to be encrypted to")]
    Key(#[from] KeyError),
    #[error("cannot use the kept key")]
    Kept(#[from] kept::KeptError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot make a root key")]
    Random(#[from] RandomError),
    #[error(
        "the shares of the root key are encrypted to other keys than the one in Secret \
         {namespace}/{name}: unseal by hand, then rekey without giving keys"
    )]
    Strangers { namespace: String, name: String },
    #[error("cannot unseal the store")]
    Unseal(#[from] TakeKeyError),
    #[error("the settings name no Secret that keeps a key (`autoUnseal.secret`)")]
    Unset,
    #[error("what a share in custody decrypts to is no share of a root key")]
    Unshare,
}

impl From<Failure> for AutoUnsealError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Whether these settings let the store be initialised.
pub(super) fn initializes_itself(settings: &SecretStore) -> bool {
    opens_itself(settings) || settings.spec.pgp_keys.as_ref().is_some_and(|keys| !keys.is_empty())
}

/// Whether these settings let the store be opened.
pub(super) fn opens_itself(settings: &SecretStore) -> bool {
    reference(settings).is_some()
}

/// The Secret that keeps the private key.
pub(super) fn reference(settings: &SecretStore) -> Option<&SecretRef> {
    settings.spec.auto_unseal.as_ref()?.secret.as_ref()
}

/// Initialises a new store as its settings say, and opens it if the key is kept.
///
/// # Errors
///
/// [`AutoUnsealError`]. That another replica was faster is none.
pub(super) async fn initialize(service: &Service, gate: &Gate<'_>) -> Result<(), AutoUnsealError> {
    let settings = service.settings().ok_or(AutoUnsealError::Unset)?;
    let spec = &settings.spec;
    let split =
        Split { shares: spec.shares, threshold: spec.threshold, pgp_keys: spec.pgp_keys.clone() };
    let created = Timestamp::now().as_second();
    let CheckedSplit { config, mut keys } = split.check_aside(created).await?;
    if keys.is_empty() {
        let reference = reference(&settings).ok_or(AutoUnsealError::Unset)?;
        keys.push(kept::pair(&service.client, reference).await?.public(created)?);
    }
    let (root_key, custody) = split_for(config, &keys)?;
    service.place.claim(Some(&settings), Filling::New).await?;
    match service.store.initialize(&root_key, &custody, created).await {
        Ok(Initialized::Now | Initialized::Before) => service.own_place(&root_key).await,
        Err(InitializeError::AlreadyInitialized) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    info!("initialised the store");
    service.record(&about(Event::Init, Subject::Store {}))?;
    match opens_itself(&settings) {
        true => take(service, gate, root_key).await,
        false => Ok(()),
    }
}

/// A new root key, and its shares for these keys.
///
/// # Errors
///
/// There is no randomness, or a key cannot be encrypted to.
pub(super) fn split_for(
    config: SealConfig,
    keys: &[PublicKey],
) -> Result<(RootKey, Custody), AutoUnsealError> {
    let root_key = RootKey::generate()?;
    let custody = entrust(&root_key, config, keys)?;
    Ok((root_key, custody))
}

/// Opens the store with the kept key.
///
/// # Errors
///
/// [`AutoUnsealError`].
pub(super) async fn open(service: &Service, gate: &Gate<'_>) -> Result<(), AutoUnsealError> {
    let root_key = kept_root_key(service).await?;
    take(service, gate, root_key).await
}

async fn take(
    service: &Service,
    gate: &Gate<'_>,
    root_key: RootKey,
) -> Result<(), AutoUnsealError> {
    service.take_key(gate, root_key).await?;
    let written = service.record(&about(Event::Unseal, Subject::Store {}));
    if written.is_err() {
        // What the log does not know of is undone.
        service.drop_key_at(gate, Subject::Store {});
    }
    Ok(written?)
}

/// The root key, from the shares in custody that the kept key opens.
///
/// # Errors
///
/// [`AutoUnsealError::Strangers`] when those are too few.
pub(super) async fn kept_root_key(service: &Service) -> Result<RootKey, AutoUnsealError> {
    let settings = service.settings().ok_or(AutoUnsealError::Unset)?;
    let reference = reference(&settings).ok_or(AutoUnsealError::Unset)?;
    let custody = service.store.custody().await?.unwrap_or_default();
    let private_key = kept::existing(&service.client, reference).await?;
    let fingerprint = private_key.public(Timestamp::now().as_second())?.fingerprint();
    let ours = custody.keys.iter().zip(&custody.pgp_fingerprints);
    let ours = ours.filter(|(_, of)| **of == fingerprint).take(custody.threshold.into());
    let shares =
        ours.map(|(message, _)| share(&private_key, message)).collect::<Result<Vec<_>, _>>()?;
    if shares.is_empty() || shares.len() < usize::from(custody.threshold) {
        let SecretRef { namespace, name } = reference.clone();
        return Err(AutoUnsealError::Strangers { namespace, name });
    }
    Ok(RootKey::combine(&shares)?)
}

/// Opens one encrypted share, hex as `init` gives it.
///
/// # Errors
///
/// It is not encrypted to this key, or is no share.
pub(super) fn share(private_key: &PrivateKey, message: &str) -> Result<Share, AutoUnsealError> {
    let message = hex(message.trim()).ok_or(AutoUnsealError::Unshare)?;
    let text = private_key.decrypt(&message, None)?;
    let text = std::str::from_utf8(&text).map_err(|_| AutoUnsealError::Unshare)?;
    Share::parse(text).map_err(|_| AutoUnsealError::Unshare)
}

/// Bytes from hexadecimal digits. These are ciphertext: how long it takes tells nothing.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let nibble =
        |digit: &u8| char::from(*digit).to_digit(16).and_then(|one| u8::try_from(one).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hex_is_read_in_either_case_and_nothing_else_is(bytes: Vec<u8>, other in "[0-9a-z]{0,9}") {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let is_hex = other.len() % 2 == 0 && other.chars().all(|one| one.is_ascii_hexdigit());

            prop_assert_eq!(hex(&text.to_uppercase()), Some(bytes));
            prop_assert_eq!(hex(&other).is_some(), is_hex);
        }
    }
}
