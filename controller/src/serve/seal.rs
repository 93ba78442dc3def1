//! How this replica takes the root key and drops it, and what is recorded about it for all.
//!
//! The key changes hands only while the *gate* is held, and whoever takes the key reads the record
//! after the gate, never before. A seal is recorded first and asks each replica to drop the key,
//! which waits at the gate too. So there is no moment at which a seal has been answered and a key
//! is still on its way.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{MutexGuard, Notify};
use tracing::{info, warn};
use watchword_audit::{SigningKey, SigningKeyError};
use watchword_protocol::ErrorCode;
use watchword_store::{AccessError, BackendError, Intent, RootKey, SealState, UnsealError};

use super::Service;
use super::audit::{Decision, Entry, Event, Subject};
use super::ceremony::Key;
use super::ceremony::lead::Leading;
use super::failure::Failure;
use super::peer::Peers;
use super::place::PlaceError;
use crate::chain::Chain;

/// What this replica has to do with the seal of the store.
pub(super) struct Seal {
    gate: tokio::sync::Mutex<()>,
    /// What it keeps while it leads.
    pub leading: Leading,
    /// The other replicas.
    pub peers: Peers,
    /// Rung when there is a reason to look around before it is time.
    pub bell: Notify,
    /// Why the settings do not initialise or open the store, though they should.
    complaint: Mutex<Option<String>>,
}

/// The right to take the key or to drop it.
pub(super) struct Gate<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, ()>);

impl Seal {
    /// Of a replica that has just started: no key, and it does not lead.
    pub(super) fn new(peers: Peers) -> Self {
        Self {
            gate: tokio::sync::Mutex::default(),
            leading: Leading::default(),
            peers,
            bell: Notify::new(),
            complaint: Mutex::default(),
        }
    }

    /// Remembers why the settings do not do what they say, or that they do; `true` if that is news.
    pub(super) fn complain(&self, complaint: Option<String>) -> bool {
        let mut said = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *said != complaint;
        *said = complaint;
        is_news
    }

    /// Why the settings do not do what they say.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this replica runs the ceremonies.
    pub(super) fn leads(&self) -> bool {
        self.leading.is_begun()
    }

    /// Waits until nobody else in this replica takes or drops the key.
    pub(super) async fn gate(&self) -> Gate<'_> {
        Gate(self.gate.lock().await)
    }
}

impl Service {
    /// What is recorded; a store of which nothing is recorded should be open.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the back end does not tell.
    pub(super) async fn seal_state(&self) -> Result<SealState, Failure> {
        let recorded = self.store.seal_state().await.map_err(|error| unreadable(&error))?;
        Ok(recorded.map(|(state, _)| state).unwrap_or_default())
    }

    /// Changes what is recorded, however often somebody else is faster.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the back end does not take it: then nobody knows whether it has changed.
    pub(super) async fn change_seal_state(
        &self,
        change: impl Fn(&mut SealState) + Send + Sync,
    ) -> Result<(), Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let recorded = self.store.seal_state().await.map_err(|error| unreadable(&error))?;
            let (before, revision) = match recorded {
                None => (SealState::default(), None),
                Some((state, revision)) => (state, Some(revision)),
            };
            let mut after = before.clone();
            change(&mut after);
            // What is not recorded at all is written down even if it is what it would be anyway.
            if after == before && revision.is_some() {
                return Ok(());
            }
            after.changed = Timestamp::now().as_second();
            match self.store.set_seal_state(&after, revision.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(AccessError::Backend(BackendError::Conflict { .. })) => {}
                Err(error) => {
                    return Err(Failure::unavailable(
                        "cannot record the state of the seal",
                        &error,
                    ));
                }
            }
        }
        Err(Failure::new(
            ErrorCode::Unavailable,
            "cannot record the state of the seal: others keep changing it; try again",
        ))
    }

    /// The key, as far as this replica holds it.
    ///
    /// # Errors
    ///
    /// The keyring cannot be read, so that nobody knows.
    pub(super) async fn key(&self) -> Result<Key, AccessError> {
        if self.store.is_sealed() {
            return Ok(Key::Absent);
        }
        match self.store.refresh().await {
            Ok(()) => Ok(Key::Current),
            Err(AccessError::Rekeyed) => Ok(Key::Outdated),
            Err(error) => Err(error),
        }
    }

    /// Refuses without the present key.
    ///
    /// # Errors
    ///
    /// `Sealed`; `Unavailable` when nobody knows.
    pub(super) async fn demand_key(&self) -> Result<(), Failure> {
        match self.key().await {
            Ok(Key::Current) => Ok(()),
            Ok(Key::Absent) => Err(Failure::new(ErrorCode::Sealed, "the store is sealed")),
            Ok(Key::Outdated) => Err(Failure::new(
                ErrorCode::Unavailable,
                "the store was rekeyed and this replica has yet to get the new key; try again",
            )),
            Err(error) => Err(Failure::unavailable("cannot read the keyring", &error)),
        }
    }

    /// Takes the root key: from now on the store is open here.
    ///
    /// # Errors
    ///
    /// [`TakeKeyError`]; then everything is as before.
    pub(super) async fn take_key(&self, _: &Gate<'_>, key: RootKey) -> Result<(), TakeKeyError> {
        self.store
            .unseal_if(key, async |seed| {
                let audit_key = SigningKey::from_seed(&seed)?.public();
                Ok::<_, TakeKeyError>(self.place.vouch_for(audit_key).await?)
            })
            .await?;
        if let Some(seed) = self.store.audit_seed() {
            self.audit.unsealed(seed);
        }
        info!("unsealed the store");
        Ok(())
    }

    /// Writes down which store it is that was initialised here just now, with this root key. If that
    /// fails, it is written down when the store is opened, unless another one was here before.
    pub(super) async fn own_place(&self, root_key: &RootKey) {
        let written = async {
            let seed = self.store.audit_seed_of(root_key).await?;
            let audit_key = SigningKey::from_seed(&seed)?.public();
            Ok::<_, TakeKeyError>(self.place.belongs_to(audit_key).await?)
        };
        if let Err(error) = written.await {
            warn!(error = %Chain(&error), "cannot write down which store lies here");
        }
    }

    /// Drops the root key and everything that was opened with it, if there is any. The audit log
    /// is signed once more before, with a line about who wanted it.
    pub(super) async fn drop_key(&self, subject: Subject<'_>) {
        let gate = self.seal.gate().await;
        self.drop_key_at(&gate, subject);
    }

    /// The same for who holds the gate already.
    pub(super) fn drop_key_at(&self, _: &Gate<'_>, subject: Subject<'_>) {
        if self.store.is_sealed() {
            return;
        }
        // A log that cannot be written to must not keep the store open.
        let _ = self.record(&about(Event::Seal, subject));
        self.audit.sealing();
        self.store.seal();
        info!("sealed the store");
    }

    /// Whether the store should be open.
    ///
    /// # Errors
    ///
    /// As [`Service::seal_state`].
    pub(super) async fn should_be_open(&self) -> Result<bool, Failure> {
        Ok(self.seal_state().await?.intent == Intent::Unsealed)
    }
}

/// Why the root key was not taken. No variant holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeKeyError {
    #[error("the key of the audit log cannot be used")]
    AuditKey(#[from] SigningKeyError),
    #[error(transparent)]
    Place(Box<PlaceError>),
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

impl From<PlaceError> for TakeKeyError {
    fn from(error: PlaceError) -> Self {
        Self::Place(Box::new(error))
    }
}

/// An audit line about something that was done and is about no secret.
pub(super) fn about(event: Event, subject: Subject<'_>) -> Entry<'_> {
    Entry {
        event,
        decision: Decision::Allowed,
        subject,
        path: None,
        version: None,
        cause: None,
        unwritten: 0,
    }
}

fn unreadable(error: &AccessError) -> Failure {
    Failure::unavailable("cannot read the state of the seal", error)
}

/// One replica leads, so that one conflict is rare and a second one all but impossible.
const MAX_ATTEMPTS: usize = 8;
