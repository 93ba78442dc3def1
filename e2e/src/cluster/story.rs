//! Running a story on the cluster that the environment names.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::{env, thread};

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs;
use tokio::runtime::{Builder, Runtime};

use super::{Access, Cluster};
use crate::node;

/// Runs one story: an async closure that is given the cluster.
///
/// It runs on a thread of its own, because for a local cluster that thread and those of its
/// runtime move into the node's network; what the story connects to and what it starts is there.
/// If the story fails, what happened in its namespaces is printed. Its namespaces are removed in
/// the end, unless `WATCHWORD_E2E_KEEP` is set.
///
/// # Panics
///
/// If the story panics or returns an error, or there is no cluster: it is meant for tests.
pub fn run<S, O>(story: S)
where
    S: AsyncFnOnce(Cluster) -> O + Send,
    O: Outcome,
{
    // Only the first of a test binary succeeds.
    aws_lc_rs::default_provider().install_default().ok();
    finish(thread::scope(|scope| {
        match of_test().spawn_scoped(scope, move || tell(Access::from_env()?, story)) {
            Ok(thread) => thread.join(),
            Err(error) => Ok(Err(error.into())),
        }
    }));
}

/// Says that the story that is told here is skipped, and why: on standard error, which the runner
/// shows of failed tests only, and as a line of the file that `WATCHWORD_E2E_SKIPPED` names. To the
/// runner it has passed.
pub fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("a story").to_owned();
    eprintln!("skipped: {name}: {why}");
    let Some(file) = env::var_os("WATCHWORD_E2E_SKIPPED") else { return };
    // One write: other stories write there too.
    let line = format!("{name}: {why}\n");
    let written = OpenOptions::new().append(true).create(true).open(&file);
    if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("cannot write `{}`: {error}", file.display());
    }
}

/// A thread with the name of this one, which is the test's.
pub(super) fn of_test() -> thread::Builder {
    let thread = thread::current();
    thread::Builder::new().name(thread.name().unwrap_or("story").to_owned())
}

/// Lets a test fail as its story did, on a thread of its own.
pub(super) fn finish(ended: thread::Result<Result<()>>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// What a story may return: nothing, or a result.
pub trait Outcome {
    /// The outcome as a result.
    ///
    /// # Errors
    ///
    /// If the story says that it failed.
    fn into_result(self) -> Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl Outcome for Result<()> {
    fn into_result(self) -> Result<()> {
        self
    }
}

/// Tells a story on a cluster; the calling thread belongs to the story.
pub(super) fn tell<S, O>(access: Access, story: S) -> Result<()>
where
    S: AsyncFnOnce(Cluster) -> O,
    O: Outcome,
{
    let runtime = runtime(&access)?;
    let cluster = runtime.block_on(Cluster::connect(access))?;
    let told = panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(story(cluster.clone())).into_result()
    }));
    runtime.block_on(async {
        if !matches!(told, Ok(Ok(()))) {
            for namespace in cluster.made_namespaces() {
                cluster.diagnose(&namespace).await;
            }
            cluster.diagnose("watchword-system").await;
        }
        cluster.remove_namespaces().await;
    });
    match told {
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// A runtime that reaches the cluster. The calling thread is moved too, so that what `block_on`
/// polls itself is inside as well.
fn runtime(access: &Access) -> Result<Runtime> {
    match access {
        Access::Local { record, .. } => {
            node::enter_network(record)?;
            node::network_runtime(record)
        }
        Access::Remote => Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot make a runtime"),
    }
}
