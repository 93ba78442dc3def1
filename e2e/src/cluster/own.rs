//! Stories that need a cluster to themselves: one whose store is initialised by hand, sealed, or
//! restored would be in the way of every other story.
//!
//! [`run_alone`] starts a second local cluster, installs Watchword on it and tells the story there.
//! The cluster ends with the story, whatever becomes of it: also when it panics, and when the whole
//! process is killed, because the node holds a pipe to it.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, thread};

use anyhow::{Context, Result, bail};
use rustls::crypto::aws_lc_rs;

use super::story::{finish, of_test, skip, tell};
use super::{Access, Cluster, Outcome};
use crate::cache::Cache;
use crate::images::{self, WatchwordPrograms};
use crate::node::{self, Layout, UpOptions};
use crate::progress::Progress;
use crate::watchword::LIMIT;

/// Runs one story on a cluster of its own, on which the overlay `overlay` is installed: a folder,
/// seen from the root of the repository. `story_name` becomes part of the cluster's name.
///
/// Where stories run on another kind of cluster there is nothing to start a second one with, and
/// the story is skipped.
///
/// # Panics
///
/// If the story panics or returns an error, or there is no cluster: it is meant for tests.
pub fn run_alone<S, O>(story_name: &str, overlay: &str, story: S)
where
    S: AsyncFnOnce(Cluster) -> O + Send,
    O: Outcome,
{
    start(story_name, overlay, false, story);
}

/// As [`run_alone`], on a cluster whose API server keeps an audit log: [`super::LocalNode::logs`]
/// has it, as `audit.log`.
///
/// # Panics
///
/// As [`run_alone`].
pub fn run_audited<S, O>(story_name: &str, overlay: &str, story: S)
where
    S: AsyncFnOnce(Cluster) -> O + Send,
    O: Outcome,
{
    start(story_name, overlay, true, story);
}

fn start<S, O>(story_name: &str, overlay: &str, audit: bool, story: S)
where
    S: AsyncFnOnce(Cluster) -> O + Send,
    O: Outcome,
{
    if env::var_os("WATCHWORD_E2E_CLUSTER").is_none() {
        return skip("the stories do not run on a local cluster");
    }
    aws_lc_rs::default_provider().install_default().ok();
    finish(thread::scope(|scope| {
        match of_test().spawn_scoped(scope, move || alone(story_name, overlay, audit, story)) {
            Ok(thread) => thread.join(),
            Err(error) => Ok(Err(error.into())),
        }
    }));
}

/// What most of these stories install: two stores that nothing opens by itself.
pub const SEALED: &str = "e2e/manifests/sealed";

fn alone<S, O>(story_name: &str, overlay: &str, audit: bool, story: S) -> Result<()>
where
    S: AsyncFnOnce(Cluster) -> O,
    O: Outcome,
{
    let cache = Cache::from_env()?;
    let layout = Layout::new(&cache, &format!("{story_name}-{}", process::id()).parse()?);
    let progress = Progress::new();
    // Before the node, so that it is dropped after it.
    let _folder = Folder { layout: &layout, progress: &progress };
    let options = UpOptions { audit, detach: false, program: launcher()?, timeout: LIMIT };
    let node = node::up_owned(&cache, &layout, &options, &progress)?;
    let archive = images::build_watchword(&cache, &programs(&cache))?;
    node::load_images(node.record(), &[archive])?;
    install(&cache, &layout, overlay)?;
    tell(Access::Local { layout: layout.clone(), record: node.record().clone() }, story)
}

/// The folder of a cluster that is gone with the value.
struct Folder<'a> {
    layout: &'a Layout,
    progress: &'a Progress,
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        // What cannot be removed is swept by the next start of the same name.
        node::down(self.layout, false, self.progress).ok();
    }
}

fn install(cache: &Cache, layout: &Layout, overlay: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let output = Command::new(root.join("hack/install.sh"))
        .arg(overlay)
        .env_remove("KUBECONFIG")
        .env("WATCHWORD_CACHE", cache.path())
        .env("WATCHWORD_E2E_CLUSTER", layout.name().as_str())
        .env("WATCHWORD_HOST", env::var_os("WATCHWORD_HOST").unwrap_or(host.into()))
        .env("WATCHWORD_LAUNCHER", launcher()?)
        .env("WATCHWORD_PROGRAMS", programs_folder(cache))
        .output()
        .context("cannot run `hack/install.sh`")?;
    if !output.status.success() {
        bail!("cannot install {overlay}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn programs(cache: &Cache) -> WatchwordPrograms {
    let folder = programs_folder(cache);
    WatchwordPrograms {
        agent: folder.join("agent"),
        controller: folder.join("watchword-controller"),
    }
}

fn programs_folder(cache: &Cache) -> PathBuf {
    match env::var_os("WATCHWORD_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => cache.path().join("programs"),
    }
}

/// The binary that becomes PID 1 of the node: the one that is named, else the one that was built
/// with this test.
fn launcher() -> Result<PathBuf> {
    if let Some(program) = env::var_os("WATCHWORD_LAUNCHER") {
        return Ok(PathBuf::from(program));
    }
    let test = env::current_exe().context("cannot find this test's own file")?;
    let folder = test.ancestors().nth(2).context("this test lies in no target folder")?;
    Ok(folder.join("local-cluster"))
}
