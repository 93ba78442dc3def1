//! Leadership: at most one replica at a time does a role's writing.
//!
//! A `Lease` object says who. Every write to it carries the resourceVersion that was read, so two
//! replicas cannot both take it; whoever cannot renew stops leading before anyone else may start.
//! Leadership gates writes only: webhook and store serve on every replica.
//!
//! Why not kube-lease-manager: it frees an expired lease by a write without resourceVersion, which
//! can free the lease that another replica has just taken, and it goes on reporting leadership
//! while the API server cannot be reached.

pub mod election;

use std::{fmt, future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1;
use kube::{Api, Client, api::PostParams};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use crate::{backoff, chain::Chain, metrics::Metrics, shutdown::Shutdown};

use self::election::{Election, Proposal};

pub use self::election::Timing;

/// A lease to campaign for.
#[derive(Clone)]
pub struct Lease {
    /// With the right to `create` leases in the namespace, and to `get` and `update` this one.
    pub client: Client,
    /// This replica: unique among those that campaign, such as the pod's name.
    pub identity: String,
    /// Where it is said whether this replica leads.
    pub metrics: Metrics,
    /// The object's name.
    pub name: &'static str,
    /// The object's namespace.
    pub namespace: String,
    /// How long leadership lasts without renewal.
    pub timing: Timing,
}

impl Lease {
    /// Campaigns in the background until [`Campaign::resign`], or until the campaign is dropped.
    pub fn campaign(self) -> Campaign {
        let (sender, leading) = watch::channel(false);
        let leads = self.metrics.leads(self.name);
        let (resign, resigned) = oneshot::channel();
        let task = tokio::spawn(async move {
            let api = Api::namespaced(self.client.clone(), &self.namespace);
            let mut candidate = Candidate {
                api,
                election: Election::new(self.identity.clone(), self.timing),
                leading: sender,
                leads,
                name: self.name,
            };
            tokio::select! {
                () = candidate.run(self.timing) => {} // never: it has no end
                // Also when the campaign is dropped; then this task is being aborted.
                _ = resigned => candidate.resign().await,
            }
        });
        Campaign { leading, resign, task: AbortOnDrop(task) }
    }

    /// Runs `work` whenever this replica leads, and drops it when leadership is lost or a shutdown
    /// is requested; then gives the lease up. Returns early only with what `work` returns.
    ///
    /// # Errors
    ///
    /// Whatever `work` fails with.
    pub async fn lead<E, F: Future<Output = Result<(), E>>>(
        self,
        shutdown: &Shutdown,
        mut work: impl FnMut() -> F,
    ) -> Result<(), E> {
        let campaign = self.campaign();
        let mut leading = campaign.leading();
        let result = loop {
            tokio::select! {
                () = shutdown.requested() => break Ok(()),
                _ = leading.wait_for(|leading| *leading) => {}
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => break Ok(()),
                _ = leading.wait_for(|leading| !*leading) => {}
                result = work() => break result,
            }
        };
        campaign.resign().await;
        result
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("identity", &self.identity)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A campaign that is running. Dropping it ends it without giving the lease up.
#[derive(Debug)]
pub struct Campaign {
    leading: watch::Receiver<bool>,
    resign: oneshot::Sender<()>,
    task: AbortOnDrop,
}

impl Campaign {
    /// Whether this replica leads, now and later. It turns false before another can lead; what
    /// writes must stop at once then.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Gives the lease up, so that another replica need not wait for it to expire. The work must
    /// have stopped before.
    pub async fn resign(self) {
        let Self { leading: _, resign, mut task } = self;
        let _ = resign.send(());
        // It ends by itself; that it may have panicked is none of the caller's affair.
        let _ = (&mut task.0).await;
    }
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One replica's side of the election.
struct Candidate {
    api: Api<v1::Lease>,
    election: Election,
    leading: watch::Sender<bool>,
    /// The same as a metric.
    leads: Gauge,
    name: &'static str,
}

impl Candidate {
    async fn run(&mut self, timing: Timing) {
        loop {
            // While leading, a round must not last longer than leadership does.
            let now = Instant::now();
            let end = self.election.leads_until(now).unwrap_or(now + timing.renew);
            match time::timeout_at(end, self.round()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.election.doubt();
                    if is_conflict(&error) {
                        debug!(lease = self.name, "another replica wrote first");
                    } else {
                        warn!(lease = self.name, error = %Chain(&error), "cannot reach the lease");
                    }
                }
                Err(_) => {
                    self.election.doubt();
                    warn!(lease = self.name, "cannot reach the lease in time");
                }
            }
            self.publish();

            let now = Instant::now();
            let pause = now + timing.retry.mul_f64(0.8 + backoff::random() * 0.4);
            let end = self.election.leads_until(now);
            time::sleep_until(end.map_or(pause, |end| end.min(pause))).await;
            self.publish();
        }
    }

    /// Reads the lease if its state is in doubt, and writes it if it is ours to write.
    async fn round(&mut self) -> Result<(), kube::Error> {
        if self.election.in_doubt() {
            let lease = self.api.get_opt(self.name).await?;
            self.election.saw(lease, Instant::now());
        }
        let asked = Instant::now();
        let written = match self.election.proposal(self.name, asked, Timestamp::now()) {
            Proposal::Create(lease) => self.api.create(&PostParams::default(), &lease).await?,
            Proposal::Replace(lease) => {
                self.api.replace(self.name, &PostParams::default(), &lease).await?
            }
            Proposal::Wait => {
                self.election.doubt();
                return Ok(());
            }
        };
        self.election.wrote(written, asked);
        Ok(())
    }

    /// Tells the watchers, if it is news.
    fn publish(&self) {
        let leads = self.election.leads(Instant::now());
        self.leading.send_if_modified(|leading| {
            let news = *leading != leads;
            *leading = leads;
            self.leads.set(leads.into());
            if news && leads {
                info!(lease = self.name, "leading");
            } else if news {
                warn!(lease = self.name, "no longer leading");
            }
            news
        });
    }

    async fn resign(mut self) {
        let lease = self.election.resignation(Instant::now(), Timestamp::now());
        self.leading.send_replace(false);
        self.leads.set(0);
        let Some(lease) = lease else { return };
        let parameters = PostParams::default();
        let replaced = self.api.replace(self.name, &parameters, &lease);
        match time::timeout(RESIGNATION, replaced).await {
            Ok(Ok(_)) => info!(lease = self.name, "gave the lease up"),
            Ok(Err(error)) => {
                warn!(lease = self.name, error = %Chain(&error), "cannot give the lease up");
            }
            Err(_) => warn!(lease = self.name, "cannot give the lease up in time"),
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// How long giving up may take: it is a courtesy, and the process is ending.
const RESIGNATION: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock;

    use super::*;

    /// An API server with one lease, which can be cut off.
    #[derive(Clone, Default)]
    struct Server {
        cut: Arc<AtomicBool>,
        metrics: Metrics,
        requests: Arc<AtomicUsize>,
    }

    impl Server {
        fn lease(&self) -> Lease {
            let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
            let server = self.clone();
            tokio::spawn(async move {
                let mut lease: Option<Value> = None;
                let mut unanswered = Vec::new();
                while let Some((request, send)) = handle.next_request().await {
                    server.requests.fetch_add(1, Ordering::SeqCst);
                    if server.cut.load(Ordering::SeqCst) {
                        unanswered.push(send);
                        continue;
                    }
                    let (status, body) = match (request.method().clone(), &lease) {
                        (Method::GET, None) => (404, status(404)),
                        (Method::GET, Some(lease)) => (200, lease.clone()),
                        (_, current) => {
                            let body = request.into_body().collect_bytes().await.unwrap();
                            let mut written: Value = serde_json::from_slice(&body).unwrap();
                            let version =
                                |lease: &Value| lease["metadata"]["resourceVersion"].clone();
                            let before = current.as_ref().map_or(Value::Null, version);
                            if version(&written) == before {
                                let next =
                                    before.as_str().unwrap_or("0").parse::<u64>().unwrap() + 1;
                                written["metadata"]["resourceVersion"] = next.to_string().into();
                                lease = Some(written.clone());
                                (200, written)
                            } else {
                                (409, status(409))
                            }
                        }
                    };
                    let body = Body::from(serde_json::to_vec(&body).unwrap());
                    send.send_response(Response::builder().status(status).body(body).unwrap());
                }
            });
            Lease {
                client: Client::new(service, "watchword-system"),
                identity: "a".to_owned(),
                metrics: self.metrics.clone(),
                name: "watchword-test",
                namespace: "watchword-system".to_owned(),
                timing: Timing::default(),
            }
        }
    }

    fn status(code: u16) -> Value {
        let reason = if code == 404 { "NotFound" } else { "Conflict" };
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason })
    }

    async fn until(leading: &mut watch::Receiver<bool>, wanted: bool) {
        let changed = leading.wait_for(|leading| *leading == wanted);
        time::timeout(Duration::from_secs(60), changed).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_stops_in_time_does_not_hammer_and_leads_again() {
        let server = Server::default();
        let campaign = server.lease().campaign();
        let mut leading = campaign.leading();
        until(&mut leading, true).await;
        let said = |leads| {
            let metric = format!("watchword_leads{{lease=\"watchword-test\"}} {leads}\n");
            server.metrics.encode().unwrap().contains(&metric)
        };
        assert!(said(1));
        let before = server.requests.load(Ordering::SeqCst);

        server.cut.store(true, Ordering::SeqCst);
        let cut = Instant::now();
        until(&mut leading, false).await;
        assert!(cut.elapsed() <= Timing::default().renew);
        assert!(said(0));
        time::sleep(Duration::from_secs(60)).await;
        assert!(server.requests.load(Ordering::SeqCst) - before < 12);

        server.cut.store(false, Ordering::SeqCst);
        until(&mut leading, true).await;
        campaign.resign().await;
        assert!(!*leading.borrow());
    }

    #[tokio::test(start_paused = true)]
    async fn work_runs_while_this_replica_leads_and_is_dropped_with_leadership() {
        struct Running(Arc<AtomicUsize>);

        impl Drop for Running {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }

        let server = Server::default();
        let (trigger, shutdown) = Shutdown::channel();
        let running = Arc::new(AtomicUsize::new(0));
        let lead = tokio::spawn({
            let (lease, running) = (server.lease(), Arc::clone(&running));
            async move {
                let work = || async {
                    running.fetch_add(1, Ordering::SeqCst);
                    let _running = Running(Arc::clone(&running));
                    std::future::pending::<Result<(), std::convert::Infallible>>().await
                };
                lease.lead(&shutdown, work).await
            }
        });
        let settle = || time::sleep(Duration::from_secs(30));

        settle().await;
        assert_eq!(running.load(Ordering::SeqCst), 1);
        server.cut.store(true, Ordering::SeqCst);
        settle().await;
        assert_eq!(running.load(Ordering::SeqCst), 0);
        server.cut.store(false, Ordering::SeqCst);
        settle().await;
        assert_eq!(running.load(Ordering::SeqCst), 1);
        trigger.request();
        assert!(lead.await.unwrap().is_ok());
        assert_eq!(running.load(Ordering::SeqCst), 0);
    }
}
