//! Role `store`: the only part of Watchword that ever holds a value.
//!
//! It answers agents (`/v1/resolve`), the controller's question whether references could be read
//! (`/v1/check`), and people (`/secrets/v1`, the API of DC/OS' Secret Store). Sealed, it answers
//! too: 503 and `sealed`, so that whoever waits hears why. Its replicas hand the root key to each
//! other on a port of their own.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::routing::post;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::reflector::Store as Cache;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::{Semaphore, watch};
use watchword_crds::{SecretResolver, SecretStore, Space, names};
use watchword_protocol::{CHECK_PATH, ErrorCode, RESOLVE_PATH};
use watchword_store::{AnyBackend, Config, SecretPath, Store};

use crate::args::StoreArgs;
use crate::follow::follow;
use crate::guard;
use crate::leadership::{Lease, Timing};
use crate::listen::{Limits, Shares, Turns};
use crate::shared::Shared;
use crate::shutdown::Shutdown;
use crate::tls::{self, ServeTls};

use self::audit::{Audit, Decision, Entry, Event, Subject};
use self::authenticate::{People, Person};
use self::authorize::Grants;
use self::budget::Budget;
use self::ceremony::lead;
use self::detached::detached;
use self::peer::Peers;
use self::place::{Moved, Place};
use self::seal::Seal;
use self::throttle::{Source, Throttle};

mod audit;
mod authenticate;
mod authorize;
mod auto_unseal;
mod budget;
mod ceremony;
mod check;
mod client_ca;
mod detached;
mod evidence;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lineage;
mod peer;
mod permit;
mod place;
mod recent;
mod report;
mod resolve;
mod seal;
mod secrets_api;
mod sweep;
mod throttle;
mod unseal;

pub use self::audit::{OpenAuditError, OpenLogError};
pub use self::failure::Failure;

/// What requests are answered from.
pub struct Service {
    /// The audit log.
    audit: Audit,
    budget: Budget,
    /// The API server, under the store's own service account.
    client: Client,
    /// Whether the policy that guards revisions stands as it was shipped.
    guard: watch::Receiver<bool>,
    /// The name by which the controller is known to the API server.
    controller: String,
    /// Where its records lie.
    place: Place,
    /// The sealed store.
    pub(crate) store: Store<AnyBackend>,
    resolvers: Cache<SecretResolver>,
    /// The root key, the other replicas, and what this one does while it leads.
    seal: Seal,
    spaces: Cache<Space>,
    stores: Cache<SecretStore>,
    /// The place of the one backup or restore that runs at a time.
    archives: Arc<Semaphore>,
    /// The turns of listings, beside those of requests.
    listings: Turns,
    grants: Grants,
    people: People,
    throttle: Throttle,
}

impl Service {
    /// Writes an audit line.
    ///
    /// # Errors
    ///
    /// The line cannot be written: then what it is about must not happen, or not be answered.
    fn record(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        self.write(entry).map(drop)
    }

    /// As [`Service::record`]; returns whether every sink has the line.
    fn write(&self, entry: &Entry<'_>) -> Result<bool, Failure> {
        self.audit
            .write(Timestamp::now(), entry, |path| self.keyed_hash(path))
            .map_err(|error| Failure::unavailable("the audit log cannot be written", &error))
    }

    /// The keyed hash of a secret's path, which is its head's name, or of a folder's; `None` while
    /// sealed, and of what is no path.
    fn keyed_hash(&self, path: &str) -> Option<String> {
        // A leading slash makes no difference to a path.
        let path = path.strip_prefix('/').unwrap_or(path);
        let folder = path.strip_suffix('/').unwrap_or(path);
        let is_path = folder.is_empty() || folder.parse::<SecretPath>().is_ok();
        is_path.then(|| self.store.keyed_hash(path)).flatten()
    }

    /// Refuses while revisions are not guarded: one that was written then could be anybody's.
    ///
    /// # Errors
    ///
    /// `Unavailable`, until the policy is back.
    fn guarded(&self) -> Result<(), Failure> {
        match *self.guard.borrow() {
            true => Ok(()),
            false => Err(Failure::new(
                ErrorCode::Unavailable,
                "the policy that guards task revisions is not in place",
            )),
        }
    }

    /// Writes an audit line about someone who could not say who they are. Of the container that
    /// they speak of no more is kept than a container's name can have. When there are too many such
    /// lines, they are counted instead; who is told to wait has been counted already.
    ///
    /// # Errors
    ///
    /// As for [`Service::record`].
    fn record_stranger(
        &self,
        event: Event,
        container: Option<&str>,
        failure: &Failure,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        if failure.code == ErrorCode::TooManyRequests
            || self.throttle.check(Source::Strangers, now).is_err()
        {
            return Ok(());
        }
        self.throttle.spend(Source::Strangers, now);
        let decision = audit::decision(failure);
        let kept = container.map(|name| name.chars().take(MAX_NAME_CHARACTERS).collect::<String>());
        let subject = Subject::Nobody { container: kept.as_deref() };
        self.record_failure(
            Entry {
                event,
                decision,
                subject,
                path: None,
                version: None,
                cause: None,
                unwritten: 0,
            },
            failure,
        )
    }

    /// Writes an audit line about what a person did, or did not do because of `failure`. Who is told
    /// to wait has none: such requests are counted instead.
    ///
    /// # Errors
    ///
    /// As for [`Service::record`].
    fn record_person(
        &self,
        person: &Person,
        event: Event,
        decision: Decision,
        (path, version): (Option<&str>, Option<u64>),
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        let subject = Subject::User { name: &person.user, uid: person.uid.as_deref() };
        let entry = Entry { event, decision, subject, path, version, cause: None, unwritten: 0 };
        match failure {
            None => self.record(&entry),
            Some(failure) if failure.code == ErrorCode::TooManyRequests => Ok(()),
            Some(failure) => self.record_failure(entry, failure),
        }
    }

    /// Writes the line of a failure, which also says how many others have none.
    fn record_failure(&self, entry: Entry<'_>, failure: &Failure) -> Result<(), Failure> {
        let cause = Some(audit::cause(failure));
        self.throttle.tell_unwritten(|unwritten| self.write(&Entry { cause, unwritten, ..entry }))
    }
}

/// The metric that says whether this replica is sealed, as of when it is asked.
#[derive(Debug)]
struct Sealed(Weak<Service>);

impl Collector for Sealed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(service) = self.0.upgrade() else { return Ok(()) };
        let sealed = ConstGauge::new(i64::from(service.store.is_sealed()));
        let help = "Whether this replica holds no key: 1 or 0";
        sealed.encode(encoder.encode_descriptor("sealed", help, None, MetricType::Gauge)?)
    }
}

/// Why the role could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The audit log cannot be begun.
    #[error(transparent)]
    Audit(#[from] OpenAuditError),
    /// The address cannot be listened on.
    #[error("cannot serve")]
    Listen(#[source] std::io::Error),
    /// The records lie elsewhere now: the process has to begin again.
    #[error(transparent)]
    Moved(#[from] Moved),
}

/// Runs the role until the shutdown.
///
/// # Errors
///
/// The address cannot be listened on, the audit log cannot be begun, or the records have moved.
pub async fn run(args: StoreArgs, shared: Shared) -> Result<(), ServeError> {
    let StoreArgs { address, tls_dir, zookeeper_digest_file, audit, peers } = args;
    let settled = Place::settle(&shared, zookeeper_digest_file.as_deref()).await;
    let Some((place, backend)) = settled else { return Ok(()) };
    let service = Arc::new(Service {
        audit: Audit::open(&audit, &shared)?,
        budget: Budget::new(),
        guard: guard::watch(&shared),
        client: shared.client.clone(),
        controller: format!("system:serviceaccount:{}:{}", shared.namespace, names::CONTROLLER),
        place,
        store: Store::new(backend, Config::default()),
        resolvers: follow(&shared),
        seal: Seal::new(Peers::new(
            shared.client.clone(),
            &shared.namespace,
            &shared.identity,
            &peers,
        )),
        spaces: follow(&shared),
        stores: follow(&shared),
        archives: Arc::new(Semaphore::new(1)),
        listings: Turns::new(LISTINGS, Shares::new(LISTINGS / 4)),
        grants: Grants::new(),
        people: People::new(),
        throttle: Throttle::new(),
    });
    shared.metrics.register(|registry| {
        registry.register_collector(Box::new(Sealed(Arc::downgrade(&service))));
    });
    let (client_ca, authorities) = watch::channel(String::new());
    tokio::spawn(client_ca::follow(shared.client.clone(), client_ca, shared.shutdown.clone()));
    // One task after the other: of two that wait for one cache, kube wakes only the last.
    let known = report_caches(service.clone(), shared.clone());
    tokio::spawn(unseal::follow(service.clone(), shared.clone(), known));
    tokio::spawn(audit::keep_signed(service.clone(), shared.clone()));
    let public = tls::serve(ServeTls {
        address,
        client_ca: Some(authorities),
        limits: Limits::default(),
        readiness: shared.readiness.clone(),
        router: router(service.clone()),
        shutdown: shared.shutdown.clone(),
        tls_dir: tls_dir.clone(),
    });
    // Peers are served until one of them holds the key.
    let (release, released) = Shutdown::channel();
    let among_peers = tls::serve(ServeTls {
        address: peers.peer_address,
        client_ca: None,
        limits: Limits::default(),
        readiness: shared.readiness.clone(),
        router: peer::channel::router(service.clone()),
        shutdown: released,
        tls_dir,
    });
    let key = async {
        unseal::leave_key_behind(&service, &shared.shutdown).await;
        release.request();
        Ok(())
    };
    let ceremonies = async {
        let Ok(()) =
            lease(&shared).lead(&shared.shutdown, || hold_ceremonies(service.clone())).await;
        Ok(())
    };
    let serving = async {
        tokio::try_join!(public, among_peers, key, ceremonies).map_err(ServeError::Listen)
    };
    let place = async { Ok(place::keep(&service, &shared.shutdown).await?) };
    let served = tokio::try_join!(serving, place);
    service.audit.close();
    served.map(drop)
}

/// Who holds it runs the ceremonies.
fn lease(shared: &Shared) -> Lease {
    Lease {
        client: shared.client.clone(),
        identity: shared.identity.clone(),
        metrics: shared.metrics.clone(),
        name: names::STORE,
        namespace: shared.namespace.clone(),
        timing: Timing::default(),
    }
}

/// Runs the ceremonies as long as this replica holds the lease.
async fn hold_ceremonies(service: Arc<Service>) -> Result<(), Infallible> {
    lead::lead(service).await;
    Ok(())
}

fn router(service: Arc<Service>) -> Router {
    // A request for secrets is a few hundred bytes; only writing one takes more.
    let small = Router::new()
        .route(RESOLVE_PATH, post(resolve::resolve))
        .route(CHECK_PATH, post(check::check))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES));
    small
        .merge(secrets_api::router())
        .fallback(failure::not_found)
        .method_not_allowed_fallback(failure::method_not_allowed)
        .layer(map_response(failure::in_our_form))
        .with_state(service)
}

/// Ready once spaces, resolvers and settings have been listed: decisions hang on them.
async fn report_caches(service: Arc<Service>, shared: Shared) {
    let condition = shared.readiness.condition("caches");
    let ready = futures::future::try_join3(
        service.spaces.wait_until_ready(),
        service.resolvers.wait_until_ready(),
        service.stores.wait_until_ready(),
    );
    tokio::select! {
        result = ready => if result.is_ok() { condition.met() },
        () = shared.shutdown.requested() => {}
    }
}

/// The largest body of a request that is no write.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// The longest name that a container can have.
const MAX_NAME_CHARACTERS: usize = 63;

/// How many bytes of heads are kept from a watch: those of a hundred thousand secrets.
const WATCHED_BYTES: usize = 64 << 20;

/// How often settings that cannot be watched are looked up again.
const POLL: Duration = Duration::from_secs(30);

/// How many listings run at a time, and a host has a quarter of them: each goes through the whole
/// store, has time as long as it goes on, and may be asked for by any namespace's editor. Those that
/// wait for a place have no more time than any other request.
const LISTINGS: usize = 8;

/// How long the next object may take where all of the store are gone through for one request.
/// Before the first the back end lists all names.
const STEP_LIMIT: Duration = Duration::from_mins(1);
