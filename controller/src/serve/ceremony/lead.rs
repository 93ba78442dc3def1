//! The ceremonies, on the replica that holds the lease: what they do, in which order, and what the
//! audit log and the record say of them.
//!
//! Shares that people have given live here and nowhere else. They are wiped when the lease is lost:
//! who leads then begins at 0 and says so. Everything that outlives a leader is one step: the
//! keyring is created or replaced, or the record is. One ceremony runs at a time.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use tracing::{debug, info, warn};
use watchword_protocol::ErrorCode;
use watchword_store::{Collector, RootKey};

use super::operation::{CheckedSplit, Operation, Reply};
use super::rekey::Rekey;
use super::rotation;
use crate::chain::Chain;
use crate::serve::audit::{Decision, Event, decision};
use crate::serve::authenticate::Person;
use crate::serve::failure::Failure;
use crate::serve::peer::PeerError;
use crate::serve::secrets_api::explain;
use crate::serve::{Service, authorize, report, sweep};

mod init;
mod pair;
mod rekeying;
mod sealing;
mod unsealing;

pub(in crate::serve) use self::init::InitAnswer;
pub(in crate::serve) use self::unsealing::{SealStatus, custody};

/// What a replica keeps while it leads.
#[derive(Default)]
pub(in crate::serve) struct Leading {
    term: Mutex<Option<Term>>,
    /// Held by the ceremony that runs.
    pub(super) ceremony: tokio::sync::Mutex<()>,
    /// How a rotation goes.
    pub(super) rotation: rotation::Rotating,
}

/// One time of leading.
#[derive(Default)]
struct Term {
    /// Shares given towards unsealing, and how many are needed.
    unseal: Option<(Collector, u8)>,
    rekey: Option<Rekey>,
    /// A pair for whoever names no keys.
    pair: Option<pair::Making>,
}

impl Leading {
    /// Whether this replica leads.
    pub(in crate::serve) fn is_begun(&self) -> bool {
        self.lock().is_some()
    }

    /// Looks at or changes what is kept, as long as this replica leads.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not (any more).
    fn with<T>(&self, use_it: impl FnOnce(&mut Term) -> T) -> Result<T, Failure> {
        self.lock().as_mut().map(use_it).ok_or_else(|| {
            Failure::new(
                ErrorCode::Unavailable,
                "another replica has taken over the ceremonies; try again",
            )
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Term>> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leads until it is dropped, which wipes the shares.
struct Led<'a>(&'a Leading);

impl Drop for Led<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// What is done for as long as this replica leads; it has no end of its own.
pub(in crate::serve) async fn lead(service: Arc<Service>) {
    let leading = &service.seal.leading;
    *leading.lock() = Some(Term::default());
    let _led = Led(leading);
    forget_progress(&service).await;
    pair::prepare(&service).await;
    tokio::join!(report::keep(&service), rotation::keep(&service), sweep::keep(&service));
}

/// The shares behind a recorded progress were in the memory of whoever led before.
async fn forget_progress(service: &Service) {
    let forgotten = async {
        let progress = service.seal_state().await?.progress;
        if progress > 0 {
            service.change_seal_state(|state| state.progress = 0).await?;
            info!(progress, "the shares given to the former leader are gone: begin again");
        }
        Ok::<_, Failure>(())
    };
    if let Err(failure) = forgotten.await {
        warn!(error = failure.message, "cannot reset the progress of unsealing");
    }
}

/// Does what `person` asks for, if they may; only where this replica leads.
///
/// # Errors
///
/// `Denied`, or whatever the ceremony says. Either way there is an audit line.
pub(in crate::serve) async fn perform(
    service: &Arc<Service>,
    person: &Person,
    operation: Operation,
) -> Result<Reply, Failure> {
    let (event, verb) = (operation.event(), operation.verb());
    let only_looks = matches!(operation, Operation::RekeyStatus | Operation::RotateStatus);
    let is_seal = matches!(operation, Operation::Seal);
    let record = |decision, failure: Option<&Failure>| {
        let event = if only_looks { Event::Status } else { event };
        let written = service.record_person(person, event, decision, (None, None), failure);
        // A log that cannot be written to must not keep the store open: who fills it up could.
        if is_seal { Ok(()) } else { written }
    };
    let mut outcome = async {
        authorize::administer(service, person, verb).await?;
        // Keys may take long to check. A seal must not wait for that.
        let operation = operation.checked(now()).await?;
        let _alone = service.seal.leading.ceremony.lock().await;
        if !only_looks {
            // Nothing happens that the log could not take.
            record(Decision::Attempted, None)?;
        }
        carry_out(service, person, operation).await
    }
    .await;
    if let Err(failure) = &mut outcome {
        explain(service, failure).await;
    }
    match &outcome {
        Ok(_) => record(Decision::Allowed, None)?,
        Err(failure) => record(decision(failure), Some(failure))?,
    }
    outcome
}

async fn carry_out(
    service: &Arc<Service>,
    person: &Person,
    operation: Operation<CheckedSplit>,
) -> Result<Reply, Failure> {
    match operation {
        Operation::AutoUnseal(None) => unsealing::by_kept_key(service, person).await,
        Operation::AutoUnseal(Some(message)) => {
            unsealing::give_encrypted(service, person, &message).await
        }
        Operation::CancelRekey { nonce } => rekeying::cancel(service, &nonce),
        Operation::GiveRekeyShare { key, nonce } => rekeying::give(service, &key, &nonce).await,
        Operation::GiveShare(text) => unsealing::give(service, person, &text).await,
        Operation::Init(split) => init::init(service, split).await,
        Operation::RekeyStatus => rekeying::status(service),
        Operation::ResetShares => unsealing::reset(service).await,
        Operation::Rotate { retire } => rotation::rotate(service, retire).await,
        Operation::RotateStatus => rotation::status(service).await,
        Operation::Seal => sealing::seal(service, person).await,
        Operation::StartRekey(split) => rekeying::start(service, split).await,
    }
}

/// Has the other replicas take the key and the keyring that this one holds now: who is answered that
/// the store is open, rekeyed or rotated finds it so wherever they ask next.
///
/// # Errors
///
/// One of them has not: it follows later. Who only answers somebody goes on without it.
pub(super) async fn others_follow(service: &Service) -> Result<(), PeerError> {
    let peers = &service.seal.peers;
    let replicas = peers.replicas().await?;
    let mut outcome = Ok(());
    for looked in join_all(replicas.others.iter().map(|peer| peers.look(peer))).await {
        match looked {
            // What is about to start comes by the keyring of now.
            Ok(_) | Err(PeerError::Starting(_)) => {}
            Err(error) => {
                debug!(error = %Chain(&error), "a replica follows later");
                outcome = Err(error);
            }
        }
    }
    outcome
}

/// The text for a share that cannot be read, as Vault has it.
fn unreadable(error: &watchword_store::ParseShareError) -> Failure {
    let text = format!("'key' must be a valid hex or base64 string: {}", Chain(error));
    Failure::new(ErrorCode::BadRequest, text)
}

/// The text for shares that do not give the key.
fn invalid_key() -> Failure {
    Failure::new(
        ErrorCode::BadRequest,
        "invalid key: the shares do not make the store's root key; the progress is 0 again",
    )
}

pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A key that shares gave, if they fit together at all.
fn combined(given: Result<RootKey, watchword_store::CombineError>) -> Result<RootKey, Failure> {
    given.map_err(|_| invalid_key())
}
