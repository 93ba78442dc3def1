//! Metrics: one registry per process, in OpenMetrics' text format at `/metrics`.
//!
//! Roles register their own when they start. No label names a pod, a secret or a namespace's
//! contents: what can be counted without limit is not a label.

use std::{
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The process' metrics; clones are the same registry. Every name begins with `watchword_`.
#[derive(Clone)]
pub struct Metrics {
    leads: Family<LeaseLabel, Gauge>,
    registry: Arc<Mutex<Registry>>,
}

/// What leadership is told by.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct LeaseLabel {
    lease: &'static str,
}

impl Metrics {
    /// A registry without metrics.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("watchword");
        let leads = Family::default();
        let help = "Whether this replica holds the lease: 1 or 0";
        registry.register("leads", help, leads.clone());
        Self { leads, registry: Arc::new(Mutex::new(registry)) }
    }

    /// Whether this replica holds a lease: 1 or 0. Several roles of one process hold one each.
    pub fn leads(&self, lease: &'static str) -> Gauge {
        self.leads.get_or_create_owned(&LeaseLabel { lease })
    }

    /// Adds metrics: `metrics.register(|registry| registry.register("reviews", "…", counter))`.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

/// Lets counters begin at zero. Alerts look at increases, and what comes into being as a one is none.
pub fn begin_at_zero<L: Clone + Eq + Hash>(
    family: &Family<L, Counter>,
    labels: impl IntoIterator<Item = L>,
) {
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_a_role_registers_is_encoded_under_our_prefix() {
        let metrics = Metrics::new();
        let reviews: Counter = Counter::default();
        metrics
            .register(|registry| registry.register("reviews", "Answered reviews", reviews.clone()));

        reviews.inc();

        assert!(metrics.encode().unwrap().contains("watchword_reviews_total 1\n"));
    }
}
