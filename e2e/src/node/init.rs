//! PID 1 of a node.
//!
//! It makes the node's mounts and links, starts the daemons in order, reaps every orphan
//! (containerd's shims are its), and ends when its standard input does. The end of a daemon is a
//! failure that it reports with the daemon's last words, and then ends itself: half a node would
//! only make tests fail in stranger ways.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{process, thread};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::WaitOptions;

use super::daemons::{self, Daemon};
use super::layout::{INSIDE, INSIDE_BIN};
use super::tools::tail;

/// What PID 1 is told on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArguments {
    /// The cluster's folder
    #[arg(long)]
    pub state: PathBuf,
    /// A program that the daemons may find by PATH; may be given several times
    #[arg(long = "program")]
    pub programs: Vec<PathBuf>,
    /// Record whole requests for pods and Watchword's resources
    #[arg(long)]
    pub audit: bool,
}

/// Runs the node until standard input ends or a daemon does. Never returns.
pub fn init(arguments: &InitArguments) -> ! {
    // First of all, so that the life line counts from the start.
    thread::spawn(|| {
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        process::exit(0);
    });
    let Err(error) = run(arguments);
    fail(&format!("{error:#}\n"))
}

fn run(arguments: &InitArguments) -> Result<std::convert::Infallible> {
    prepare_mounts(arguments).context("cannot prepare the node's mounts")?;
    prepare_network().context("cannot prepare the node's network")?;

    // Nothing waits for a child before this line, nothing but `reap` after it.
    let running = Running::default();
    for daemon in daemons::first(arguments.audit) {
        running.start(&daemon)?;
    }
    let later = running.clone();
    thread::spawn(move || {
        if let Err(error) = start_second(&later) {
            fail(&format!("{error:#}\n"));
        }
    });
    reap(&running)
}

/// Waits for the API server, then starts what needs it.
fn start_second(running: &Running) -> Result<()> {
    wait_for_api_server()?;
    for daemon in daemons::second() {
        running.start(&daemon)?;
    }
    fs::write(format!("{INSIDE}/started"), "").context("cannot write the mark of a started node")
}

fn wait_for_api_server() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(async {
        let client = super::launch::client(Path::new(&format!("{INSIDE}/kubeconfig"))).await?;
        // No deadline: whoever waits for the node has one.
        while !super::launch::is_api_server_ready(&client).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
}

/// The daemons that run, by process id.
#[derive(Clone, Debug, Default)]
struct Running(Arc<Mutex<BTreeMap<i32, &'static str>>>);

impl Running {
    fn start(&self, daemon: &Daemon) -> Result<()> {
        let log = log(daemon.name);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open `{log}`"))?;
        // Locked across the start, so that `reap` cannot meet a process that is not listed yet.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Command::new(format!("{INSIDE_BIN}/{}", daemon.name))
            .args(&daemon.arguments)
            .env_clear()
            .env("PATH", INSIDE_BIN)
            // Collecting less often takes memory and spares a tenth of the processor time.
            .env("GOGC", "300")
            .env("HOME", "/run")
            .env("TMPDIR", "/run")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share a log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", daemon.name))?;
        running.insert(child.id().cast_signed(), daemon.name);
        Ok(())
    }

    fn name(&self, pid: i32) -> Option<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&pid).copied()
    }
}

fn reap(running: &Running) -> Result<std::convert::Infallible> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let Some(name) = running.name(pid.as_raw_nonzero().get()) else { continue };
                let status = ExitStatus::from_raw(status.as_raw());
                bail!("{name} ended ({status}); last lines of its log:\n{}", last_lines(name));
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for children"),
        }
    }
}

fn prepare_mounts(arguments: &InitArguments) -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("cannot make mounts shared")?;
    // Programs and the folder may lie anywhere but below these three.
    for path in ["/run", "/var/lib", "/var/log"] {
        tmpfs(path)?;
    }
    for folder in [INSIDE, INSIDE_BIN, "/run/lock", "/run/containerd", "/var/lib/kubelet"] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{folder}`"))?;
    }
    bind(&arguments.state, INSIDE)?;
    for program in &arguments.programs {
        let name = program.file_name().context("a program without a name")?;
        symlink(program, Path::new(INSIDE_BIN).join(name))
            .with_context(|| format!("cannot link `{}`", program.display()))?;
    }
    // The kubelet would set these for the whole host.
    for (name, value) in
        [("kernel/panic", "10"), ("kernel/panic_on_oops", "1"), ("vm/overcommit_memory", "1")]
    {
        let file = format!("/run/sysctl.{}", name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).with_context(|| format!("cannot write `{file}`"))?;
        bind(Path::new(&file), &format!("/proc/sys/{name}"))?;
    }
    Ok(())
}

fn prepare_network() -> Result<()> {
    rustix::system::sethostname(b"node-1").context("cannot set the host name")?;
    // A bridge without ports because kernels may lack dummy links. The default route exists only
    // so that a Service's address has a route before it is translated.
    for line in [
        "link set lo up",
        "link add node0 type bridge",
        "addr add 10.99.0.1/32 dev node0",
        "link set node0 up",
        "route add default dev node0",
    ] {
        let output = Command::new("ip")
            .args(line.split(' '))
            .output()
            .with_context(|| format!("cannot run `ip {line}`"))?;
        if !output.status.success() {
            bail!("`ip {line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot enable forwarding")?;
    let filter = Path::new(BRIDGE_FILTER);
    if filter.exists() {
        fs::write(filter, "1").with_context(|| format!("cannot write `{BRIDGE_FILTER}`"))?;
    }
    Ok(())
}

fn tmpfs(path: &str) -> Result<()> {
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"mode=755")
        .with_context(|| format!("cannot mount tmpfs on `{path}`"))
}

fn bind(from: &Path, to: &str) -> Result<()> {
    rustix::mount::mount_bind(from, to)
        .with_context(|| format!("cannot bind `{}` to `{to}`", from.display()))
}

/// Leaves the reason where the holder finds it, and ends the node.
fn fail(reason: &str) -> ! {
    fs::write(format!("{INSIDE}/failure.txt"), reason).ok();
    eprintln!("{reason}");
    process::exit(1);
}

fn last_lines(name: &str) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log(name)) {
        file.read_to_end(&mut text).ok();
    }
    tail(&String::from_utf8_lossy(&text), 15)
}

fn log(name: &str) -> String {
    format!("{INSIDE}/logs/{name}.log")
}

/// Exists where traffic over bridges passes the packet filter.
pub(crate) const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
