//! The files of one cluster, and where they are seen from inside its node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, ClusterName};

/// The cluster's folder as the node sees it: short, because paths of unix sockets end at 107
/// bytes and the kubelet's own add 40 to this.
pub(crate) const INSIDE: &str = "/run/ww";

/// The folder of programs that the daemons find by `PATH`; it holds what they need and no more.
pub(crate) const INSIDE_BIN: &str = "/run/wwbin";

/// The paths of one cluster on the host. Nothing here checks whether they exist.
#[derive(Clone, Debug)]
pub struct Layout {
    name: ClusterName,
    state: PathBuf,
    lock: PathBuf,
}

impl Layout {
    /// The layout of the cluster called `name`.
    pub fn new(cache: &Cache, name: &ClusterName) -> Self {
        Self {
            name: name.clone(),
            state: cache.clusters().join(name.as_str()),
            lock: cache.locks().join(name.as_str()),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// The folder of everything.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The kubeconfig of the administrator. Its server answers in the node's network only.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// One log per daemon, `<name>.log`.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Keys, certificates and the daemons' kubeconfigs.
    pub(crate) fn keys(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// Who runs the cluster: a [`super::Record`].
    pub(crate) fn record(&self) -> PathBuf {
        self.state.join("node.json")
    }

    /// The supervisor, from its start on.
    pub(crate) fn supervisor(&self) -> PathBuf {
        self.state.join("supervisor.json")
    }

    /// What made the node end, if it ended by itself; written by PID 1 or by the holder.
    pub(crate) fn failure(&self) -> PathBuf {
        self.state.join("failure.txt")
    }

    /// Present once the images that every cluster has are in it.
    pub(crate) fn imported(&self) -> PathBuf {
        self.state.join("imported")
    }

    /// Present once every daemon has been started.
    pub(crate) fn started(&self) -> PathBuf {
        self.state.join("started")
    }

    /// When every daemon had been started, in whole seconds since 1970; none before that.
    pub(crate) fn started_at(&self) -> Option<i64> {
        let modified = fs::metadata(self.started()).ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    /// Removes what an earlier start has left and a new one would take for its own.
    pub(crate) fn forget_last_start(&self) {
        for leftover in [self.record(), self.failure(), self.started(), self.imported()] {
            fs::remove_file(leftover).ok();
        }
    }

    /// Keeps two commands from working on one cluster at a time. It lies apart from the folder
    /// and stays when that goes: whoever waits for it must be waiting for the same file.
    pub(crate) fn lock(&self) -> &Path {
        &self.lock
    }

    /// Makes the folders.
    ///
    /// # Errors
    ///
    /// If a folder cannot be made, or lies where the node would hide it or cannot use it.
    pub(crate) fn create(&self) -> Result<()> {
        refuse_hidden(&self.state)?;
        for folder in [&self.state, &self.logs(), &self.state.join("cni/net.d")] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        Ok(())
    }
}

/// Inside the node, these folders are fresh: what the host has there cannot be seen.
pub(crate) fn refuse_hidden(path: &Path) -> Result<()> {
    for hidden in ["/proc", "/run", "/var/lib", "/var/log"] {
        if path.starts_with(hidden) {
            bail!(
                "`{}` lies below `{hidden}`, which the node replaces by its own: \
                 set WATCHWORD_CACHE to a folder on a real disk elsewhere",
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_node_hides_is_refused() {
        assert!(refuse_hidden(Path::new("/var/lib/x")).is_err());
        assert!(refuse_hidden(Path::new("/run/x")).is_err());
        assert!(refuse_hidden(Path::new("/home/a/.cache/watchword/clusters/x")).is_ok());
        assert!(refuse_hidden(Path::new("/var/library")).is_ok());
    }
}
