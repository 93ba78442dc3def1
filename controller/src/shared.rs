//! What every role is given when it starts. Roles know this, and not who composes them.

use kube::Client;

use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

/// What every role gets; clones share everything.
#[derive(Clone)]
pub struct Shared {
    /// The API server, with the role's own service account; its default namespace is ours.
    pub client: Client,
    /// This replica's name: the pod's. Holds leases and signs Events.
    pub identity: String,
    /// Where to register metrics.
    pub metrics: Metrics,
    /// The namespace that Watchword itself runs in.
    pub namespace: String,
    /// Where to say what is still missing before the role can serve.
    pub readiness: Readiness,
    /// When to end.
    pub shutdown: Shutdown,
}
