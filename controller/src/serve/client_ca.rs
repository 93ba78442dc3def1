//! The authorities whose client certificates the cluster believes, as the API server publishes them
//! for aggregated servers. People whose kubeconfig has a certificate can then talk to the store.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use tokio::sync::watch;
use tracing::warn;

use super::POLL;
use crate::chain::Chain;
use crate::shutdown::Shutdown;

/// Sends the bundle whenever it has changed, until the shutdown. A cluster that publishes none, or
/// does not let us read it, is one whose certificates we do not take.
pub(super) async fn follow(client: Client, bundle: watch::Sender<String>, shutdown: Shutdown) {
    let api: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let mut ticks = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = ticks.tick() => {}
        }
        match api.get_opt(NAME).await {
            Ok(map) => {
                let data = map.and_then(|map| map.data).unwrap_or_default();
                let current = data.get("client-ca-file").cloned().unwrap_or_default();
                bundle.send_if_modified(|known| {
                    let changed = *known != current;
                    *known = current;
                    changed
                });
            }
            Err(error) => warn!(error = %Chain(&error), "cannot read the cluster's client CA"),
        }
    }
}

const NAME: &str = "extension-apiserver-authentication";
