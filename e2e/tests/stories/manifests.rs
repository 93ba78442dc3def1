//! What users install, as the API server takes it.

use std::path::Path;

use anyhow::Context;
use watchword_e2e::{Cluster, run};

#[test]
fn the_production_overlay_is_taken_by_the_api_server() {
    run(async |cluster: Cluster| {
        for folder in ["crds", "manifests/overlays/production"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
            let folder = folder.to_str().context("no text")?;

            // What the stories run on was applied by the same means.
            let applied = cluster
                .kubectl(&[
                    "apply",
                    "--server-side",
                    "--force-conflicts",
                    "--dry-run=server",
                    "--kustomize",
                    folder,
                ])
                .await?;

            let refused = String::from_utf8_lossy(&applied.stderr);
            assert!(applied.status.success(), "{folder}: {refused}");
            assert!(!refused.contains("Warning"), "{folder}: {refused}");
            let taken = String::from_utf8_lossy(&applied.stdout);
            let all = taken.lines().all(|line| line.ends_with("(server dry run)"));
            assert!(all && taken.lines().count() >= 4, "{folder}: {taken}");
        }
        anyhow::Ok(())
    });
}
