//! A real ZooKeeper on the node, where pods reach it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, wait_for};

/// One server with data of its own; it ends with the value.
pub(crate) struct ZooKeeper {
    cluster: Cluster,
    folder: TempDir,
    process: Child,
}

impl ZooKeeper {
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        ensure!(
            Path::new(JAR).is_file(),
            "`{JAR}` is missing: this story starts a real ZooKeeper; apt-get install zookeeper"
        );
        let folder = TempDir::new()?;
        // Sessions last two seconds, so that they are lost soon.
        let text = format!(
            "dataDir={}\nclientPort={PORT}\nclientPortAddress={ADDRESS}\ntickTime=200\n\
             maxSessionTimeout=2000\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            folder.path().join("data").display(),
        );
        std::fs::write(folder.path().join("zoo.cfg"), text)?;
        let process = run(cluster, folder.path())?;
        let mut server = Self { cluster: cluster.clone(), folder, process };
        server.listens().await?;
        Ok(server)
    }

    /// Ends the process at once, as a power cut does, and starts it again with what it has on disk.
    pub(crate) async fn crash(&mut self) -> Result<()> {
        self.process.kill().await?;
        self.process = run(&self.cluster, self.folder.path())?;
        self.listens().await
    }

    /// Lets it stand still: connections stay, and nothing answers.
    pub(crate) fn freeze(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::STOP)?)
    }

    /// Ends [`ZooKeeper::freeze`].
    pub(crate) fn thaw(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    fn pid(&self) -> Result<Pid> {
        let id = self.process.id().context("it has ended")?;
        Pid::from_raw(id.try_into()?).context("no process")
    }

    async fn listens(&mut self) -> Result<()> {
        let log = self.folder.path().join("log");
        let ended = self.process.try_wait()?;
        wait_for("ZooKeeper to listen", LIMIT, async || {
            if let Some(status) = ended {
                bail!("it has ended ({status}): {}", std::fs::read_to_string(&log)?);
            }
            Ok(TcpStream::connect((ADDRESS, PORT)).await.map(drop)?)
        })
        .await
    }
}

fn run(cluster: &Cluster, folder: &Path) -> Result<Child> {
    let log = std::fs::File::create(folder.join("log"))?;
    cluster
        .command("java")
        .args(["-Xmx256m", "-Djute.maxbuffer=2097152"])
        .args(["-cp", JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
        .arg(folder.join("zoo.cfg"))
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .spawn()
        .context("cannot run `java`: apt-get install zookeeper brings it")
}

/// The node's address, as `e2e/manifests/zookeeper` names it.
const ADDRESS: &str = "10.99.0.1";
const PORT: u16 = 2181;

/// Where Debian's package `zookeeper` has the server.
const JAR: &str = "/usr/share/java/zookeeper.jar";
