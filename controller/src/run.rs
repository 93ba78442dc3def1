//! Composes a role: client, health endpoints, the role itself, and their orderly end.
//!
//! The health endpoints come first and go last, so that the kubelet always hears why a role is not
//! ready. A role that fails takes the process with it: restarting is the kubelet's work, and a
//! process with half of its roles would look alive.

use std::{error::Error, future::Future, io, time::Duration};

use futures::future::{BoxFuture, FutureExt, try_join_all};
use kube::{Client, client::ClientBuilder};
use tokio::{runtime, time};
use tower::timeout::TimeoutLayer;
use tracing::info;

use crate::{
    admission,
    args::{AllArgs, Args, CommonArgs, ControllerArgs, RoleArgs, StoreArgs, WebhookArgs},
    certificates,
    metrics::Metrics,
    readiness::{self, Readiness},
    reconcile, serve,
    shared::Shared,
    shutdown::{self, Shutdown, Trigger},
};

/// Runs what the command line asks for, until a signal or a failure ends it.
///
/// # Errors
///
/// A role or the health endpoints failed, or did not end in time.
pub fn run(args: Args) -> Result<(), RunError> {
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(RunError::StartRuntime)?
        .block_on(run_roles(args))
}

/// Why the process ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is neither a kubeconfig nor a service account.
    #[error("cannot find the cluster")]
    FindCluster(#[source] kube::config::InferConfigError),
    /// The health endpoints failed.
    #[error("cannot serve /healthz, /readyz and /metrics")]
    Health(#[source] io::Error),
    /// The signal handlers could not be installed.
    #[error("cannot listen for signals")]
    ListenForSignals(#[source] io::Error),
    /// No client could be made for the cluster.
    #[error("cannot make a client for the cluster")]
    MakeClient(#[source] kube::Error),
    /// A role failed.
    #[error("role {role} failed")]
    Role {
        /// Which.
        role: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The asynchronous runtime could not be started.
    #[error("cannot start the runtime")]
    StartRuntime(#[source] io::Error),
    /// A role went on although it was asked to end.
    #[error("not everything ended within {} s", .0.as_secs())]
    StopInTime(Duration),
}

async fn run_roles(args: Args) -> Result<(), RunError> {
    let Args { common: CommonArgs { namespace, health_address, log_level: _ }, role } = args;
    let (trigger, shutdown) = Shutdown::channel();
    // The health endpoints outlive the roles: they have a signal of their own.
    let (health_trigger, health_shutdown) = Shutdown::channel();
    let metrics = Metrics::new();
    let readiness = Readiness::new(&shutdown);
    let shared = Shared {
        client: client(&namespace).await?,
        identity: identity(),
        metrics: metrics.clone(),
        namespace,
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
    };

    let health = readiness::serve(health_address, readiness, metrics, health_shutdown)
        .map(|ended| ended.map_err(RunError::Health));
    let roles = async {
        let result = try_join_all(start(role, &shared)).await;
        health_trigger.request();
        result.map(drop)
    };
    let work = async { tokio::try_join!(health, roles).map(drop) };
    tokio::select! {
        result = work => result,
        result = end_in_time(&trigger) => result,
    }
}

/// Each role that was asked for, as a task that ends after the shutdown was requested.
fn start(role: RoleArgs, shared: &Shared) -> Vec<BoxFuture<'static, Result<(), RunError>>> {
    let shared = || shared.clone();
    match role {
        RoleArgs::All(args) => {
            let AllArgs {
                certificates,
                webhook_address,
                webhook_tls_dir,
                store_address,
                store_tls_dir,
                zookeeper_digest_file,
                audit,
                peers,
                agent,
                trust,
                token_file,
                rolls,
            } = args;
            let controller = ControllerArgs { trust: trust.clone(), token_file, rolls };
            let store = StoreArgs {
                address: store_address,
                tls_dir: store_tls_dir,
                zookeeper_digest_file,
                audit,
                peers,
            };
            let webhook =
                WebhookArgs { address: webhook_address, tls_dir: webhook_tls_dir, agent, trust };
            vec![
                named("certificates", certificates::run(certificates, shared())),
                named("controller", reconcile::run(controller, shared())),
                named("store", serve::run(store, shared())),
                named("webhook", admission::run(webhook, shared())),
            ]
        }
        RoleArgs::Certificates(args) => {
            vec![named("certificates", certificates::run(args, shared()))]
        }
        RoleArgs::Controller(args) => vec![named("controller", reconcile::run(args, shared()))],
        RoleArgs::Store(args) => vec![named("store", serve::run(args, shared()))],
        RoleArgs::Webhook(args) => vec![named("webhook", admission::run(args, shared()))],
    }
}

/// A role whose error says which role it was.
fn named<E: Error + Send + Sync + 'static>(
    role: &'static str,
    run: impl Future<Output = Result<(), E>> + Send + 'static,
) -> BoxFuture<'static, Result<(), RunError>> {
    async move {
        info!(role, version = env!("CARGO_PKG_VERSION"), "started");
        run.await.map_err(|error| RunError::Role { role, source: Box::new(error) })?;
        info!(role, "ended");
        Ok(())
    }
    .boxed()
}

/// Passes the first signal on; then gives everything its time, and returns only if that ran out.
async fn end_in_time(trigger: &Trigger) -> Result<(), RunError> {
    let signal = Trigger::wait_for_signal().await.map_err(RunError::ListenForSignals)?;
    info!(signal, "ending");
    trigger.request();
    time::sleep(shutdown::DEADLINE).await;
    Err(RunError::StopInTime(shutdown::DEADLINE))
}

/// A client for the cluster that we are in, or that KUBECONFIG names.
async fn client(namespace: &str) -> Result<Client, RunError> {
    let mut config = kube::Config::infer().await.map_err(RunError::FindCluster)?;
    namespace.clone_into(&mut config.default_namespace);
    client_of(config, ANSWER).map_err(RunError::MakeClient)
}

/// A client that asks once, for at most `answer`. Who asks knows whether asking again helps and how
/// long they can wait, and the store has to tell a lost answer from a lost race.
fn client_of(mut config: kube::Config, answer: Duration) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(answer)).build())
}

/// The pod's name, which is also its host name.
fn identity() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { format!("watchword-{}", std::process::id()) } else { name }
}

/// How long the API server may take to the beginning of an answer: also a watch begins at once.
const ANSWER: Duration = Duration::from_secs(30);

/// How long it may be silent in the middle of one: longer than a watch lasts, which it ends after
/// 290 s.
const SILENCE: Duration = Duration::from_secs(295);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Router, http::StatusCode, routing::get};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use tokio::net::TcpListener;

    use super::*;

    /// A client of an API server that answers with `router`.
    async fn client_of_server(router: Router, answer: Duration) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let plain = crate::listen::Plain;
        let limits = crate::listen::Limits::default();
        tokio::spawn(async move {
            let (_trigger, shutdown) = Shutdown::channel();
            crate::listen::serve(listener, plain, router, limits, shutdown).await;
        });
        client_of(kube::Config::new(url.parse().unwrap()), answer).unwrap()
    }

    #[tokio::test]
    async fn what_is_refused_for_now_is_not_asked_again() {
        let asked = Arc::new(AtomicUsize::new(0));
        let busy = {
            let asked = asked.clone();
            async move || {
                asked.fetch_add(1, Ordering::Relaxed);
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let router = Router::new().fallback(get(busy));
        let client = client_of_server(router, Duration::from_secs(60)).await;

        Api::<Namespace>::all(client).get("shop").await.unwrap_err();

        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_not_answered_is_given_up() {
        let router = Router::new().fallback(get(async || std::future::pending::<()>().await));
        let client = client_of_server(router, Duration::from_millis(100)).await;

        let asked = Api::<Namespace>::all(client).get("shop").await;

        assert!(asked.is_err());
    }
}
