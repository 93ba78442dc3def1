//! A real ZooKeeper for one test: on loopback, on a port of its own, with data of its own.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use watchword_store::backend::zookeeper::{Settings, ZooKeeperBackend};
use watchword_store::location::DEFAULT_MAX_REQUEST_BYTES;

/// What of a server's configuration a test may want otherwise.
pub(crate) struct Options {
    pub(crate) jute_max_buffer: usize,
    pub(crate) max_session_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            jute_max_buffer: DEFAULT_MAX_REQUEST_BYTES,
            max_session_timeout: Duration::from_secs(10),
        }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    folder: TempDir,
    options: Options,
    port: u16,
    process: Child,
}

impl Server {
    pub(crate) fn start(options: Options) -> Self {
        assert!(
            Path::new(JAR).is_file(),
            "`{JAR}` is missing: this test starts a real ZooKeeper; apt-get install zookeeper"
        );
        let folder = TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = run(folder.path(), &options, port);
        let mut server = Self { folder, options, port, process };
        server.wait();
        server
    }

    /// Ends the process at once, as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`Server::kill`], with the same data on the same port.
    pub(crate) fn restart(&mut self) {
        self.process = run(self.folder.path(), &self.options, self.port);
        self.wait();
    }

    /// Lets the process stand still: connections stay, and nothing answers.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Ends [`Server::freeze`].
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) fn settings(&self, root: &str) -> Settings {
        Settings {
            digest: None,
            hosts: format!("127.0.0.1:{}", self.port),
            max_request_bytes: self.options.jute_max_buffer,
            root: root.to_owned(),
        }
    }

    pub(crate) fn backend(&self, root: &str) -> ZooKeeperBackend {
        ZooKeeperBackend::new(self.settings(root))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits until it listens.
    fn wait(&mut self) {
        // A minute, so that a server that hangs does not hold the tests for ever.
        let mut attempts = 3000;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("ZooKeeper ended ({status}):\n{log}");
            }
            attempts -= 1;
            assert!(attempts > 0, "ZooKeeper does not listen after a minute");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(folder: &Path, options: &Options, port: u16) -> Child {
    let data = folder.join("data");
    let configuration = folder.join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=200\n\
         maxSessionTimeout={}\nmaxClientCnxns=0\nadmin.enableServer=false\n",
        data.display(),
        options.max_session_timeout.as_millis(),
    );
    std::fs::write(&configuration, text).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    Command::new("java")
        .arg("-Xmx256m")
        .arg(format!("-Djute.maxbuffer={}", options.jute_max_buffer))
        .args(["-cp", JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("cannot run `java`: apt-get install zookeeper brings it")
}

/// Where Debian's package `zookeeper` has the server.
const JAR: &str = "/usr/share/java/zookeeper.jar";
