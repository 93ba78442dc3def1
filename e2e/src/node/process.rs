//! Processes named so that a reused process id is not taken for the one that is meant.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::layout::Layout;

/// A process: its id, and its start in clock ticks since boot.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProcessIdentity {
    /// The process id, as the host sees it.
    pub pid: i32,
    started: u64,
}

impl ProcessIdentity {
    /// The process that has this id now.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("no process {pid}"))?;
        let Some((_, started)) = parse_stat(&stat) else {
            bail!("cannot read /proc/{pid}/stat");
        };
        Ok(Self { pid, started })
    }

    /// This process.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn own() -> Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, started)| started == self.started && state != 'Z')
    }

    /// Ends it at once, if it still runs.
    pub(crate) fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            // It may have ended in between, which is what is wanted.
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
    }

    /// Waits until it has ended; false if it has not after `timeout`.
    pub(crate) fn wait_gone(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// State and start time of a line of `/proc/<pid>/stat`. The name, which may hold anything, ends
/// at the last parenthesis.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of proc(5); the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Who runs a cluster, and where what it needs is; `node.json` in the cluster's folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The control group, in every hierarchy.
    pub cgroup: String,
    /// Holds the life line: the supervisor or a test.
    pub holder: ProcessIdentity,
    /// `unshare`, the parent of PID 1; it ends when PID 1 does.
    pub unshare: ProcessIdentity,
    /// PID 1 of the node, as the host sees it.
    pub init: ProcessIdentity,
    /// The cluster's `kubectl`.
    pub kubectl: PathBuf,
    /// The cluster's `ctr`, containerd's client.
    pub ctr: PathBuf,
}

impl Record {
    /// The record of a cluster; none if it was never started or has been ended.
    pub fn of(layout: &Layout) -> Option<Self> {
        Self::read(&layout.record())
    }

    /// Reads the record; none if there is no such file or it is not a record.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Whether the node's PID 1 runs.
    pub fn is_alive(&self) -> bool {
        self.init.is_alive()
    }
}

/// Writes a file at once: readers see the old one or the new one.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec_pretty(value)?)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 100";

        assert_eq!(parse_stat(stat), Some(('S', 4711)));
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_is_not() {
        let own = ProcessIdentity::own().unwrap();

        assert!(own.is_alive());
        assert!(!ProcessIdentity { started: own.started + 1, ..own }.is_alive());
    }

    #[test]
    fn a_record_survives_being_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.json");
        let own = ProcessIdentity::own().unwrap();
        let record = Record {
            cgroup: "ww-1".to_owned(),
            holder: own,
            unshare: own,
            init: own,
            kubectl: PathBuf::from("/k"),
            ctr: PathBuf::from("/c"),
        };

        record.write(&path).unwrap();

        assert_eq!(Record::read(&path).unwrap().cgroup, "ww-1");
        assert!(Record::read(&folder.path().join("other")).is_none());
    }
}
