//! Readiness: named conditions, all of which must hold, and the endpoints that say so.
//!
//! - `/healthz`: the process answers. It says nothing about roles: restarting helps nobody whose
//!   API server is away.
//! - `/readyz`: 200, or 503 with one line `name: reason` for every condition that does not hold.
//! - `/metrics`: OpenMetrics.
//!
//! They are plain HTTP, hold nothing secret and are reachable by anyone in the cluster.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use tracing::{info, warn};

use crate::{
    listen::{self, Limits, Plain},
    metrics::Metrics,
    shutdown::Shutdown,
};

/// The conditions of one process; clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<String, Unmet>>>,
    shutdown: Shutdown,
}

/// Why a condition does not hold; `None` if it does.
type Unmet = Option<String>;

impl Readiness {
    /// Nothing to wait for yet, so: ready, until `shutdown` is requested.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { conditions: Arc::default(), shutdown: shutdown.clone() }
    }

    /// Adds a condition, which does not hold yet. One with the same name is replaced.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition { name: name.into(), readiness: self.clone() };
        condition.set(Some("not known yet".to_owned()));
        condition
    }

    /// What does not hold: name and reason, by name. Empty means ready.
    pub fn unmet(&self) -> Vec<(String, String)> {
        let mut unmet: Vec<_> = self
            .lock()
            .iter()
            .filter_map(|(name, unmet)| Some((name.clone(), unmet.clone()?)))
            .collect();
        if self.shutdown.is_requested() {
            unmet.push(("shutdown".to_owned(), "the process is ending".to_owned()));
        }
        unmet
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Unmet>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of a [`Readiness`]; clones are the same condition.
#[derive(Clone, Debug)]
pub struct Condition {
    name: String,
    readiness: Readiness,
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.set(None);
    }

    /// The condition does not hold; `reason` is for people, a sentence fragment without secrets.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, unmet: Unmet) {
        let before = self.readiness.lock().insert(self.name.clone(), unmet.clone());
        if before.as_ref() == Some(&unmet) {
            return;
        }
        match unmet {
            None => info!(condition = self.name, "holds"),
            Some(reason) => warn!(condition = self.name, reason, "does not hold"),
        }
    }
}

/// The endpoints as routes.
pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(encode).with_state(metrics))
}

/// Serves the endpoints until `shutdown`, without a drain: nobody balances over them.
///
/// # Errors
///
/// `address` cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: Shutdown,
) -> io::Result<()> {
    let listener = listen::bind(address).await?;
    let limits = Limits { drain_delay: Duration::ZERO, ..Limits::default() };
    listen::serve(listener, Plain, router(readiness, metrics), limits, shutdown).await;
    Ok(())
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut lines = String::new();
    for (name, reason) in unmet {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name}: {reason}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn encode(State(metrics): State<Metrics>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.encode() {
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unmet_conditions_are_listed_with_their_reasons() {
        let (_trigger, shutdown) = Shutdown::channel();
        let readiness = Readiness::new(&shutdown);
        let certificate = readiness.condition("certificate");
        let caches = readiness.condition("caches");

        certificate.met();
        caches.unmet("the task definitions are still being listed");

        let (status, body) = ready(State(readiness.clone())).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "caches: the task definitions are still being listed\n");
        caches.met();
        assert_eq!(ready(State(readiness)).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_ending_process_is_not_ready() {
        let (trigger, shutdown) = Shutdown::channel();
        let readiness = Readiness::new(&shutdown);

        trigger.request();

        assert_eq!(readiness.unmet()[0].0, "shutdown");
    }
}
