//! Rotation: a new term at once, and in the background, on the replica that leads, every record
//! that was written under an older one rewrapped, and the older terms destroyed if that was asked.
//!
//! What is to be done is recorded, so that a leader that is lost in the middle leaves its successor
//! to go on. Rewrapping a record twice does no harm.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use watchword_protocol::ErrorCode;
use watchword_store::{ObjectName, RotateError, Rotation, Term};

use super::operation::Reply;
use crate::backoff::ceiling;
use crate::chain::Chain;
use crate::serve::Service;
use crate::serve::audit::{Cause, Decision, Entry, Event, Subject};
use crate::serve::failure::Failure;
use crate::serve::seal::about;

/// How a rotation goes, as far as this replica does it.
#[derive(Default)]
pub(in crate::serve) struct Rotating {
    asked: Notify,
    progress: Mutex<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    rewrap: Rewrap,
    error: Option<String>,
}

/// How far the rewrapping is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rewrap {
    running: bool,
    done: u64,
    total: u64,
}

/// What is answered about a rotation.
#[derive(Debug, Serialize)]
struct RotateStatus {
    /// The term that new records are written under.
    term: u32,
    /// All terms that still open records.
    terms: Vec<Term>,
    rewrap: Rewrap,
    /// Why the last attempt to rewrap or to destroy older terms failed; it is made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Rotating {
    fn set(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn get(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `PUT /secrets/v1/rotate/default`
pub(super) async fn rotate(service: &Service, retire: bool) -> Result<Reply, Failure> {
    service.demand_key().await?;
    // Recorded first: a term that is made and then forgotten would leave its records unwrapped.
    service
        .change_seal_state(|state| {
            let before = state.rotation.take().is_some_and(|before| before.retire);
            state.rotation = Some(Rotation { retire: retire || before });
        })
        .await?;
    service.store.rotate(super::lead::now()).await.map_err(|error| match error {
        RotateError::Sealed => Failure::new(ErrorCode::Sealed, "the store is sealed"),
        error => Failure::unavailable("cannot rotate the keyring; try again", &error),
    })?;
    super::lead::others_follow(service).await.ok();
    let rotating = &service.seal.leading.rotation;
    rotating.set(|progress| {
        progress.rewrap = Rewrap { running: true, ..Rewrap::default() };
        progress.error = None;
    });
    rotating.asked.notify_one();
    status(service).await
}

/// `GET /secrets/v1/rotate/default`
pub(super) async fn status(service: &Service) -> Result<Reply, Failure> {
    service.demand_key().await?;
    let (term, terms) = (newest_term(service), service.store.terms().unwrap_or_default());
    let Progress { mut rewrap, error } = service.seal.leading.rotation.get();
    // A new leader may not have begun yet.
    rewrap.running |= service.seal_state().await?.rotation.is_some();
    Ok(Reply::ok(&RotateStatus { term, terms, rewrap, error }))
}

/// Goes on with what is recorded, as long as this replica leads.
pub(super) async fn keep(service: &Service) {
    let rotating = &service.seal.leading.rotation;
    // What was seen by whoever led before is over, if it was this replica too.
    rotating.set(|progress| *progress = Progress::default());
    let mut stopped_by_a_record = 0;
    loop {
        // Interrupted where it waits: what is done is done, and the rest is done by who leads next.
        let interval = match go_on(service).await {
            Ok(()) => {
                stopped_by_a_record = 0;
                INTERVAL
            }
            Err(Undone { text, record }) => {
                warn!(error = text, "a rotation is not done yet");
                rotating.set(|progress| progress.error = Some(text));
                stopped_by_a_record = if record { stopped_by_a_record + 1 } else { 0 };
                sleep(PAUSE).await;
                pause(stopped_by_a_record)
            }
        };
        // A time-out is an occasion to look at the record: the store may have been unsealed.
        if timeout(interval, rotating.asked.notified()).await.is_ok() {
            stopped_by_a_record = 0;
        }
    }
}

/// How long to wait, unless somebody asks, when so many attempts in a row were stopped by a record.
/// Each goes through the whole store, and a record that is damaged stays so until somebody mends it.
fn pause(stopped_by_a_record: u32) -> Duration {
    ceiling(INTERVAL, LONGEST_INTERVAL, stopped_by_a_record)
}

/// Why a rotation is not done yet.
struct Undone {
    text: String,
    /// All that is in the way is a record.
    record: bool,
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self { text: failure.message, record: false }
    }
}

async fn go_on(service: &Service) -> Result<(), Undone> {
    if service.store.is_sealed() {
        return Ok(());
    }
    let recorded = service.seal_state().await?.rotation;
    let Some(Rotation { retire }) = recorded else { return Ok(()) };
    let rotating = &service.seal.leading.rotation;
    let newest = newest_term(service);
    let rewrapped = service.store.rewrap(|so_far| {
        rotating.set(|progress| {
            progress.rewrap = Rewrap { running: true, done: so_far.done, total: so_far.total };
        });
    });
    let rewrapped =
        rewrapped.await.map_err(|error| failed(service, Event::Rewrap, &error, error.record()))?;
    service.record(&about(Event::Rewrap, Subject::Store {}))?;
    info!(paths = rewrapped.done, records = rewrapped.moved, "rewrapped the records");
    if retire {
        let retired = service.store.retire().await;
        let retired =
            retired.map_err(|error| failed(service, Event::Retire, &error, error.record()))?;
        service.record(&about(Event::Retire, Subject::Store {}))?;
        // Whoever hears that it is done finds no replica that still has them. One that does not
        // answer is asked again until its pod is gone.
        while let Err(error) = super::lead::others_follow(service).await {
            let text = format!("older terms are yet to be dropped: {}", Chain(&error));
            warn!(error = text, "a rotation is not done yet");
            rotating.set(|progress| progress.error = Some(text));
            sleep(PAUSE).await;
        }
        info!(?retired, "destroyed the older terms");
    }
    // Another one holds this from its record to its term; its records are yet to be rewrapped.
    let _alone = service.seal.leading.ceremony.lock().await;
    if newest_term(service) != newest {
        return Ok(());
    }
    service.change_seal_state(|state| state.rotation = None).await?;
    rotating.set(|progress| {
        progress.rewrap = Rewrap { running: false, done: rewrapped.done, total: rewrapped.total };
        progress.error = None;
    });
    Ok(())
}

/// The term that new records are written under; 0 while sealed.
fn newest_term(service: &Service) -> u32 {
    let terms = service.store.terms().unwrap_or_default();
    terms.last().map_or(0, |term| term.term)
}

fn failed(
    service: &Service,
    event: Event,
    error: &dyn Error,
    record: Option<&ObjectName>,
) -> Undone {
    let text = Chain(error).to_string();
    let record = record.map(ObjectName::as_str);
    let cause = Cause { code: ErrorCode::Unavailable.as_str(), message: &text, record };
    let entry =
        Entry { decision: Decision::Failed, cause: Some(cause), ..about(event, Subject::Store {}) };
    // The log may be what is failing.
    let _ = service.record(&entry);
    Undone { record: record.is_some(), text }
}

/// How often the record is looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// The longest time between two attempts that a record stops.
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);

/// Before the next attempt after one that failed, whoever asks.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_a_record_stops_come_at_longer_and_longer_intervals_up_to_an_hour() {
        let intervals: Vec<u64> = (0..12).map(|count| pause(count).as_secs()).collect();

        assert_eq!(intervals, [10, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
    }
}
