//! Entering a node's network.
//!
//! A socket belongs to the network of the thread that makes it, and a process to that of the
//! thread that starts it. So it is enough that the threads of a runtime are inside: API server,
//! pods and Services are then reached directly, while files and the working directory stay the
//! host's.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::LinkNameSpaceType;
use tokio::runtime::Runtime;

use super::process::Record;

/// Moves the calling thread, and what it will start, into the node's network. There is no way
/// back: use a thread of its own.
///
/// # Errors
///
/// If the node is gone, or this process is not root.
pub fn enter_network(record: &Record) -> Result<()> {
    enter(&network_of(record)?)
}

/// A runtime whose worker threads are in the node's network. The thread that calls `block_on` is
/// not moved: what it polls itself is where that thread is.
///
/// # Errors
///
/// If the node is gone, or the threads cannot be made.
pub fn network_runtime(record: &Record) -> Result<Runtime> {
    let network = network_of(record)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || {
            if let Err(error) = enter(&network) {
                // The thread stays outside, where nothing answers; this says why.
                eprintln!("{error:#}");
            }
        })
        .build()
        .context("cannot make a runtime")
}

/// A command that runs `program` in all of the node's namespaces, for what needs its files:
/// `ctr`, `mount`, `crictl`. Its working directory is `/`.
pub fn inside(record: &Record, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--target={}", record.init.pid))
        .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--wdns=/", "--"])
        .arg(program);
    command
}

fn network_of(record: &Record) -> Result<File> {
    let path = format!("/proc/{}/ns/net", record.init.pid);
    File::open(&path).with_context(|| format!("cannot open `{path}`: is the node gone?"))
}

fn enter(network: &File) -> Result<()> {
    rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter the node's network: it takes root")
}
