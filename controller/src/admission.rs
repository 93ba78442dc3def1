//! Role `webhook`: answers admission reviews.
//!
//! Pods that carry our label are injected, task definitions are judged in Mesos' words. Everything
//! is decided from caches that watches fill and from files that the kubelet mounts: while it
//! answers a review this role calls nobody.
//!
//! Whoever reaches its port can post a review, since API servers are asked for no certificate. So an
//! answer tells a stranger who guesses labels what it tells the API server: names of definitions,
//! containers, revisions and Spaces, bound prefixes, paths of secret files, of any namespace
//! (SECURITY.md). It never holds a value: this role has none, but inline ones, which it does not
//! repeat.

use std::sync::Arc;
use std::time::Duration;
use std::{io, path::PathBuf};

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Deserialize;
use tracing::{debug, warn};
use watchword_core::injection::{AgentSource, Delivery, Settings};

use crate::args::{AgentArgs, AgentDelivery, PullPolicy, TrustArgs, WebhookArgs};
use crate::chain::Chain;
use crate::listen::Limits;
use crate::metrics::begin_at_zero;
use crate::readiness::Condition;
use crate::shared::Shared;
use crate::shutdown::Shutdown;
use crate::tls::{self, ServeTls};

use self::caches::Caches;
use self::review::{Answer, Request, ReviewError};
use self::turns::Turns;

pub mod caches;
pub mod definitions;
pub mod pods;
pub mod review;
mod turns;

/// Runs the role until the shutdown.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn run(args: WebhookArgs, shared: Shared) -> io::Result<()> {
    let WebhookArgs { address, tls_dir, agent, trust } = args;
    let caches = Caches::watch(&shared);
    let reviews = Family::default();
    for resource in [PODS, DEFINITIONS] {
        let refusals = Answer::REFUSALS.into_iter().chain([UNREADABLE]);
        begin_at_zero(&reviews, refusals.map(|answer| ReviewLabels { resource, answer }));
    }
    shared.metrics.register(|registry| {
        registry.register("reviews", "Answered reviews, by resource and answer", reviews.clone());
    });
    let reviewer = Arc::new(Reviewer { caches, reviews, settings: ArcSwapOption::empty() });
    let bundle = shared.readiness.condition("ca bundle");
    let follow = follow_settings(reviewer.clone(), agent, trust, bundle, shared.shutdown.clone());
    let serve = tls::serve(ServeTls {
        address,
        tls_dir,
        client_ca: None,
        limits: Limits { body: BODY_LIMIT, ..Limits::default() },
        router: router(reviewer),
        shutdown: shared.shutdown,
        readiness: shared.readiness,
    });
    let follow = async {
        follow.await;
        Ok(())
    };
    tokio::try_join!(serve, follow).map(drop)
}

/// What reviews are answered from.
pub struct Reviewer {
    /// Task definitions, revisions and spaces, as the watches know them.
    pub caches: Caches,
    /// How reviews were answered.
    pub reviews: Family<ReviewLabels, Counter>,
    /// What pods are given; `None` until the CA bundle has been read.
    pub settings: ArcSwapOption<Settings>,
}

/// What reviews are counted by.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ReviewLabels {
    /// Of what: `pods` or `taskdefinitions`.
    resource: &'static str,
    /// [`Answer::as_str`], or `unreadable` for what is no review.
    answer: &'static str,
}

/// The routes of the webhook.
pub fn router(reviewer: Arc<Reviewer>) -> Router {
    Router::new()
        .route("/mutate/pods", post(mutate_pods))
        .route("/validate/taskdefinitions", post(validate_definitions))
        .layer(middleware::from_fn_with_state(Turns::new(), turns::take))
        .layer(DefaultBodyLimit::max(MAX_REVIEW_BYTES))
        .with_state(reviewer)
}

async fn mutate_pods(State(reviewer): State<Arc<Reviewer>>, body: Bytes) -> Response {
    respond(&reviewer, PODS, &body, |request| pods::answer(&reviewer, request))
}

async fn validate_definitions(State(reviewer): State<Arc<Reviewer>>, body: Bytes) -> Response {
    let answer = |request| definitions::answer(&reviewer.caches, request);
    respond(&reviewer, DEFINITIONS, &body, answer)
}

fn respond<'a, T: Deserialize<'a>>(
    reviewer: &Reviewer,
    resource: &'static str,
    body: &'a [u8],
    answer: impl FnOnce(Request<'a, T>) -> Answer,
) -> Response {
    let count = |answer| {
        reviewer.reviews.get_or_create(&ReviewLabels { resource, answer }).inc();
    };
    let counted = |request| {
        let answer = answer(request);
        count(answer.as_str());
        answer
    };
    match review::respond(body, counted) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error @ (ReviewError::Parse(_) | ReviewError::Version { .. })) => {
            count(UNREADABLE);
            debug!(error = %Chain(&error), "refused a review");
            (StatusCode::BAD_REQUEST, Chain(&error).to_string()).into_response()
        }
    }
}

/// Reads the CA bundle now and again, until the shutdown: the kubelet replaces the file when the
/// certificate authority changes, and pods that are injected afterwards get the new one.
async fn follow_settings(
    reviewer: Arc<Reviewer>,
    agent: AgentArgs,
    trust: TrustArgs,
    condition: Condition,
    shutdown: Shutdown,
) {
    let TrustArgs { store_url, ca_dir } = trust;
    let AgentArgs { agent_image, agent_delivery, agent_pull_policy } = agent;
    let agent = AgentSource {
        delivery: match agent_delivery {
            AgentDelivery::ImageVolume => Delivery::ImageVolume,
            AgentDelivery::InitContainer => Delivery::InitContainer,
        },
        image: agent_image,
        pull_policy: agent_pull_policy.map(PullPolicy::as_str).map(str::to_owned),
    };
    let path: PathBuf = ca_dir.join("ca.crt");
    let mut ticks = tokio::time::interval(SETTINGS_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = ticks.tick() => {}
        }
        match tokio::fs::read_to_string(&path).await {
            Ok(ca_bundle) => {
                let settings =
                    Settings { agent: agent.clone(), ca_bundle, store_url: store_url.clone() };
                reviewer.settings.store(Some(Arc::new(settings)));
                condition.met();
            }
            // What was read before stays good; without any the role is not Ready.
            Err(error) if reviewer.settings.load().is_some() => {
                warn!(path = %path.display(), error = %Chain(&error), "cannot read the CA bundle again");
            }
            Err(error) => condition.unmet(format!("cannot read {}: {error}", path.display())),
        }
    }
}

/// The API server accepts objects of up to 3 MiB.
const MAX_REVIEW_BYTES: usize = 3 << 20;

/// How long a body may take: an API server has the whole review before it sends it, and waits for
/// the answer for three seconds.
const BODY_LIMIT: Duration = Duration::from_secs(2);

/// What reviews are about.
const DEFINITIONS: &str = "taskdefinitions";
const PODS: &str = "pods";

/// The answer to what is no review.
const UNREADABLE: &str = "unreadable";

/// How often the CA bundle is read: far more often than certificates change, and cheap.
const SETTINGS_INTERVAL: Duration = Duration::from_secs(5);
