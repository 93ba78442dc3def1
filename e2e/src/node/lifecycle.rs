//! What `local-cluster up`, `down` and `status` do.
//!
//! `up` leaves a supervisor behind, a process of the same binary in a session of its own, which
//! holds the node's life line and does nothing else. So the cluster outlives the terminal, and
//! `down` ends it by ending that process. Both take a lock, so that two of them cannot meet.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::launch::{self, Node, launch, log_tail, remove_cgroup};
use super::layout::{Layout, refuse_hidden};
use super::process::{ProcessIdentity, Record, write_json};
use super::tools::{self, Tools};
use super::{cgroup, network, prerequisites};
use crate::cache::{Cache, Lock};
use crate::images;
use crate::progress::{Progress, Step};

/// What a cluster is doing.
#[derive(Clone, Debug)]
pub enum State {
    /// It ended by itself; the reason, several lines.
    Failed(String),
    /// Pods can be made.
    Ready(Record),
    /// It runs, but the text is still waited for.
    Starting(Record, String),
    /// There is none.
    Stopped,
}

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Record whole requests for pods and Watchword's resources in `logs/audit.log`.
    pub audit: bool,
    /// Return as soon as the supervisor runs, not when the cluster is ready.
    pub detach: bool,
    /// The `local-cluster` binary.
    pub program: PathBuf,
    /// How long to wait until pods can be made.
    pub timeout: Duration,
}

/// Starts a cluster; false if it is up already.
///
/// # Errors
///
/// If something is missing on the host, a tool cannot be built, or the cluster does not become
/// ready. In the last case its processes are ended and its logs kept.
pub fn up(
    cache: &Cache,
    layout: &Layout,
    options: &UpOptions,
    progress: &Progress,
) -> Result<bool> {
    let _lock = lock(layout, progress)?;
    let (record, was_ready) = match state(layout) {
        State::Failed(_) | State::Stopped => (None, false),
        State::Ready(record) => (Some(record), true),
        // An earlier `up` was interrupted, or did not wait.
        State::Starting(record, _) => (Some(record), false),
    };
    if was_ready && layout.imported().exists() {
        return Ok(false);
    }
    if record.is_none() {
        end(layout);
        prepare(cache, layout, progress)?;
    }

    let archives = images::build_basic(cache)?;
    let step = progress.step(format!("starting cluster `{}`", layout.name()));
    let started = record.map_or_else(|| start(layout, options), Ok).and_then(|record| {
        complete(layout, &record, &archives, options.timeout, &step, options.detach)
    });
    if let Err(error) = started {
        // PID 1 writes it just before it ends, and knows better than who waited.
        let reason = fs::read_to_string(layout.failure()).unwrap_or_else(|_| format!("{error:#}"));
        end(layout);
        bail!(
            "cluster `{}` did not start: {}\n\nhint: its logs are in `{}`",
            layout.name(),
            reason.trim(),
            layout.logs().display()
        );
    }
    step.done();
    Ok(true)
}

/// Starts a cluster that ends with the value or with this process, and waits until it is ready.
/// Its folder is left behind: remove it with [`down`].
///
/// # Errors
///
/// As [`up`], and if a cluster of this name runs already.
pub fn up_owned(
    cache: &Cache,
    layout: &Layout,
    options: &UpOptions,
    progress: &Progress,
) -> Result<Node> {
    let _lock = lock(layout, progress)?;
    if Record::of(layout).is_some_and(|record| record.is_alive()) {
        bail!("a cluster called `{}` runs already", layout.name());
    }
    end(layout);
    let tools = prepare(cache, layout, progress)?;
    let archives = images::build_basic(cache)?;
    let step = progress.step(format!("starting cluster `{}`", layout.name()));
    let node = launch(layout, &tools, &options.program, options.audit)?;
    complete(layout, node.record(), &archives, options.timeout, &step, options.detach)?;
    step.done();
    Ok(node)
}

/// Ends a cluster and removes its folder, or keeps what a next start can use. False if there was
/// nothing to end or remove.
///
/// # Errors
///
/// If the folder cannot be removed.
pub fn down(layout: &Layout, keep: bool, progress: &Progress) -> Result<bool> {
    if !layout.state().exists() {
        cgroup::sweep();
        return Ok(false);
    }
    let lock = lock(layout, progress)?;
    let step = progress.step(format!("ending cluster `{}`", layout.name()));
    end(layout);
    if !keep {
        fs::remove_dir_all(layout.state())
            .with_context(|| format!("cannot remove `{}`", layout.state().display()))?;
    }
    drop(lock);
    step.done();
    Ok(true)
}

/// What a cluster is doing now.
pub fn state(layout: &Layout) -> State {
    let Some(record) = Record::read(&layout.record()) else { return State::Stopped };
    if !record.is_alive() {
        return match fs::read_to_string(layout.failure()) {
            Ok(reason) => State::Failed(reason),
            Err(_) => State::Stopped,
        };
    }
    let (kubeconfig, started) = (layout.kubeconfig(), layout.started_at());
    let asked = network::network_runtime(&record).and_then(|runtime| {
        let task = runtime.spawn(async move {
            let client = launch::client(&kubeconfig).await?;
            launch::missing(&client, started).await
        });
        runtime.block_on(task)?
    });
    match asked {
        Ok(None) => State::Ready(record),
        Ok(Some(missing)) => State::Starting(record, missing),
        Err(_) => State::Starting(record, "the API server".to_owned()),
    }
}

/// The supervisor: starts the node, holds its life line, and ends when the node does.
///
/// # Errors
///
/// If the node cannot be started or has ended by itself.
pub fn supervise(cache: &Cache, layout: &Layout, options: &UpOptions) -> Result<()> {
    // No signal of the terminal and no end of a login reaches it from here on.
    rustix::process::setsid().context("cannot leave the terminal's session")?;
    std::env::set_current_dir("/").context("cannot leave the working directory")?;
    let tools = tools::build(cache, &Progress::new())?;
    let mut node = launch(layout, &tools, &options.program, options.audit)?;
    let reason = node.wait()?;
    drop(node);
    bail!("{reason}");
}

/// Everything that can be refused before something runs.
fn prepare(cache: &Cache, layout: &Layout, progress: &Progress) -> Result<Tools> {
    refuse_hidden(layout.state())?;
    prerequisites::demand()?;
    prerequisites::check_disk(layout.state(), 2, "the cluster")?;
    tools::build(cache, progress)
}

/// Imports images, then waits until pods can be made.
fn complete(
    layout: &Layout,
    record: &Record,
    archives: &[PathBuf],
    timeout: Duration,
    step: &Step,
    detach: bool,
) -> Result<()> {
    step.note("importing images");
    launch::import(record, archives)?;
    fs::write(layout.imported(), "").context("cannot write the mark of imported images")?;
    if detach { Ok(()) } else { launch::wait_until_ready(layout, record, timeout, step) }
}

/// Starts the supervisor and waits until it has started the node.
fn start(layout: &Layout, options: &UpOptions) -> Result<Record> {
    layout.create()?;
    layout.forget_last_start();
    let log = fs::File::create(layout.logs().join("supervisor.log"))
        .context("cannot make the supervisor's log")?;
    let mut command = Command::new(&options.program);
    command.args(["supervise", "--name", layout.name().as_str()]);
    if options.audit {
        command.arg("--audit");
    }
    let mut supervisor = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share a log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    let identity = ProcessIdentity::of(supervisor.id().cast_signed())?;
    write_json(&layout.supervisor(), &identity)?;
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(record) = Record::read(&layout.record()) {
            return Ok(record);
        }
        let ended = supervisor.try_wait().context("cannot wait for the supervisor")?;
        if ended.is_some() || Instant::now() > deadline {
            bail!("the supervisor has not started the node: {}", log_tail(layout, "supervisor"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends whatever runs of a cluster and sweeps control groups; keeps its files.
fn end(layout: &Layout) {
    let supervisor = fs::read(layout.supervisor())
        .ok()
        .and_then(|bytes| serde_json::from_slice::<ProcessIdentity>(&bytes).ok());
    if let Some(supervisor) = supervisor {
        supervisor.kill();
        supervisor.wait_gone(Duration::from_secs(5));
    }
    if let Some(record) = Record::read(&layout.record()) {
        // The life line has ended the node already, unless a test holds it.
        record.unshare.kill();
        if !record.init.wait_gone(Duration::from_secs(20)) {
            record.init.kill();
            record.init.wait_gone(Duration::from_secs(20));
        }
        remove_cgroup(&record.cgroup);
    }
    for leftover in [layout.record(), layout.supervisor(), layout.started()] {
        fs::remove_file(leftover).ok();
    }
    cgroup::sweep();
}

fn lock(layout: &Layout, progress: &Progress) -> Result<Lock> {
    Lock::take(layout.lock(), || {
        progress.say("another `local-cluster` works on this cluster; waiting for it");
    })
}
