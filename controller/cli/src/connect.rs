//! The connection to a store: one stream, TLS 1.3 on it, HTTP/1.1 in that.
//!
//! Either through the cluster, as the person that the kubeconfig says ([`cluster`], [`identity`]), or
//! straight to an address with a token. The store is known by one certificate authority in both
//! cases, and by no other that this machine may trust; nothing is sent before it is.

mod cluster;
mod identity;

use std::{
    convert::Infallible,
    env, fmt, fs, io,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri};
use hyper::{
    body::{Body, Buf, Frame, Incoming, SizeHint},
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

pub(crate) use identity::IdentityError;

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

/// Connects to a store.
///
/// # Errors
///
/// `Error` for whatever stands in the way up to the end of the TLS handshake.
pub(crate) async fn connect(target: &Target) -> Result<Connection, Error> {
    match target {
        Target::Address { address, ca_file, token_file } => {
            connect_straight(address, ca_file, token_file.as_deref()).await
        }
        Target::Cluster { context, kubeconfig, system_namespace } => {
            cluster::connect(context.clone(), kubeconfig.as_deref(), system_namespace).await
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
        http1::handshake(TokioIo::new(stream)).await.map_err(Error::Exchange)?;
    // It ends with the sender; what goes wrong in it, the sender's caller hears.
    tokio::spawn(connection);
    Ok(Connection { authorization, host, sender })
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
    sender: SendRequest<RequestBody>,
}

impl Connection {
    /// Sends a request and takes in the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// `Error` for a connection that breaks, an answer that does not come, or one that is too long.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Error> {
        timeout(EXCHANGE_TIME, async {
            self.sender.ready().await.map_err(Error::Exchange)?;
            let answer = self.sender.send_request(request).await.map_err(Error::Exchange)?;
            let (head, body) = answer.into_parts();
            Ok(Response::from_parts(head, collect(body).await?))
        })
        .await
        .map_err(|_| Error::TimedOut)?
    }
}

async fn collect(body: Incoming) -> Result<Zeroizing<Vec<u8>>, Error> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_ANSWER_BYTES {
        return Err(Error::AnswerTooLong);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    let mut body = pin!(body);
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        let Ok(data) = frame.map_err(Error::Exchange)?.into_data() else { continue };
        if bytes.len() + data.remaining() > MAX_ANSWER_BYTES {
            return Err(Error::AnswerTooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The body of a request, wiped when it is sent. (The TLS library's own buffers are not.)
pub(crate) struct RequestBody(Option<Zeroizing<Vec<u8>>>);

impl RequestBody {
    /// A body of these bytes.
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        // HTTP has no frame of no bytes.
        Self((!bytes.is_empty()).then_some(bytes))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl Body for RequestBody {
    type Data = io::Cursor<Zeroizing<Vec<u8>>>;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(io::Cursor::new(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
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
}

impl Error {
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
const EXCHANGE_TIME: Duration = Duration::from_secs(60);

/// The longest answer: a list of a quarter of a million of the longest names.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

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

    #[test]
    fn a_body_says_its_length() {
        let body = RequestBody::new(Zeroizing::new(b"12345".to_vec()));

        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(RequestBody::new(Zeroizing::default()).is_end_stream());
    }
}
