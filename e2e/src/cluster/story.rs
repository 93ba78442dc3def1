//! Running a story on the cluster that the environment names.

use std::panic::{self, AssertUnwindSafe};
use std::thread;

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
        let thread = thread::Builder::new().name("story".to_owned());
        match thread.spawn_scoped(scope, move || tell(Access::from_env()?, story)) {
            Ok(thread) => thread.join(),
            Err(error) => Ok(Err(error.into())),
        }
    }));
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
