//! A store for tests: real TLS by rustls, real sockets, and answers from a closure.
//!
//! Shared by the tests and by the bench; each uses a part of it.

#![allow(dead_code)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{
    NamedGroup, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;
use watchword_protocol::{EnvSecret, FileSecret, ResolveAnswer, SecretBytes};

/// The value that no message may show.
pub(crate) const CANARY: &str = "c4n4ry-v4lue";

/// A store that listens on this machine.
pub(crate) struct Store {
    pub(crate) port: u16,
    pub(crate) ca: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) version: ProtocolVersion,
    pub(crate) group: NamedGroup,
}

/// What the store says.
pub(crate) struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Store {
    /// Answers the n-th request, from 0, with what `answer` returns.
    pub(crate) fn start(answer: impl FnMut(usize, &Seen) -> Reply + Send + 'static) -> Self {
        Self::start_with(&rustls::version::TLS13, answer)
    }

    pub(crate) fn start_with(
        version: &'static SupportedProtocolVersion,
        mut answer: impl FnMut(usize, &Seen) -> Reply + Send + 'static,
    ) -> Self {
        let (ca, config) = certificates(version);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up in the handshake is one of the cases.
                _ = serve(stream.unwrap(), &config, |request| {
                    let count = {
                        let mut record = record.lock().unwrap();
                        record.push(request.clone());
                        record.len() - 1
                    };
                    answer(count, request)
                });
            }
        });
        Self { port, ca, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Reply {
    pub(crate) fn env(secrets: &[(&str, &[u8])]) -> Self {
        let env = secrets.iter().map(|(name, value)| EnvSecret {
            name: (*name).to_owned(),
            value: SecretBytes::new(value.to_vec()),
        });
        Self::answer(&ResolveAnswer { env: env.collect(), files: Vec::new() })
    }

    pub(crate) fn files(secrets: &[(&str, &[u8])]) -> Self {
        let files = secrets.iter().map(|(name, value)| FileSecret {
            name: (*name).to_owned(),
            value: SecretBytes::new(value.to_vec()),
        });
        Self::answer(&ResolveAnswer { env: Vec::new(), files: files.collect() })
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"code":"{code}","message":"{message}"}}"#);
        Self::raw(status, "", body.into_bytes())
    }

    pub(crate) fn raw(status: u16, headers: &str, body: Vec<u8>) -> Self {
        Self { status, headers: headers.to_owned(), body }
    }

    fn answer(answer: &ResolveAnswer) -> Self {
        Self::raw(200, "content-type: application/json\r\n", serde_json::to_vec(answer).unwrap())
    }
}

/// A container as the webhook makes it: a token, and the agent's variables.
pub(crate) struct Container {
    pub(crate) folder: TempDir,
    url: String,
    ca: String,
}

impl Container {
    pub(crate) fn of(store: &Store) -> Self {
        Self::at(&store.url(), &store.ca)
    }

    pub(crate) fn at(url: &str, ca: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "t0ken\n").unwrap();
        fs::write(folder.path().join("termination-log"), "").unwrap();
        Self { folder, url: url.to_owned(), ca: ca.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent, with nothing in its environment but what a pod has.
    pub(crate) fn agent(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("WATCHWORD_STORE", &self.url)
            .env("WATCHWORD_CA", &self.ca)
            .env("WATCHWORD_CONTAINER", "web")
            .env("WATCHWORD_REVISION", "web-1")
            .env("WATCHWORD_TOKEN", self.path("token"))
            .env("WATCHWORD_TERMINATION_LOG", self.path("termination-log"));
        command
    }

    pub(crate) fn termination_message(&self) -> String {
        fs::read_to_string(self.path("termination-log")).unwrap()
    }
}

/// The binary under test; the bench can measure another build of it.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("WATCHWORD_AGENT")
        .map_or_else(|| env!("CARGO_BIN_EXE_watchword-agent").into(), PathBuf::from)
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn certificates(version: &'static SupportedProtocolVersion) -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();

    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca.pem(), Arc::new(config))
}

fn serve(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    answer: impl FnOnce(&Seen) -> Reply,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;

    let connection = &stream.get_ref().conn;
    let seen = Seen {
        head,
        body: String::from_utf8(body).unwrap(),
        version: connection.protocol_version().unwrap(),
        group: connection.negotiated_key_exchange_group().unwrap().name(),
    };
    let Reply { status, headers, body } = answer(&seen);

    let stream = stream.get_mut();
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} -\r\n{headers}content-length: {length}\r\n\r\n")?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}
