//! A cluster as stories see it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use watchword_e2e::{Cluster, run};
//!
//! run(async |cluster: Cluster| {
//!     let namespace = cluster.namespace("greeting").await?;
//!     namespace.apply("{apiVersion: v1, kind: Pod, …}").await?;
//!     namespace.pod_phase("greeter", "Succeeded", Duration::from_secs(30)).await?;
//!     assert_eq!(namespace.logs("greeter", None).await?, "hello\n");
//!     anyhow::Ok(())
//! });
//! ```
//!
//! Which cluster it is, the environment says: `WATCHWORD_E2E_CLUSTER` names one of
//! `local-cluster`'s, else `KUBECONFIG` leads to any other. Neither is an error, said at once.

mod apply;
mod certificate;
mod diagnose;
mod gate;
mod https;
mod identity;
mod local;
mod namespace;
mod own;
mod pods;
mod rights;
mod story;
mod wait;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fmt};

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use certificate::{ClientAuthority, ClientCertificate};
pub use gate::Gate;
pub use https::{Answer, Https, Request, answered};
pub use local::{EtcdEntry, LocalNode, Process};
pub use namespace::Namespace;
pub use own::{SEALED, run_alone, run_audited};
pub use pods::{ExecOutput, restarts};
pub use story::{Outcome, run, skip};
pub use wait::{Observation, wait_for};

use crate::cache::{Cache, ClusterName};
use crate::node::{Layout, Record};
use crate::watchword::{LIMIT, is_busy};

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    access: Arc<Access>,
    /// Those that stories made, to be removed in the end.
    namespaces: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// The cluster that the environment names. For a local one the calling thread must be in its
    /// network, which [`run`] sees to.
    ///
    /// # Errors
    ///
    /// If the environment names none, or the one that it names cannot be used.
    pub async fn from_env() -> Result<Self> {
        Self::connect(Access::from_env()?).await
    }

    async fn connect(access: Access) -> Result<Self> {
        let config = access.config().await?;
        let client = Client::try_from(config).context("cannot make a client")?;
        Ok(Self { client, access: Arc::new(access), namespaces: Arc::default() })
    }

    /// The client, with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What only a local cluster lets one look at: etcd, the node's disk, its processes.
    pub fn local(&self) -> Option<LocalNode> {
        match &*self.access {
            Access::Local { layout, record } => {
                Some(LocalNode::new(layout.clone(), record.clone()))
            }
            Access::Remote => None,
        }
    }

    /// A command that runs on this machine and reaches the cluster: `KUBECONFIG` is set, and the
    /// cluster's `kubectl` is first on `PATH`. Standard input is closed.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        if let Access::Local { layout, record } = &*self.access {
            let folder = record.kubectl.parent().unwrap_or(Path::new("/"));
            let mut path = folder.as_os_str().to_owned();
            path.push(":");
            path.push(env::var_os("PATH").unwrap_or_default());
            command.env("KUBECONFIG", layout.kubeconfig()).env("PATH", path);
        }
        command
    }

    /// Runs `kubectl`; its exit code is the caller's to judge.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs `kubectl` with a text as its standard input, and again as long as the API server, or a
    /// webhook that it asks, is too busy for an answer.
    ///
    /// # Errors
    ///
    /// If it cannot be run, or there is no answer after [`LIMIT`].
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        wait_for(&format!("an answer to `kubectl {}`", arguments.join(" ")), LIMIT, async || {
            let output = self.kubectl_once(arguments, input).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success() || !is_busy(&said), "{said}");
            Ok(output)
        })
        .await
    }

    async fn kubectl_once(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let program = match &*self.access {
            Access::Local { record, .. } => record.kubectl.clone(),
            Access::Remote => PathBuf::from("kubectl"),
        };
        self.run_with(&program, arguments, input.as_bytes()).await
    }

    /// Runs a program with a standard input, and waits for its end.
    pub(crate) async fn run_with(
        &self,
        program: &Path,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{}`", program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without having read all; its exit code says more than a broken pipe.
            stdin.write_all(input).await.ok();
        }
        let ended = child.wait_with_output().await;
        ended.with_context(|| format!("cannot wait for `{}`", program.display()))
    }

    fn made_namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("access", &self.access).finish_non_exhaustive()
    }
}

/// How the cluster is reached.
#[derive(Debug)]
enum Access {
    /// Through the network of one of `local-cluster`'s.
    Local { layout: Layout, record: Record },
    /// As `kubectl` would, with `KUBECONFIG`.
    Remote,
}

impl Access {
    async fn config(&self) -> Result<Config> {
        let kubeconfig = match self {
            Self::Local { layout, .. } => Kubeconfig::read_from(layout.kubeconfig()),
            // It may be a list of files, which are merged.
            Self::Remote => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.context("cannot read the kubeconfig")?;
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("cannot use the kubeconfig")
    }

    fn from_env() -> Result<Self> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some(name) = set("WATCHWORD_E2E_CLUSTER") else {
            if set("KUBECONFIG").is_some() {
                return Ok(Self::Remote);
            }
            bail!(
                "no cluster to run on\n\n\
                 hint: `make e2e` starts one and runs the stories\n\
                 hint: set WATCHWORD_E2E_CLUSTER to the name of one that `local-cluster up` started\n\
                 hint: or set KUBECONFIG to use any other cluster"
            );
        };
        let name: ClusterName = name.parse()?;
        let layout = Layout::new(&Cache::from_env()?, &name);
        match Record::of(&layout) {
            Some(record) if record.is_alive() => Ok(Self::Local { layout, record }),
            _ => bail!(
                "the local cluster `{name}` does not run\n\n\
                 hint: local-cluster up --name {name}"
            ),
        }
    }
}
