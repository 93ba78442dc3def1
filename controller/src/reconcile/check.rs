//! Asking the store whether a revision's references can be read (`POST /v1/check`).
//!
//! The answer tells people early what a pod would hear late. It never holds a value, and nothing
//! depends on it but words, Events and the end of a back-off.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use reqwest::{Certificate, Client, redirect, tls};
use tokio::fs;
use tracing::debug;
use watchword_core::reconciliation::Check;
use watchword_protocol::{CHECK_PATH, CheckAnswer, CheckRequest, ErrorAnswer, ErrorCode, VERSION};

use super::context::{Key, lock};
use crate::args::TrustArgs;
use crate::chain::Chain;

/// The store as the controller knows it, and what it said last.
pub(super) struct Checks {
    answers: Mutex<HashMap<Key, Asked>>,
    ca: PathBuf,
    /// The client for the authorities that it was made with.
    client: Mutex<Option<(Vec<u8>, Client)>>,
    /// Until when nobody asks, and what they are told instead.
    silence: Mutex<Option<(Timestamp, String)>>,
    token: PathBuf,
    url: String,
}

/// The last answer about a definition.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at: Timestamp,
    pub(super) check: Check,
    /// Since when every reference can be read, as far as was asked.
    pub(super) resolved_since: Option<Timestamp>,
    revision: String,
}

/// What is to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) key: &'a Key,
    /// When an agent last asked or gave up: an older answer may not explain what it met.
    pub(super) latest: Option<Timestamp>,
    pub(super) now: Timestamp,
    /// The revision; absent when the definition is not accepted.
    pub(super) revision: Option<&'a str>,
    /// Whether the revision has references at all.
    pub(super) wants: bool,
}

impl Checks {
    /// The store that the arguments name. Nothing is asked yet.
    pub(super) fn new(trust: &TrustArgs, token_file: PathBuf) -> Self {
        let TrustArgs { store_url, ca_dir } = trust;
        Self {
            answers: Mutex::default(),
            ca: ca_dir.join("ca.crt"),
            client: Mutex::default(),
            silence: Mutex::default(),
            token: token_file,
            url: format!("{}{CHECK_PATH}", store_url.trim_end_matches('/')),
        }
    }

    /// What is known of a revision's references; asks the store where that is too old.
    pub(super) async fn ask(&self, question: Question<'_>) -> Asked {
        let Question { key, latest, now, revision, wants } = question;
        let Some(revision) = revision else {
            self.forget(key);
            return Asked::untried(Check::NotAsked, now);
        };
        if !wants {
            return Asked::untried(Check::Answered(Vec::new()), now);
        }
        let last = lock(&self.answers).get(key).filter(|last| last.revision == revision).cloned();
        if let Some(last) = &last
            && now.duration_since(last.at) < last.lifetime(latest)
        {
            return last.clone();
        }
        let check = self.post(key, revision, now).await;
        let asked = Asked::after(last.as_ref(), check, revision, now);
        lock(&self.answers).insert(key.clone(), asked.clone());
        asked
    }

    /// Forgets a definition that is gone.
    pub(super) fn forget(&self, key: &Key) {
        lock(&self.answers).remove(key);
    }

    async fn post(&self, key: &Key, revision: &str, now: Timestamp) -> Check {
        if let Some(why) = self.silence() {
            return unknown(ErrorCode::Unavailable, &why, now);
        }
        match self.request(key, revision).await {
            Err(error) => {
                debug!(error = %Chain(&error), "the store does not answer");
                if error.is_silence() {
                    let until = Timestamp::now() + SILENCE;
                    *self.lock_silence() = Some((until, error.to_string()));
                }
                unknown(ErrorCode::Unavailable, &error.to_string(), now)
            }
            Ok(Err(answer)) => unknown(answer.code, &answer.message, now),
            Ok(Ok(answer)) => read(answer, now),
        }
    }

    /// Why the store is not to be asked now: it did not answer somebody else a moment ago, and all
    /// definitions would wait for it in turn, their workloads with them.
    fn silence(&self) -> Option<String> {
        let silence = self.lock_silence();
        let (_, why) = silence.as_ref().filter(|(until, _)| Timestamp::now() < *until)?;
        Some(why.clone())
    }

    fn lock_silence(&self) -> MutexGuard<'_, Option<(Timestamp, String)>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(
        &self,
        key: &Key,
        revision: &str,
    ) -> Result<Result<CheckAnswer, ErrorAnswer>, AskError> {
        let token = fs::read_to_string(&self.token).await.map_err(AskError::ReadToken)?;
        let request = CheckRequest {
            version: VERSION,
            namespace: key.namespace.clone(),
            revision: revision.to_owned(),
        };
        let response = self
            .client()
            .await?
            .post(&self.url)
            .bearer_auth(token.trim())
            .json(&request)
            .send()
            .await
            .map_err(AskError::Reach)?;
        if response.status().is_success() {
            response.json().await.map(Ok).map_err(AskError::Read)
        } else {
            response.json().await.map(Err).map_err(AskError::Read)
        }
    }

    /// A client that trusts the authorities of this moment, and no others.
    async fn client(&self) -> Result<Client, AskError> {
        let ca = fs::read(&self.ca).await.map_err(AskError::ReadCa)?;
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = slot.as_ref()
            && *of == ca
        {
            return Ok(client.clone());
        }
        let authorities = Certificate::from_pem_bundle(&ca).map_err(AskError::MakeClient)?;
        let client = Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .tls_certs_only(authorities)
            .tls_version_min(tls::Version::TLS_1_3)
            .build()
            .map_err(AskError::MakeClient)?;
        *slot = Some((ca, client.clone()));
        Ok(client)
    }
}

impl Asked {
    /// When to ask again, counted from now: some time around the end of the answer's life, so that
    /// not all definitions ask at once.
    pub(super) fn again_in(
        &self,
        latest: Option<Timestamp>,
        now: Timestamp,
        random: f64,
    ) -> Duration {
        let lifetime = Duration::try_from(self.lifetime(latest)).unwrap_or_default();
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        lifetime.mul_f64(1.0 + random * 0.4).saturating_sub(age)
    }

    fn untried(check: Check, now: Timestamp) -> Self {
        Self { at: now, check, resolved_since: None, revision: String::new() }
    }

    fn after(last: Option<&Self>, check: Check, revision: &str, now: Timestamp) -> Self {
        let resolved_since =
            check.is_resolved().then(|| last.and_then(|last| last.resolved_since).unwrap_or(now));
        let check = match (check, last) {
            (Check::Unknown { message, reason, .. }, Some(last)) => {
                // It has been away since it was last there, as far as anybody knows. Every start of
                // a pod makes us ask, so that none was served in between.
                let since = match last.check {
                    Check::Unknown { since, .. } => since,
                    Check::Answered(_) | Check::NotAsked => last.at,
                };
                Check::Unknown { message, reason, since }
            }
            (check, _) => check,
        };
        Self { at: now, check, resolved_since, revision: revision.to_owned() }
    }

    /// How long the answer holds.
    fn lifetime(&self, latest: Option<Timestamp>) -> SignedDuration {
        if latest.is_some_and(|latest| latest >= self.at) {
            OVERTAKEN_LIFETIME
        } else if self.check.is_resolved() || self.check == Check::NotAsked {
            RESOLVED_LIFETIME
        } else {
            UNRESOLVED_LIFETIME
        }
    }
}

/// Why the store could not be asked. The texts end in conditions: no value, no token, no address.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("cannot make a client for the secret store")]
    MakeClient(#[source] reqwest::Error),
    #[error("cannot reach the secret store")]
    Reach(#[source] reqwest::Error),
    #[error("cannot understand the secret store's answer")]
    Read(#[source] reqwest::Error),
    #[error("cannot read the authorities by which the secret store is known")]
    ReadCa(#[source] std::io::Error),
    #[error("cannot read the token for the secret store")]
    ReadToken(#[source] std::io::Error),
}

impl AskError {
    /// Whether nothing came back, or not in time: it has to do with the store, not with the question.
    fn is_silence(&self) -> bool {
        match self {
            Self::Reach(_) => true,
            Self::Read(error) => error.is_timeout(),
            Self::MakeClient(_) | Self::ReadCa(_) | Self::ReadToken(_) => false,
        }
    }
}

/// An answer, or `Unknown` if it says only that the store cannot tell.
fn read(answer: CheckAnswer, now: Timestamp) -> Check {
    let errors = answer.references.iter().filter_map(|one| one.error.as_ref());
    match errors.clone().find(|error| !error.code.is_final()) {
        Some(error) if errors.clone().all(|error| !error.code.is_final()) => {
            unknown(error.code, &error.message, now)
        }
        _ => Check::Answered(answer.references),
    }
}

fn unknown(code: ErrorCode, message: &str, since: Timestamp) -> Check {
    match code {
        ErrorCode::Sealed => Check::Unknown {
            message: "waiting for the secret store: sealed".to_owned(),
            reason: "Sealed",
            since,
        },
        ErrorCode::Internal
        | ErrorCode::Timeout
        | ErrorCode::TooManyRequests
        | ErrorCode::Unavailable => Check::Unknown {
            message: format!("waiting for the secret store: {message}"),
            reason: "StoreUnavailable",
            since,
        },
        // What is wrong is between the two of us, not with the references.
        ErrorCode::AlreadyExists
        | ErrorCode::BadRequest
        | ErrorCode::Conflict
        | ErrorCode::Denied
        | ErrorCode::Invalid
        | ErrorCode::MethodNotAllowed
        | ErrorCode::NotFound
        | ErrorCode::PreconditionFailed
        | ErrorCode::TooLarge
        | ErrorCode::Unauthenticated => Check::Unknown {
            message: format!("the secret store refuses to check the references: {message}"),
            reason: "CheckRefused",
            since,
        },
    }
}

/// A reconcile waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long nobody asks a store that did not answer.
const SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long an answer holds by which every reference can be read.
const RESOLVED_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// How long any other answer holds: about as long as an author would wait after mending it.
const UNRESOLVED_LIFETIME: SignedDuration = SignedDuration::from_secs(25);

/// How long an answer holds when a pod has started or failed since: pods come in bursts.
const OVERTAKEN_LIFETIME: SignedDuration = SignedDuration::from_secs(3);

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests;
