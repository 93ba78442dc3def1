//! `local-cluster`: a real single-node Kubernetes for Watchword's tests and demo.
//!
//! Standard output carries data only (a kubeconfig's path, what `kubectl` prints); everything
//! else goes to standard error. Exit codes: 0, 1 refused or failed, 2 usage; `exec` and `kubectl`
//! end as their program does.

// This is a command: what it says is its result.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use rustls::crypto::aws_lc_rs;
use watchword_e2e::cache::{Cache, ClusterName};
use watchword_e2e::images::{self, WatchwordPrograms};
use watchword_e2e::node::{self, InitArguments, Layout, Record, State, UpOptions};
use watchword_e2e::progress::Progress;

/// A real single-node Kubernetes inside Linux namespaces, for Watchword's tests and demo
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The cluster's name
    #[arg(long, global = true, env = "WATCHWORD_E2E_CLUSTER", default_value_t)]
    name: ClusterName,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the programs that the cluster is made of, if that has not been done
    BuildTools,
    /// End the cluster and remove what it leaves
    Down {
        /// Keep its objects, images and keys for the next `up`
        #[arg(long)]
        keep: bool,
    },
    /// Run a program in the node's network, with KUBECONFIG set and kubectl on its PATH
    Exec {
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Make the images that tests use and load them into the cluster
    Images(ImagesArguments),
    #[command(hide = true)]
    Init(InitArguments),
    /// Print the path of the kubeconfig; its server answers in the node's network only
    Kubeconfig,
    /// Run kubectl against the cluster
    #[command(disable_help_flag = true)]
    Kubectl {
        /// kubectl's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Load image archives (docker-archive or oci-archive) into the cluster
    LoadImage {
        /// The archives
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the logs of the cluster's daemons
    Logs {
        /// One daemon only, such as `kubelet`
        daemon: Option<String>,
        /// How many lines of each
        #[arg(long, default_value_t = 40)]
        lines: usize,
    },
    /// Say what the cluster needs of this machine and is missing
    Prerequisites {
        /// Install it with apt-get
        #[arg(long)]
        install: bool,
    },
    /// Say what the cluster is doing
    Status,
    #[command(hide = true)]
    Supervise(UpArguments),
    /// Start the cluster and wait until pods can be made
    Up(UpArguments),
}

#[derive(Args)]
struct UpArguments {
    /// Record whole requests for pods and Watchword's resources in the log `audit`
    #[arg(long)]
    audit: bool,
    /// Do not wait until the cluster is ready
    #[arg(long)]
    detach: bool,
    /// Seconds to wait until the cluster is ready
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

impl UpArguments {
    fn options(self) -> Result<UpOptions> {
        let Self { audit, detach, timeout } = self;
        Ok(UpOptions {
            audit,
            detach,
            program: own_program()?,
            timeout: Duration::from_secs(timeout),
        })
    }
}

#[derive(Args)]
struct ImagesArguments {
    /// The agent's program; with it, Watchword's image is made too
    #[arg(long, requires = "controller")]
    agent: Option<PathBuf>,
    /// The controller's program
    #[arg(long, requires = "agent")]
    controller: Option<PathBuf>,
    /// Only make the archives
    #[arg(long)]
    no_load: bool,
}

fn main() -> ExitCode {
    let Arguments { name, action } = Arguments::parse();
    // Only the first caller succeeds, and this is it.
    aws_lc_rs::default_provider().install_default().ok();
    match run(&name, action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &ClusterName, action: Action) -> Result<ExitCode> {
    if let Action::Init(arguments) = &action {
        node::init(arguments);
    }
    let cache = Cache::from_env()?;
    let layout = Layout::new(&cache, name);
    let progress = Progress::new();
    match action {
        Action::BuildTools => {
            let tools = node::build_tools(&cache, &progress)?;
            for path in tools.paths() {
                println!("{}", path.display());
            }
        }
        Action::Down { keep } => {
            if !node::down(&layout, keep, &progress)? {
                progress.say(&format!("there is no cluster `{name}`"));
            }
        }
        Action::Exec { command } => exec(&layout, &command)?,
        Action::Images(arguments) => make_images(&cache, &layout, arguments, &progress)?,
        Action::Init(arguments) => node::init(&arguments),
        Action::Kubeconfig => {
            running(&layout)?;
            println!("{}", layout.kubeconfig().display());
        }
        Action::Kubectl { arguments } => {
            let mut command = vec![OsString::from("kubectl")];
            command.extend(arguments);
            exec(&layout, &command)?;
        }
        Action::LoadImage { files } => {
            node::load_images(&running(&layout)?, &files)?;
        }
        Action::Logs { daemon, lines } => logs(&layout, daemon.as_deref(), lines)?,
        Action::Prerequisites { install: true } => node::install_prerequisites(&progress)?,
        Action::Prerequisites { install: false } => node::demand_prerequisites()?,
        Action::Status => return Ok(status(&layout)),
        Action::Supervise(arguments) => node::supervise(&cache, &layout, &arguments.options()?)?,
        Action::Up(arguments) => {
            if node::up(&cache, &layout, &arguments.options()?, &progress)? {
                progress.say(&format!("cluster `{name}` is up"));
            } else {
                progress.say(&format!("cluster `{name}` is up already"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces this process by a program in the node's network.
fn exec(layout: &Layout, command: &[OsString]) -> Result<()> {
    let record = running(layout)?;
    let [program, arguments @ ..] = command else { bail!("no program") };
    let folder = record.kubectl.parent().unwrap_or(Path::new("/"));
    let mut path = OsString::from(folder);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    node::enter_network(&record)?;
    let error =
        Command::new(if program == "kubectl" { record.kubectl.as_os_str() } else { program })
            .args(arguments)
            .env("KUBECONFIG", layout.kubeconfig())
            .env("PATH", path)
            .exec();
    Err(error).with_context(|| format!("cannot run `{}`", program.display()))
}

fn make_images(
    cache: &Cache,
    layout: &Layout,
    arguments: ImagesArguments,
    progress: &Progress,
) -> Result<()> {
    let ImagesArguments { agent, controller, no_load } = arguments;
    let step = progress.step("making images");
    let mut archives = images::build_basic(cache)?;
    if let (Some(agent), Some(controller)) = (agent, controller) {
        let programs = WatchwordPrograms { agent, controller };
        archives.push(images::build_watchword(cache, &programs)?);
    }
    step.done();
    if !no_load {
        let step = progress.step("loading images");
        node::load_images(&running(layout)?, &archives)?;
        step.done();
    }
    for archive in archives {
        println!("{}", archive.display());
    }
    Ok(())
}

fn logs(layout: &Layout, daemon: Option<&str>, lines: usize) -> Result<()> {
    let folder = layout.logs();
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("no logs in `{}`", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| daemon.is_none_or(|name| path.file_stem().is_some_and(|stem| stem == name)))
        .collect();
    if paths.is_empty() {
        bail!("no log of `{}` in `{}`", daemon.unwrap_or("any daemon"), folder.display());
    }
    paths.sort();
    for path in paths {
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        println!("==> {} <==", path.display());
        for line in &all[all.len().saturating_sub(lines)..] {
            println!("{line}");
        }
        println!();
    }
    Ok(())
}

/// 0 if the cluster is ready, 1 otherwise.
fn status(layout: &Layout) -> ExitCode {
    let name = layout.name();
    match node::state(layout) {
        State::Failed(reason) => println!("cluster `{name}` has failed: {}", reason.trim()),
        State::Ready(record) => {
            println!("cluster `{name}` is ready (PID 1 is process {})", record.init.pid);
            return ExitCode::SUCCESS;
        }
        State::Starting(_, missing) => println!("cluster `{name}` waits for {missing}"),
        State::Stopped => println!("there is no cluster `{name}`"),
    }
    ExitCode::FAILURE
}

fn running(layout: &Layout) -> Result<Record> {
    match Record::of(layout) {
        Some(record) if record.is_alive() => Ok(record),
        _ => bail!(
            "there is no cluster `{}`\n\nhint: start it with `local-cluster up`",
            layout.name()
        ),
    }
}

fn own_program() -> Result<PathBuf> {
    env::current_exe().context("cannot find this program's own file")
}
