//! Changes of the store's Deployment, and waiting for what they bring about.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use watchword_crds::names;
use watchword_e2e::holder::succeeded;
use watchword_e2e::{Cluster, wait_for};

/// Applies the overlay of this name, a folder of `e2e/manifests`, over what is installed, and waits
/// until the store runs as it says.
pub(crate) async fn apply(cluster: &Cluster, overlay: &str) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(overlay);
    let folder = folder.to_str().context("a path of text")?;
    let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize", folder];
    succeeded(cluster.kubectl(&apply).await?)?;
    rolled_out(cluster).await
}

/// Starts all replicas anew, and waits until they run.
pub(crate) async fn restart(cluster: &Cluster) -> Result<()> {
    rollout(cluster, &["restart", STORE]).await?;
    rolled_out(cluster).await
}

/// Waits until the store runs as its Deployment says.
async fn rolled_out(cluster: &Cluster) -> Result<()> {
    wait_for("the store to run as its Deployment says", ROLLOUT, async || {
        rollout(cluster, &["status", STORE, "--timeout=200s"]).await
    })
    .await
}

async fn rollout(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let rollout = ["--namespace", names::NAMESPACE, "rollout"];
    succeeded(cluster.kubectl(&[&rollout[..], arguments].concat()).await?)?;
    Ok(())
}

/// Replicas go one after the other, and each has its time to end.
const ROLLOUT: Duration = Duration::from_secs(900);

const STORE: &str = "deployment/watchword-store";
