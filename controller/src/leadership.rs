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
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use crate::{backoff, chain::Chain, shutdown::Shutdown};

use self::election::{Election, Proposal};

pub use self::election::Timing;

/// A lease to campaign for.
#[derive(Clone)]
pub struct Lease {
    /// With the right to `create` leases in the namespace, and to `get` and `update` this one.
    pub client: Client,
    /// This replica: unique among those that campaign, such as the pod's name.
    pub identity: String,
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
        let (resign, resigned) = oneshot::channel();
        let task = tokio::spawn(async move {
            let api = Api::namespaced(self.client.clone(), &self.namespace);
            let mut candidate = Candidate {
                api,
                election: Election::new(self.identity.clone(), self.timing),
                leading: sender,
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
    name: &'static str,
}

impl Candidate {
    async fn run(&mut self, timing: Timing) {
        loop {
            // While leading, a round must not last longer than leadership does.
            let end = self.election.leads_until().unwrap_or_else(|| Instant::now() + timing.renew);
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

            let pause = Instant::now() + timing.retry.mul_f64(0.8 + backoff::random() * 0.4);
            let end = self.election.leads_until();
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
