//! The controller's metrics.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use watchword_core::reconciliation::Hindrance;

use crate::metrics::{Metrics, begin_at_zero};

/// What is counted of reconciles.
#[derive(Clone, Debug)]
pub(super) struct ReconcileMetrics {
    pub(super) duration: Histogram,
    pub(super) launch_failures: Family<CauseLabel, Counter>,
    pub(super) reconciles: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct ResultLabel {
    pub(super) result: ReconcileResult,
}

#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub(super) enum ReconcileResult {
    Error,
    Ok,
    /// The definition is not accepted, or the workload is refused.
    Refused,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct CauseLabel {
    pub(super) cause: &'static str,
}

impl CauseLabel {
    fn of(hindrance: Hindrance) -> Self {
        Self { cause: hindrance.as_str() }
    }
}

impl ReconcileMetrics {
    /// Registers them.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let duration = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let (launch_failures, reconciles) = (Family::default(), Family::default());
        begin_at_zero(&launch_failures, Hindrance::ALL.map(CauseLabel::of));
        begin_at_zero(&reconciles, [ResultLabel { result: ReconcileResult::Error }]);
        metrics.register(|registry| {
            registry.register(
                "reconcile_duration_seconds",
                "How long reconciles take",
                duration.clone(),
            );
            registry.register(
                "launch_failures",
                "Pods whose containers could not be launched, by cause",
                launch_failures.clone(),
            );
            registry.register("reconciles", "Reconciles by result", reconciles.clone());
        });
        Self { duration, launch_failures, reconciles }
    }

    pub(super) fn count(&self, result: ReconcileResult) {
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn count_launch_failure(&self, hindrance: Hindrance) {
        self.launch_failures.get_or_create(&CauseLabel::of(hindrance)).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_look_at_is_zero_before_it_is_one() {
        let metrics = Metrics::new();

        let reconciles = ReconcileMetrics::new(&metrics);

        let before = metrics.encode().unwrap();
        for cause in ["kubelet", "secrets"] {
            let zero = format!("watchword_launch_failures_total{{cause=\"{cause}\"}} 0\n");
            assert!(before.contains(&zero), "{before}");
        }
        reconciles.count_launch_failure(Hindrance::Secrets);
        let after = metrics.encode().unwrap();
        assert!(
            after.contains("watchword_launch_failures_total{cause=\"secrets\"} 1\n"),
            "{after}"
        );
    }
}
