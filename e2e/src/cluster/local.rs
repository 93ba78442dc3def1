//! What only a local cluster lets one look at: everything.
//!
//! These are for stories that search for values where none may be.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{self, Layout, Record};

/// The node of a local cluster, seen from the host.
#[derive(Clone, Debug)]
pub struct LocalNode {
    layout: Layout,
    record: Record,
}

/// One key of etcd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdEntry {
    /// Such as `/registry/pods/default/web`.
    pub key: String,
    /// As stored: protobuf for built-in kinds, JSON for custom resources.
    pub value: Vec<u8>,
}

/// One process of the node, the pods' included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its id as the node sees it.
    pub pid: u32,
    /// Its command line: arguments that each end with a zero byte.
    pub command_line: Vec<u8>,
}

impl LocalNode {
    pub(super) fn new(layout: Layout, record: Record) -> Self {
        Self { layout, record }
    }

    /// The cluster's folder on the host.
    pub fn folder(&self) -> &Path {
        self.layout.state()
    }

    /// The logs of the daemons, `<name>.log`; with `--audit` also `audit.log`.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// The keys of the cluster: `ca.crt`, `ca.key` and those of the daemons.
    pub(super) fn keys(&self) -> PathBuf {
        self.layout.keys()
    }

    /// Keeps a secret's value, if it can be told from what else there is, beside the cluster's
    /// logs: for [`LocalNode::stored_values`].
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn remember_value(&self, value: &[u8]) -> Result<()> {
        if !is_telling(value) {
            return Ok(());
        }
        let path = self.values();
        // One write: other stories write there too.
        let line = [value, b"\n"].concat();
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(&line))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// The values of all secrets that stories have stored so far, each once; short ones and such
    /// as may stand anywhere excepted.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn stored_values(&self) -> Result<BTreeSet<String>> {
        let path = self.values();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    fn values(&self) -> PathBuf {
        self.layout.state().join("values-of-stories")
    }

    /// Everything that etcd has below a prefix; all of it if that is empty. Call it in a story,
    /// whose threads are in the node's network.
    ///
    /// # Errors
    ///
    /// If etcd does not answer.
    pub async fn etcd(&self, prefix: &str) -> Result<Vec<EtcdEntry>> {
        let body = json!({
            "key": BASE64_STANDARD.encode(if prefix.is_empty() { b"\0" } else { prefix.as_bytes() }),
            "range_end": BASE64_STANDARD.encode(range_end(prefix)),
        });
        let answer = ask_etcd("/v3/kv/range", &body.to_string()).await?;
        let answer: Value = serde_json::from_slice(&answer).context("etcd answered no JSON")?;
        let entries = answer["kvs"].as_array();
        entries
            .into_iter()
            .flatten()
            .map(|entry| {
                let bytes = |name: &str| {
                    let text = entry[name].as_str().unwrap_or_default();
                    BASE64_STANDARD.decode(text).context("etcd answered no base64")
                };
                let key = String::from_utf8_lossy(&bytes("key")?).into_owned();
                Ok(EtcdEntry { key, value: bytes("value")? })
            })
            .collect()
    }

    /// The files of the node that hold one of `needles`: its disk (etcd, images, the root file
    /// systems of containers, the kubelet's folder), its logs and containerd's run-time state.
    /// What pods have in memory is not among them: tmpfs volumes, Secrets, tokens.
    ///
    /// # Errors
    ///
    /// If a needle is empty or has a line break, or `grep` cannot be run.
    pub fn files_with(&self, needles: &[&[u8]]) -> Result<Vec<PathBuf>> {
        let mut patterns = tempfile::NamedTempFile::new().context("cannot make a file")?;
        for needle in needles {
            if needle.is_empty() || needle.contains(&b'\n') {
                bail!("cannot search for an empty text or one of several lines");
            }
            patterns.write_all(needle).context("cannot write the patterns")?;
            patterns.write_all(b"\n").context("cannot write the patterns")?;
        }
        patterns.flush().context("cannot write the patterns")?;

        // The host sees the folder without the node's mounts. Of the node's own file systems,
        // those at these places are no disk here, but would be on another node.
        let root = PathBuf::from(format!("/proc/{}/root", self.record.init.pid));
        let mut files = Vec::new();
        for folder in [self.layout.state().to_owned(), root.join("run"), root.join("var/log")] {
            list(&folder, &mut files);
        }
        // What is searched for stands there.
        files.retain(|file| *file != self.values());
        grep(patterns.path(), &files)
    }

    /// Sends a signal, such as `STOP`, to the process of a pod that runs `program`. Pods are known
    /// by their host names.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn signal(&self, pod: &str, program: &str, signal: &str) -> Result<()> {
        let pid = self.process(pod, program)?;
        // The shell's own `kill`: the program is in a package that a machine may lack.
        let sent = node::inside(&self.record, "sh")
            .args(["-c", "kill -$0 $1", signal, &pid.to_string()])
            .status()
            .context("cannot run `sh`")?;
        if !sent.success() {
            bail!("cannot send SIG{signal} to `{pod}`");
        }
        Ok(())
    }

    /// The root folder, as this machine sees it, of the process of a pod that runs `program`: its
    /// volumes are below it, those in memory too.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn root_of(&self, pod: &str, program: &str) -> Result<PathBuf> {
        let pid = self.process(pod, program)?;
        Ok(PathBuf::from(format!("/proc/{}/root/proc/{pid}/root", self.record.init.pid)))
    }

    fn process(&self, pod: &str, program: &str) -> Result<u32> {
        let proc = format!("/proc/{}/root/proc", self.record.init.pid);
        let is_it = |process: &Process| {
            let name = fs::read_to_string(format!("{proc}/{}/root/etc/hostname", process.pid));
            process.command_line.starts_with(program.as_bytes())
                && name.is_ok_and(|name| name.trim() == pod)
        };
        let processes = self.processes()?;
        let process = processes.iter().find(|process| is_it(process));
        Ok(process.with_context(|| format!("`{pod}` runs no `{program}`"))?.pid)
    }

    /// The CPU time that a process has taken so far, its ended threads included, to some milliseconds.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn cpu_time(&self, pid: u32) -> Result<Duration> {
        let file = format!("/proc/{}/root/proc/{pid}/stat", self.record.init.pid);
        let stat = fs::read_to_string(&file).with_context(|| format!("cannot read `{file}`"))?;
        // A program's name may hold anything, also a parenthesis.
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>().context("no number")?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Every process of the node, those of pods included.
    ///
    /// # Errors
    ///
    /// If the node is gone.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let folder = format!("/proc/{}/root/proc", self.record.init.pid);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{folder}`"))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                // It may have ended since.
                let command_line = fs::read(entry.path().join("cmdline")).ok()?;
                Some(Process { pid, command_line })
            })
            .collect())
    }
}

/// Whether a value is found only where it came to: no words, no padding, and some length.
fn is_telling(value: &[u8]) -> bool {
    let letters: BTreeSet<u8> = value.iter().copied().collect();
    (12..=1024).contains(&value.len())
        && value.iter().all(u8::is_ascii_graphic)
        && letters.len() >= 6
}

/// The regular files below a folder, without leaving its file system.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(device) = fs::symlink_metadata(folder).map(|is| is.dev()) else { return };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What vanishes meanwhile is not there.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(is) = fs::symlink_metadata(entry.path()) else { continue };
            if is.dev() != device {
                continue;
            }
            if is.is_dir() {
                folders.push(entry.path());
            } else if is.is_file() {
                files.push(entry.path());
            }
        }
    }
}

/// `grep` is quicker over some hundred megabytes than an unoptimised test binary.
fn grep(patterns: &Path, files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut child = Command::new("xargs")
        .args(["--null", "--no-run-if-empty", "grep"])
        .args(["--fixed-strings", "--text", "--files-with-matches", "--null", "--no-messages"])
        .arg("--file")
        .arg(patterns)
        .arg("--")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run `xargs` and `grep`")?;
    let mut input = child.stdin.take().context("no standard input")?;
    let mut names = Vec::new();
    for file in files {
        names.extend_from_slice(file.as_os_str().as_bytes());
        names.push(0);
    }
    // On its own thread: with many findings both pipes fill up.
    let writer = std::thread::spawn(move || input.write_all(&names));
    let output = child.wait_with_output().context("cannot wait for `grep`")?;
    if let Ok(written) = writer.join() {
        written.context("cannot tell `xargs` the files")?;
    }
    // 123: some grep found nothing, or a file has vanished.
    if !matches!(output.status.code(), Some(0 | 123)) {
        bail!("`grep` ended with {}", output.status);
    }
    Ok(output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)))
        .collect())
}

/// Asks etcd's JSON gateway; HTTP/1.0, so that the answer is what comes until the end.
async fn ask_etcd(path: &str, body: &str) -> Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect("127.0.0.1:2379").await.context("cannot reach the cluster's etcd")?;
    let request = format!(
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.context("cannot ask etcd")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("cannot read etcd's answer")?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no answer")?;
    let status = String::from_utf8_lossy(&answer[..end]).into_owned();
    if !status.lines().next().unwrap_or_default().contains(" 200 ") {
        bail!("etcd answered {}", status.lines().next().unwrap_or_default());
    }
    Ok(answer.split_off(end + 4))
}

/// The first key after all that begin with a prefix, as etcd wants it.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // No end: everything.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_range_follows_the_prefix() {
        assert_eq!(range_end("/registry/"), b"/registry0");
        assert_eq!(range_end(""), [0]);
    }

    #[test]
    fn what_is_short_or_may_stand_anywhere_is_not_remembered() {
        for value in ["gold", "xxxxxxxxxxxxxxxx", "the first version", "\u{e9}toile-du-nord"] {
            assert!(!is_telling(value.as_bytes()), "{value}");
        }
        assert!(is_telling(b"s3cret-value"));
    }

    #[test]
    fn a_needle_is_found_between_arbitrary_bytes_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content);
        fs::create_dir(folder.path().join("below")).unwrap();
        write("below/a", b"\0\xffcanary\0").unwrap();
        write("b", b"canar").unwrap();
        write("pattern", b"canary\n").unwrap();
        let mut files = Vec::new();
        list(folder.path(), &mut files);
        files.retain(|file| !file.ends_with("pattern"));

        let found = grep(&folder.path().join("pattern"), &files).unwrap();

        assert_eq!(found, [folder.path().join("below/a")]);
    }
}
