//! Role `certificates`: the authority that vouches for webhook and store, and all that hangs on it.
//!
//! Under its lease it keeps, in Watchword's namespace, the Secret with the authority, a Secret per
//! server and the ConfigMap with the bundle that clients trust; and `caBundle` of our two webhook
//! configurations. Each round reads all of it by name, [plans](mod@plan) and carries it out, once a
//! minute by the wall clock and within a second of a change to any of the objects.
//!
//! It reads and writes these objects and no others; its account may do no more. If the authority's
//! Secret is lost, a new one is made that nobody can vouch for: pods that know only the old one
//! must be replaced.

pub mod authority;
mod cluster;
pub mod plan;

use std::{pin::pin, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use tokio::time;
use tracing::{info, warn};

use watchword_crds::names;

use crate::{
    args::CertificatesArgs,
    backoff::Backoff,
    chain::Chain,
    leadership::{Lease, Timing},
    readiness::Condition,
    shared::Shared,
};

use self::{
    cluster::{Cluster, ClusterError, Observation},
    plan::plan,
};

/// Runs the role until the process ends.
///
/// # Errors
///
/// None: what fails is tried again, and said in logs, readiness and metrics.
pub async fn run(args: CertificatesArgs, shared: Shared) -> Result<(), std::convert::Infallible> {
    let CertificatesArgs { rotate_ca_before } = args;
    let keeper = Keeper {
        cluster: Cluster { client: shared.client.clone(), namespace: shared.namespace.clone() },
        condition: shared.readiness.condition("certificates"),
        ends: Ends::default(),
        rotate_before: rotate_ca_before,
    };
    keeper.condition.met();
    shared.metrics.register(|registry| {
        let help = "End of a certificate's life, seconds since 1970; only the leader knows it";
        registry.register("certificate_not_after_seconds", help, keeper.ends.0.clone());
    });
    let lease = Lease {
        client: shared.client,
        identity: shared.identity,
        metrics: shared.metrics,
        name: names::CERTIFICATES,
        namespace: shared.namespace,
        timing: Timing::default(),
    };
    lease.lead(&shared.shutdown, || keeper.keep()).await
}

/// What a leader does.
struct Keeper {
    cluster: Cluster,
    condition: Condition,
    ends: Ends,
    rotate_before: Option<Timestamp>,
}

impl Keeper {
    /// Keeps everything right, without end.
    async fn keep<E>(&self) -> Result<(), E> {
        let _standing = Standing { condition: &self.condition, ends: &self.ends };
        let mut changes = pin!(self.cluster.changes());
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let pause = match self.settle().await {
                Ok(()) => {
                    backoff.reset(&());
                    self.condition.met();
                    INTERVAL
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot keep the certificates");
                    self.condition.unmet(Chain(&error).to_string());
                    backoff.next(())
                }
            };
            wait(changes.as_mut(), pause).await;
        }
    }

    /// Observes, plans and applies until there is nothing left to do.
    async fn settle(&self) -> Result<(), ClusterError> {
        for _ in 0..ROUNDS {
            let round = time::timeout(TIMEOUT, self.round());
            if round.await.map_err(|_| ClusterError::Timeout)?? {
                return Ok(());
            }
        }
        Err(ClusterError::Unsettled)
    }

    /// One round; whether there was nothing to do.
    async fn round(&self) -> Result<bool, ClusterError> {
        let observation = self.cluster.observe().await?;
        self.ends.report(&observation);
        let now = Timestamp::now();
        let plan = plan(&observation.facts, self.rotate_before, now);
        if plan.is_empty() {
            return Ok(true);
        }
        info!(?plan, "changing the certificates");
        self.cluster.apply(&plan, observation, now).await?;
        Ok(false)
    }
}

/// While it lives the role is as ready as its work; then it stands by, which is always ready, and
/// knows of no certificate: what it knew grows old, and an alarm by it would never end.
struct Standing<'a> {
    condition: &'a Condition,
    ends: &'a Ends,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.condition.met();
        self.ends.0.clear();
    }
}

/// The ends of all certificates, for alarms.
#[derive(Clone, Debug, Default)]
struct Ends(Family<EndLabels, Gauge>);

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EndLabels {
    secret: &'static str,
}

impl Ends {
    fn report(&self, observation: &Observation) {
        let authority = observation.facts.authority.as_ref();
        let authority = authority.map(|authority| (names::CA, authority.not_after));
        let leaves = &observation.facts.leaves;
        let leaves = leaves.iter().map(|(server, leaf)| (server.secret(), leaf.not_after));
        for (secret, not_after) in leaves.chain(authority) {
            self.0.get_or_create(&EndLabels { secret }).set(not_after.as_second());
        }
    }
}

/// Waits for a change, and a moment longer for those that come with it; at most for `pause`.
async fn wait(mut changes: impl Stream<Item = ()> + Unpin, pause: Duration) {
    tokio::select! {
        () = time::sleep(pause) => {}
        _ = changes.next() => {
            time::sleep(DEBOUNCE).await;
            while changes.next().now_or_never().flatten().is_some() {}
        }
    }
}

/// How often everything is looked at even if nothing seems to change.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long to collect changes: our own writes come back as several.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Rounds until there must be nothing left to do: the authority, what hangs on it, the check, and
/// two that another writer may spoil.
const ROUNDS: usize = 5;

/// How long one round may take.
const TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Metrics, readiness::Readiness, shutdown::Shutdown};

    #[test]
    fn a_replica_that_stands_by_is_ready_and_says_no_ends_of_certificates() {
        let (_trigger, shutdown) = Shutdown::channel();
        let readiness = Readiness::new(&shutdown);
        let condition = readiness.condition("certificates");
        let (ends, metrics) = (Ends::default(), Metrics::new());
        metrics.register(|registry| registry.register("ends", "Ends", ends.0.clone()));
        ends.0.get_or_create(&EndLabels { secret: names::CA }).set(1);
        condition.unmet("cannot keep them");
        let led = metrics.encode().unwrap();

        drop(Standing { condition: &condition, ends: &ends });

        assert!(led.contains(names::CA), "{led}");
        assert!(!metrics.encode().unwrap().contains(names::CA));
        assert_eq!(readiness.unmet(), []);
    }
}
