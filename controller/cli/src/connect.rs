//! The connection to a store: one stream, TLS 1.3 on it, HTTP/1.1 in that.
//!
//! Either through the cluster, as the person that the kubeconfig says ([`cluster`], [`identity`]), or
//! straight to an address with a token. The store is known by one certificate authority in both
//! cases, and by no other that this machine may trust; nothing is sent before it is.

mod body;
mod cluster;
mod identity;

use std::{
    env, fmt, fs,
    io::{self, Write},
    iter,
    path::{Path, PathBuf},
    pin::pin,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

pub(crate) use body::RequestBody;
pub(crate) use identity::IdentityError;

use body::{MAX_ANSWER_BYTES, collect, next_data};

/// Which store to connect to, and as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// Straight to an address.
    Address {
        /// Where.
        address: Address,
        /// The certificates (PEM) to know the store by.
        ca_file: PathBuf,
        /// Where the bearer token is; without, in the environment.
        token_file: Option<PathBuf>,
    },
    /// To a pod of a cluster's store.
    Cluster {
        /// The kubeconfig's context, instead of its current one.
        context: Option<String>,
        /// The kubeconfig, instead of `KUBECONFIG` or the one in the home directory.
        kubeconfig: Option<PathBuf>,
        /// Where Watchword runs.
        system_namespace: String,
    },
}

/// `https://HOST[:PORT]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Uri = text.parse().map_err(|_| "not a URL")?;
        // What is sent is a token and values, so there is no plain form.
        if url.scheme_str() != Some("https") {
            return Err("it must start with https://");
        }
        let authority = url.authority().ok_or("it names no host")?;
        if url.path() != "/" || url.query().is_some() || authority.as_str().contains('@') {
            return Err("give https://HOST[:PORT] and nothing else");
        }
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Which pods of a cluster's store may be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pods {
    /// Those that are ready.
    Ready,
    /// Others that run too, where none is ready: who runs the store asks it for the reason.
    Running,
}

/// Connects to a store.
///
/// # Errors
///
/// `Error` for whatever stands in the way up to the end of the TLS handshake.
pub(crate) async fn connect(target: &Target, pods: Pods) -> Result<Connection, Error> {
    match target {
        Target::Address { address, ca_file, token_file } => {
            connect_straight(address, ca_file, token_file.as_deref()).await
        }
        Target::Cluster { context, kubeconfig, system_namespace } => {
            cluster::connect(context.clone(), kubeconfig.as_deref(), system_namespace, pods).await
        }
    }
}

/// A client of the cluster's API server, for what is not asked of the store.
///
/// # Errors
///
/// `Error` where the target is an address, and for a kubeconfig that is of no use.
pub(crate) async fn cluster_client(target: &Target) -> Result<kube::Client, Error> {
    match target {
        Target::Address { .. } => Err(Error::NoCluster),
        Target::Cluster { context, kubeconfig, .. } => {
            cluster::client(context.clone(), kubeconfig.as_deref()).await
        }
    }
}

async fn connect_straight(
    address: &Address,
    ca_file: &Path,
    token_file: Option<&Path>,
) -> Result<Connection, Error> {
    let authority =
        fs::read(ca_file).map_err(|cause| Error::ReadFile { path: ca_file.to_owned(), cause })?;
    let tls = tls(roots(&authority, &format!("`{}`", ca_file.display()))?, None);
    let authorization = bearer(&token(token_file)?)?;
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let stream = timeout(CONNECT_TIME, connecting)
        .await
        .map_err(|_| Error::TimedOut)?
        .map_err(|cause| Error::Connect { address: address.to_string(), cause })?;
    open(stream, tls, &address.host, address.to_string(), Some(authorization)).await
}

/// The token to show at an address: a file's, else the environment's.
fn token(file: Option<&Path>) -> Result<Zeroizing<String>, Error> {
    let text = match file {
        Some(path) => fs::read_to_string(path)
            .map_err(|cause| Error::ReadFile { path: path.to_owned(), cause })?,
        None => env::var(TOKEN_VARIABLE).map_err(|_| Error::NoToken)?,
    };
    let text = Zeroizing::new(text);
    match text.trim() {
        "" => Err(Error::NoToken),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}

/// The header that shows a bearer token; marked so that nothing prints it.
fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut header = HeaderValue::from_str(&text).map_err(|_| Error::BadToken)?;
    header.set_sensitive(true);
    Ok(header)
}

/// The certificates of a PEM text, the only ones that vouch for the store. `origin` names it.
fn roots(pem: &[u8], origin: &str) -> Result<RootCertStore, Error> {
    let bad = || Error::BadAuthority { origin: origin.to_owned() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
    }
    match roots.is_empty() {
        true => Err(bad()),
        false => Ok(roots),
    }
}

/// TLS 1.3 only, as everything that talks to the store.
fn tls(roots: RootCertStore, certificate: Option<Arc<dyn ResolvesClientCert>>) -> ClientConfig {
    let config =
        ClientConfig::builder_with_protocol_versions(&[&TLS13]).with_root_certificates(roots);
    match certificate {
        None => config.with_no_client_auth(),
        Some(certificate) => config.with_client_cert_resolver(certificate),
    }
}

/// Makes a stream a connection to the store that is called `name` in its certificate.
async fn open(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    tls: ClientConfig,
    name: &str,
    host: String,
    authorization: Option<HeaderValue>,
) -> Result<Connection, Error> {
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::BadName { name: name.to_owned() })?;
    let handshake = TlsConnector::from(Arc::new(tls)).connect(server, stream);
    let stream = timeout(CONNECT_TIME, handshake)
        .await
        .map_err(|_| Error::TimedOut)?
        .map_err(|cause| handshake_failure(name, cause))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(exchange_failure)?;
    // It ends with the sender; what goes wrong in it, the sender's caller hears.
    tokio::spawn(connection);
    Ok(Connection { authorization, host, note: None, sender })
}

/// A failed handshake: somebody else answers, or nobody who speaks TLS 1.3.
fn handshake_failure(name: &str, cause: io::Error) -> Error {
    let name = name.to_owned();
    match cause.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::Distrust { name, cause },
        _ => Error::Handshake { name, cause },
    }
}

/// An open connection to a store.
pub(crate) struct Connection {
    /// Who is asking, if a header says so.
    pub(crate) authorization: Option<HeaderValue>,
    /// The `Host` header.
    pub(crate) host: String,
    /// What the person should know of what answers, if that is not in order.
    pub(crate) note: Option<String>,
    sender: SendRequest<RequestBody>,
}

impl Connection {
    /// Sends a request and takes in the whole answer, whatever its status, within `limit`.
    ///
    /// # Errors
    ///
    /// `Error` for a connection that breaks, an answer that does not come, or one that is too long.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Error> {
        let progress = request.body().progress();
        let mut exchange = pin!(async {
            let (head, body) = self.send(request).await?.into_parts();
            Ok(Response::from_parts(head, collect(body).await?))
        });
        let Some(progress) = progress else {
            return timeout(limit, exchange).await.map_err(|_| Error::TimedOut)?;
        };
        // What is streamed from a file takes as long as the store takes to keep it.
        loop {
            let before = progress.position();
            match timeout(STANDSTILL_TIME, exchange.as_mut()).await {
                Ok(answer) => return answer,
                Err(_) if progress.position() > before => {}
                Err(_) => return Err(Error::TimedOut),
            }
        }
    }

    /// Sends a request and writes the body of its answer to `sink` as it comes, if it is a success;
    /// what is refused is taken in whole, and given back.
    ///
    /// # Errors
    ///
    /// `Error` for a connection that breaks or goes silent, and for a sink that takes no more.
    pub(crate) async fn download(
        &mut self,
        request: Request<RequestBody>,
        sink: &mut impl Write,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Error> {
        let answer = timeout(STANDSTILL_TIME, self.send(request));
        let (head, mut body) = answer.await.map_err(|_| Error::TimedOut)??.into_parts();
        if !head.status.is_success() {
            let body =
                timeout(EXCHANGE_TIME, collect(body)).await.map_err(|_| Error::TimedOut)??;
            return Ok(Response::from_parts(head, body));
        }
        // Long is not the same as silent: the limit is for each piece. Before the first the store
        // lists all records.
        while let Some(data) =
            timeout(STANDSTILL_TIME, next_data(&mut body)).await.map_err(|_| Error::TimedOut)??
        {
            sink.write_all(&data).map_err(Error::Write)?;
        }
        Ok(Response::from_parts(head, Zeroizing::default()))
    }

    async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        self.sender.ready().await.map_err(exchange_failure)?;
        self.sender.send_request(request).await.map_err(exchange_failure)
    }
}

/// A broken exchange. Of an end in the middle TLS says more than anybody at a terminal wants to know.
fn exchange_failure(error: hyper::Error) -> Error {
    let causes = iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let mut io = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    match io.any(|cause| cause.kind() == io::ErrorKind::UnexpectedEof) {
        true => Error::Ended,
        false => Error::Exchange(error),
    }
}

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the store's answer is longer than {MAX_ANSWER_BYTES} bytes")]
    AnswerTooLong,
    #[error("{origin} holds no certificate authority in PEM form")]
    BadAuthority { origin: String },
    #[error("`{name}` cannot be the name of a server")]
    BadName { name: String },
    #[error("the token holds characters that no header can")]
    BadToken,
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot trust what answers as `{name}`")]
    Distrust {
        name: String,
        #[source]
        cause: io::Error,
    },
    #[error("the store, or something on the way to it, ended the connection")]
    Ended,
    #[error("the connection to the store broke")]
    Exchange(#[source] hyper::Error),
    #[error("cannot begin TLS 1.3 with what answers as `{name}`")]
    Handshake {
        name: String,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("an address leads to a store, and to no cluster: leave --address out")]
    NoCluster,
    #[error("there is no token to show at this address")]
    NoToken,
    #[error("cannot read `{path}`", path = .path.display())]
    ReadFile {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the store does not answer in time")]
    TimedOut,
    #[error("cannot write what the store sends")]
    Write(#[source] io::Error),
}

impl Error {
    /// Whether it may be gone with another connection: replicas come and go, and none keeps a
    /// connection for ever.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Ended | Self::Exchange(_) | Self::TimedOut)
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Identity(error) => error.hint(),
            Self::NoToken => Some(format!("set {TOKEN_VARIABLE} or give --token-file")),
            _ => None,
        }
    }
}

/// The environment variable with the token for an address.
const TOKEN_VARIABLE: &str = "WATCHWORD_TOKEN";

/// How long a connection and, again, a handshake may take: a person waits, and a cluster that takes
/// longer than this has something that the person should hear of.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// How long one request may take, up to the last byte of the answer.
pub(crate) const EXCHANGE_TIME: Duration = Duration::from_secs(60);

/// How long nothing may come of a request that has the store go through all records: a file that is
/// sent may stand still, because what is on its way already, some MiB, is written record by record;
/// a backup begins when all are listed; and a check or a list answers when it is through.
pub(crate) const STANDSTILL_TIME: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://store.example", "store.example:443")]
    #[case("https://store.example/", "store.example:443")]
    #[case("https://127.0.0.1:8443", "127.0.0.1:8443")]
    #[case("https://[::1]:8443", "[::1]:8443")]
    fn an_address_is_a_host_and_a_port(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("http://store.example", "it must start with https://")]
    #[case("store.example:443", "it must start with https://")]
    #[case("https://store.example/secrets", "give https://HOST[:PORT] and nothing else")]
    #[case("https://store.example/?a=b", "give https://HOST[:PORT] and nothing else")]
    #[case("https://user:password@store.example", "give https://HOST[:PORT] and nothing else")]
    #[case("https://", "not a URL")]
    fn anything_else_is_no_address(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<Address>(), Err(expected));
    }

    #[test]
    fn a_token_loses_the_newline_that_files_end_with() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc.def\n").unwrap();

        let header = bearer(&token(Some(file.path())).unwrap()).unwrap();

        assert_eq!(header, "Bearer abc.def");
        assert!(header.is_sensitive());
    }

    #[test]
    fn a_file_without_a_certificate_is_no_authority() {
        let error = roots(b"nothing here", "`ca.crt`").unwrap_err();

        assert_eq!(error.to_string(), "`ca.crt` holds no certificate authority in PEM form");
    }
}
