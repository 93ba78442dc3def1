//! Unsealing: shares come together until they make the root key, which then opens the store here;
//! the other replicas take it from this one.

use serde::Serialize;
use watchword_protocol::ErrorCode;
use watchword_store::{Collector, Custody, Given, Intent, RootKey, Share, UnsealError};

use super::{combined, invalid_key, now, others_follow, unreadable};
use crate::serve::Service;
use crate::serve::audit::Subject;
use crate::serve::authenticate::Person;
use crate::serve::auto_unseal::{self, AutoUnsealError, kept};
use crate::serve::ceremony::operation::Reply;
use crate::serve::failure::Failure;
use crate::serve::seal::TakeKeyError;

/// `SealStatus` of DC/OS.
#[derive(Debug, Serialize)]
pub(in crate::serve) struct SealStatus {
    /// Whether this replica refuses everything that needs the key.
    pub sealed: bool,
    /// How many shares open the store; 0 if it is not initialised.
    pub threshold: u8,
    /// How many there are; 0 if it is not initialised.
    pub shares: u8,
    /// How many have been given.
    pub progress: u8,
}

impl SealStatus {
    /// As of now.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the back end does not tell.
    pub(in crate::serve) async fn of(service: &Service) -> Result<Self, Failure> {
        let custody = custody(service).await?;
        let (shares, threshold) =
            custody.map_or((0, 0), |custody| (custody.shares, custody.threshold));
        let sealed = service.store.is_sealed();
        let progress = if sealed { service.seal_state().await?.progress } else { 0 };
        Ok(Self { sealed, threshold, shares, progress })
    }
}

/// `PUT /secrets/v1/unseal/default` with a share.
pub(super) async fn give(service: &Service, person: &Person, text: &str) -> Result<Reply, Failure> {
    let share = Share::parse(text).map_err(|error| unreadable(&error))?;
    give_share(service, person, share).await
}

/// `PUT /secrets/v1/auto-unseal/default` with an encrypted share: one of those in custody.
///
/// Nothing else is decrypted with the kept key. Who may unseal could otherwise send message after
/// message, and learn from what is said of each how to decrypt a share without the key.
pub(super) async fn give_encrypted(
    service: &Service,
    person: &Person,
    message: &str,
) -> Result<Reply, Failure> {
    if !service.store.is_sealed() {
        return Ok(Reply::ok(&SealStatus::of(service).await?));
    }
    let message = message.trim();
    let in_custody = custody(service).await?.unwrap_or_default().keys;
    if !in_custody.iter().any(|one| one.eq_ignore_ascii_case(message)) {
        return Err(Failure::new(
            ErrorCode::BadRequest,
            "this is none of the encrypted shares of the store: `init` shows which there are",
        ));
    }
    let settings = service.settings();
    let reference = settings.as_deref().and_then(auto_unseal::reference).ok_or_else(unset)?;
    let private_key = kept::existing(&service.client, reference).await;
    let private_key =
        private_key.map_err(|error| Failure::unavailable("cannot use the kept key", &error))?;
    let share = auto_unseal::share(&private_key, message).map_err(|error| {
        Failure::new(ErrorCode::BadRequest, crate::chain::Chain(&error).to_string())
    })?;
    give_share(service, person, share).await
}

async fn give_share(service: &Service, person: &Person, share: Share) -> Result<Reply, Failure> {
    if service.store.is_sealed() {
        let custody = custody(service).await?.ok_or_else(|| {
            Failure::new(ErrorCode::BadRequest, "the store is not initialised: initialise it first")
        })?;
        match collect(service, share, custody.threshold)? {
            Given::Progress(progress) => record_progress(service, progress).await?,
            Given::Complete(root_key) => {
                let opened = match combined(root_key) {
                    Ok(root_key) => open(service, person, root_key).await,
                    Err(failure) => Err(failure),
                };
                if opened.is_err() {
                    record_progress(service, 0).await?;
                }
                opened?;
            }
        }
    }
    Ok(Reply::ok(&SealStatus::of(service).await?))
}

fn collect(service: &Service, share: Share, threshold: u8) -> Result<Given, Failure> {
    service.seal.leading.with(|term| {
        let fits = term.unseal.as_ref().is_some_and(|(_, needed)| *needed == threshold);
        if !fits {
            term.unseal = None;
        }
        let unseal = &mut term.unseal;
        let (collector, _) = unseal.get_or_insert_with(|| (Collector::new(threshold), threshold));
        collector.give(share)
    })
}

/// `PUT /secrets/v1/unseal/default` with `reset`.
pub(super) async fn reset(service: &Service) -> Result<Reply, Failure> {
    service.seal.leading.with(|term| term.unseal = None)?;
    record_progress(service, 0).await?;
    Ok(Reply::ok(&SealStatus::of(service).await?))
}

/// `PUT /secrets/v1/auto-unseal/default` without a body.
pub(super) async fn by_kept_key(service: &Service, person: &Person) -> Result<Reply, Failure> {
    if service.store.is_sealed() {
        let root_key = auto_unseal::kept_root_key(service).await.map_err(|error| match error {
            AutoUnsealError::Unset => unset(),
            error => Failure::unavailable("cannot open the store with the kept key", &error),
        })?;
        open(service, person, root_key).await?;
    }
    Ok(Reply::no_content())
}

/// Opens the store here, records that it should be open, and has the others take the key.
async fn open(service: &Service, person: &Person, root_key: RootKey) -> Result<(), Failure> {
    let gate = service.seal.gate().await;
    match service.take_key(&gate, root_key).await {
        Ok(()) => {}
        Err(TakeKeyError::Unseal(UnsealError::WrongKey)) => return Err(invalid_key()),
        Err(TakeKeyError::Place(error)) => return Err(error.failure()),
        Err(error) => return Err(Failure::unavailable("cannot unseal the store", &error)),
    }
    let recorded = service
        .change_seal_state(|state| {
            state.intent = Intent::Unsealed;
            state.progress = 0;
            state.author.clone_from(&person.user);
        })
        .await;
    if recorded.is_err() {
        // As it is recorded, so it shall be.
        service.drop_key_at(&gate, Subject::Store {});
        return recorded;
    }
    drop(gate);
    others_follow(service).await.ok();
    Ok(())
}

async fn record_progress(service: &Service, progress: u8) -> Result<(), Failure> {
    service
        .change_seal_state(|state| {
            state.progress = progress;
            state.changed = now();
        })
        .await
}

/// Who holds the shares.
///
/// # Errors
///
/// `Unavailable` when the back end does not tell.
pub(in crate::serve) async fn custody(service: &Service) -> Result<Option<Custody>, Failure> {
    let custody = service.store.custody().await;
    custody.map_err(|error| Failure::unavailable("cannot read who holds the shares", &error))
}

fn unset() -> Failure {
    Failure::new(
        ErrorCode::BadRequest,
        "the settings of the store name no kept key (`autoUnseal.secret`): give shares to `unseal`",
    )
}
