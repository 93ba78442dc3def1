//! Starting a node, and waiting until it is of use.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Request;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::cgroup::{self, ControlGroup};
use super::layout::{Layout, refuse_hidden};
use super::process::{ProcessIdentity, Record};
use super::tools::{Tools, tail};
use super::{configuration, init, keys, network, prerequisites};
use crate::progress::Step;

/// A node that lives as long as this value and as long as this process.
#[derive(Debug)]
pub struct Node {
    layout: Layout,
    record: Record,
    unshare: Child,
    /// Apart from the child, because waiting for that closes what it holds.
    _life_line: ChildStdin,
}

/// Starts a node. It is not ready yet: see [`wait_until_ready`].
///
/// `program` is a `local-cluster` binary, which becomes PID 1.
///
/// # Errors
///
/// If something that the node needs is missing, or PID 1 does not come up.
pub fn launch(layout: &Layout, tools: &Tools, program: &Path, audit: bool) -> Result<Node> {
    layout.create()?;
    layout.forget_last_start();
    keys::create(layout)?;
    cgroup::sweep();
    let holder = ProcessIdentity::own()?;
    let cgroup = ControlGroup::create(&holder)?;
    let bridge_filter = Path::new(init::BRIDGE_FILTER).exists();
    configuration::write(layout, &cgroup, &prerequisites::cni_plugins()?, bridge_filter)?;

    let mut unshare = spawn(layout, tools, program, audit)?;
    let life_line = unshare.stdin.take().context("no life line")?;
    let record = identify(&mut unshare).and_then(|(unshare, init)| {
        let record = Record {
            cgroup: cgroup.name.clone(),
            holder,
            unshare,
            init,
            kubectl: tools.path("kubectl")?.to_owned(),
            ctr: tools.path("ctr")?.to_owned(),
        };
        record.write(&layout.record())?;
        Ok(record)
    });
    match record {
        Ok(record) => Ok(Node { layout: layout.clone(), record, unshare, _life_line: life_line }),
        Err(error) => {
            unshare.kill().ok();
            unshare.wait().ok();
            cgroup::remove(&cgroup.name).ok();
            Err(error.context(format!("its log: {}", log_tail(layout, "init"))))
        }
    }
}

impl Node {
    /// Who runs the node, for what reaches into it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Waits until the node ends by itself, and says why. The supervisor does nothing else.
    ///
    /// # Errors
    ///
    /// If the process cannot be waited for.
    pub fn wait(&mut self) -> Result<String> {
        let status = self.unshare.wait().context("cannot wait for the node")?;
        let reason = fs::read_to_string(self.layout.failure())
            .unwrap_or_else(|_| format!("the node's PID 1 ended without a word ({status})"));
        fs::write(self.layout.failure(), &reason).ok();
        Ok(reason)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // `unshare` ignores SIGTERM, and `--kill-child` takes PID 1 with it.
        self.unshare.kill().ok();
        self.unshare.wait().ok();
        self.record.init.wait_gone(Duration::from_secs(60));
        remove_cgroup(&self.record.cgroup);
    }
}

/// Removes a control group whose processes have just been killed: the last of them may take a
/// moment to leave it.
pub(crate) fn remove_cgroup(name: &str) {
    for _ in 0..1000 {
        match cgroup::remove(name) {
            Ok(()) => return,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    eprintln!("warning: control groups called `{name}` are left; the next `up` sweeps them");
}

fn spawn(layout: &Layout, tools: &Tools, program: &Path, audit: bool) -> Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(layout.logs().join("init.log"))
        .context("cannot open the log of PID 1")?;
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"])
        .arg("--mount-proc")
        .arg("--")
        .arg(program)
        .arg("init")
        .arg("--state")
        .arg(layout.state());
    for path in tools.paths().map(Path::to_owned).chain(prerequisites::daemon_programs()?) {
        refuse_hidden(&path)?;
        command.arg("--program").arg(path);
    }
    if audit {
        command.arg("--audit");
    }
    command
        .current_dir("/")
        // The write end is kept, and closes when this process ends.
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("cannot share a log")?)
        .stderr(log)
        // A signal from the keyboard is not for the daemons.
        .process_group(0)
        .spawn()
        .context("cannot run `unshare`")
}

/// Waits for PID 1, the only child of `unshare`.
fn identify(unshare: &mut Child) -> Result<(ProcessIdentity, ProcessIdentity)> {
    let pid = unshare.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = unshare.try_wait().context("cannot wait for `unshare`")? {
            bail!("`unshare` ended ({status})");
        }
        let text =
            fs::read_to_string(&children).with_context(|| format!("cannot read `{children}`"))?;
        if let Some(init) = text.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            return Ok((ProcessIdentity::of(pid.cast_signed())?, ProcessIdentity::of(init)?));
        }
        if Instant::now() > deadline {
            bail!("`unshare` has made no process");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Imports image archives into the node's containerd.
///
/// # Errors
///
/// If containerd does not answer within 30 s, or refuses an archive.
pub fn import(record: &Record, archives: &[PathBuf]) -> Result<()> {
    wait_for_containerd(record)?;
    for archive in archives {
        let file = fs::File::open(archive)
            .with_context(|| format!("cannot open `{}`", archive.display()))?;
        // Through a pipe, because the node may not see the file.
        let output = network::inside(record, &record.ctr)
            .args(["--namespace=k8s.io", "images", "import", "--local", "-"])
            .stdin(file)
            .output()
            .context("cannot run `ctr`")?;
        if !output.status.success() {
            bail!(
                "cannot import `{}`: {}",
                archive.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        for image in unpacked(&String::from_utf8_lossy(&output.stdout)) {
            make_known(record, image)?;
        }
    }
    Ok(())
}

/// The images that `ctr` says it has unpacked.
fn unpacked(output: &str) -> impl Iterator<Item = &str> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("unpacking ")?.rsplit_once(" (").map(|(name, _)| name))
}

/// Has containerd look at an image anew. It passes over one that it marked as known before the
/// archive gave its name to another image, which pods could then run, but not mount as a volume.
fn make_known(record: &Record, image: &str) -> Result<()> {
    let output = network::inside(record, &record.ctr)
        .args(["--namespace=k8s.io", "images", "label", image, "io.cri-containerd.image="])
        .output()
        .context("cannot run `ctr`")?;
    if !output.status.success() {
        bail!("cannot make `{image}` known: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn wait_for_containerd(record: &Record) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let output = network::inside(record, &record.ctr)
            .args(["--connect-timeout=2s", "version"])
            .output()
            .context("cannot run `ctr`")?;
        if output.status.success() {
            return Ok(());
        }
        if !record.is_alive() {
            bail!("the node has ended");
        }
        if Instant::now() > deadline {
            bail!("containerd does not answer: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until pods can be made: the node is ready, free of taints, and the default namespace
/// has its service account.
///
/// # Errors
///
/// If the node ends or that takes longer than `timeout`.
pub fn wait_until_ready(
    layout: &Layout,
    record: &Record,
    timeout: Duration,
    step: &Step,
) -> Result<()> {
    let runtime = network::network_runtime(record)?;
    let kubeconfig = layout.kubeconfig();
    let deadline = Instant::now() + timeout;
    loop {
        let (kubeconfig, started) = (kubeconfig.clone(), layout.started_at());
        // Spawned, because only the runtime's own threads are in the node's network.
        let asked = runtime.spawn(async move {
            let client = client(&kubeconfig).await?;
            missing(&client, started).await
        });
        let missing = match runtime.block_on(asked).context("cannot ask the API server")? {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(_) => "the API server".to_owned(),
        };
        step.note(&format!("waiting for {missing}"));
        if !record.is_alive() {
            bail!("the node has ended");
        }
        if Instant::now() > deadline {
            let log = if missing == "the API server" { "kube-apiserver" } else { "kubelet" };
            bail!(
                "after {} s still waiting for {missing}; last lines of {log}.log:\n{}",
                timeout.as_secs(),
                log_tail(layout, log)
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What is missing until pods can be made; none if nothing is. What the kubelet reported before
/// `started`, in seconds since 1970, was said of an earlier start on the same files.
pub(crate) async fn missing(client: &Client, started: Option<i64>) -> Result<Option<String>> {
    if !is_api_server_ready(client).await {
        return Ok(Some("the API server".to_owned()));
    }
    let Some(started) = started else {
        return Ok(Some("the daemons to be started".to_owned()));
    };
    let Some(node) = Api::<KubernetesNode>::all(client.clone()).get_opt("node-1").await? else {
        return Ok(Some("the kubelet to register its node".to_owned()));
    };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let is_ready = conditions.iter().any(|condition| {
        let heartbeat = condition.last_heartbeat_time.as_ref();
        condition.type_ == "Ready"
            && condition.status == "True"
            && heartbeat.is_some_and(|time| time.0.as_second() >= started)
    });
    if !is_ready {
        return Ok(Some("the node to be ready".to_owned()));
    }
    if node.spec.and_then(|spec| spec.taints).is_some_and(|taints| !taints.is_empty()) {
        return Ok(Some("the node's taints to go".to_owned()));
    }
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    if accounts.get_opt("default").await?.is_none() {
        return Ok(Some("the default service account".to_owned()));
    }
    Ok(None)
}

/// A client that does not retry by itself: whoever waits asks again.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("cannot use the kubeconfig")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    Client::try_from(config).context("cannot make a client")
}

pub(crate) async fn is_api_server_ready(client: &Client) -> bool {
    let Ok(request) = Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok_and(|answer| answer == "ok")
}

/// The last lines of a daemon's log.
pub(crate) fn log_tail(layout: &Layout, name: &str) -> String {
    let path = layout.logs().join(format!("{name}.log"));
    match fs::read(&path) {
        Ok(bytes) => tail(&String::from_utf8_lossy(&bytes), 15),
        Err(_) => "(there is none)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_unpacked_images_are_read() {
        let output = "unpacking localhost/pause:1 (sha256:aa3a)...done\nother\n\
                      unpacking localhost/watchword:e2e (sha256:e981)...done\n";

        let names: Vec<_> = unpacked(output).collect();

        assert_eq!(names, ["localhost/pause:1", "localhost/watchword:e2e"]);
    }
}
