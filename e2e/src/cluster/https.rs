//! HTTPS as an attacker speaks it: what goes out is written byte for byte, so that no client
//! library makes a hostile path harmless or refuses to send half a request.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use watchword_crds::names;

use super::{Access, ClientCertificate, Cluster, wait_for};
use crate::watchword;

/// One of Watchword's own services, spoken to from outside any pod.
#[derive(Clone, Debug)]
pub struct Https {
    cluster: Cluster,
    /// Where it is, if not behind its Service.
    address: Option<(String, u16)>,
    /// Whom the client shows itself as.
    certificate: Option<ClientCertificate>,
    /// `store` or `webhook`.
    role: String,
    roots: Arc<RootCertStore>,
}

/// A request of JSON, or of nothing.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The path, as it is sent.
    pub path: String,
    /// The token of who asks.
    pub token: Option<String>,
    /// The body; null for none.
    pub body: Value,
}

/// What a service answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The lines of the head, without the first.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of a header, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Anything that bytes come from and go to.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Cluster {
    /// A role of Watchword that serves HTTPS: `store` or `webhook`, trusted as agents trust it.
    ///
    /// # Errors
    ///
    /// If there is no CA bundle.
    pub async fn https(&self, role: &str) -> Result<Https> {
        let bundles: Api<ConfigMap> = Api::namespaced(self.client(), names::NAMESPACE);
        let bundle = bundles.get("watchword-ca").await?.data.unwrap_or_default();
        let pem = bundle.get("ca.crt").context("the ConfigMap `watchword-ca` has no ca.crt")?;
        self.https_trusting(role, pem)
    }

    /// The same, trusted by a bundle in PEM.
    ///
    /// # Errors
    ///
    /// If the bundle is broken.
    pub fn https_trusting(&self, role: &str, pem: &str) -> Result<Https> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("a broken CA bundle")?)?;
        }
        Ok(Https {
            cluster: self.clone(),
            address: None,
            certificate: None,
            role: role.to_owned(),
            roots: Arc::new(roots),
        })
    }
}

impl Https {
    /// The same role at one address: one of its pods, or another port. Only what is in a local
    /// cluster's network reaches it.
    #[must_use]
    pub fn at(&self, address: &str, port: u16) -> Self {
        Self { address: Some((address.to_owned(), port)), ..self.clone() }
    }

    /// The same role, asked by somebody with this certificate.
    #[must_use]
    pub fn by(&self, certificate: &ClientCertificate) -> Self {
        Self { certificate: Some(certificate.clone()), ..self.clone() }
    }

    /// A plain connection, before any handshake.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub async fn connect(&self) -> Result<Box<dyn Stream>> {
        if let Some((address, port)) = &self.address {
            let stream = TcpStream::connect((address.as_str(), *port)).await;
            let stream = stream.with_context(|| format!("cannot connect to {address}:{port}"));
            return Ok(Box::new(stream?));
        }
        let client = self.cluster.client();
        match &*self.cluster.access {
            Access::Local { .. } => {
                let services: Api<Service> = Api::namespaced(client, names::NAMESPACE);
                let service = services.get(&format!("watchword-{}", self.role)).await?;
                let address = service.spec.and_then(|spec| spec.cluster_ip);
                let address = address.context("the Service has no address")?;
                let stream = TcpStream::connect((address.as_str(), 443)).await;
                Ok(Box::new(stream.with_context(|| format!("cannot connect to {address}"))?))
            }
            Access::Remote => {
                let pods: Api<Pod> = Api::namespaced(client, names::NAMESPACE);
                let labels = format!("app.kubernetes.io/component={}", self.role);
                let list = pods.list(&ListParams::default().labels(&labels)).await?;
                let pod = list.items.first().context("the role has no pod")?.name_any();
                let mut forwarded = pods.portforward(&pod, &[PORT]).await?;
                Ok(Box::new(forwarded.take_stream(PORT).context("no stream")?))
            }
        }
    }

    /// A connection on which the handshake is done.
    ///
    /// # Errors
    ///
    /// If nobody listens, or the certificate is not the service's.
    pub async fn handshake(&self) -> Result<TlsStream<Box<dyn Stream>>> {
        let config = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots));
        let config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some(ClientCertificate { certificate, key }) => config.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?,
        };
        let name = format!("watchword-{}.{}.svc", self.role, names::NAMESPACE);
        let name = ServerName::try_from(name).context("a broken name")?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.connect().await?).await.context("the handshake failed")
    }

    /// Sends one request and reads the answer. `headers` are whole lines.
    ///
    /// # Errors
    ///
    /// If there is no answer within the time limit.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[String],
        body: &[u8],
    ) -> Result<Answer> {
        let head = head(method, path, headers, body.len(), true);
        let answer = self.exchange(&[head.as_bytes(), body].concat()).await;
        parse(&answer.with_context(|| format!("{method} {path}"))?)
    }

    /// Asks with a token and JSON, and again as [`answered`] says.
    ///
    /// # Errors
    ///
    /// As for [`answered`].
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Answer> {
        let answer = answered(async || self.ask_once(method, path, token, body).await).await;
        answer.with_context(|| format!("{method} {path}"))
    }

    /// Asks with a token and JSON.
    ///
    /// # Errors
    ///
    /// As for [`Https::send`].
    pub async fn ask_once(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Answer> {
        let (headers, body) = with_token(token, body);
        self.send(method, path, &headers, body.as_bytes()).await
    }

    /// Asks one after another until an answer is 429, and returns that one and how many were sent.
    /// All others must have the status `refused`, where a busy service comes to an answer.
    ///
    /// # Errors
    ///
    /// None is 429 after [`watchword::LIMIT`], one is another, or the 429 does not say how long to
    /// wait.
    pub async fn until_told_to_wait(
        &self,
        refused: u16,
        request: impl Fn(usize) -> Request,
    ) -> Result<(Answer, usize)> {
        let sent = Cell::new(0);
        let told = wait_for("an answer that tells to wait", watchword::LIMIT, async || {
            let begin = sent.replace(sent.get() + AT_ONCE);
            let requests: Vec<_> = (begin..begin + AT_ONCE).map(&request).collect();
            for answer in self.ask_in_turn(&requests).await? {
                match answer.status {
                    429 => return Ok(Ok(answer)),
                    408 | 503 => {}
                    status if status == refused => {}
                    status => return Ok(Err(anyhow!("{status}: {}", answer.text()))),
                }
            }
            bail!("nothing but refusals")
        })
        .await??;
        ensure!(told.json()["code"] == "too_many_requests", "{}", told.text());
        let seconds: u64 = told.header("Retry-After").context("no Retry-After")?.parse()?;
        ensure!((1..=10).contains(&seconds), "{seconds}");
        Ok((told, sent.get()))
    }

    /// Asks all of these on one connection, so that a limit on how many there are in a second is
    /// reached on a slow machine too. There may be fewer answers than requests.
    async fn ask_in_turn(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let mut text = String::new();
        for (index, Request { method, path, token, body }) in requests.iter().enumerate() {
            let (headers, body) = with_token(token.as_deref(), body);
            let is_last = index + 1 == requests.len();
            text += &head(method, path, &headers, body.len(), is_last);
            text += &body;
        }
        let text = self.exchange(text.as_bytes()).await?;
        let (mut rest, mut answers) = (text.as_slice(), Vec::new());
        while let Ok(mut answer) = parse(rest) {
            let length = answer.header("Content-Length").context("no length")?.parse()?;
            if answer.body.len() < length {
                break;
            }
            let following = answer.body.split_off(length).len();
            rest = &rest[rest.len() - following..];
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Writes all of this and reads until the end of the connection.
    async fn exchange(&self, text: &[u8]) -> Result<Vec<u8>> {
        let exchange = async {
            let (mut reader, mut writer) = tokio::io::split(self.handshake().await?);
            let write = async {
                writer.write_all(text).await?;
                writer.flush().await
            };
            let mut answer = Vec::new();
            // Who refuses a body early does not read it to its end: then writing fails, and the
            // answer says why. Some end without a word to TLS.
            let (written, read) = tokio::join!(write, reader.read_to_end(&mut answer));
            ensure!(!answer.is_empty(), "no answer; written: {written:?}, read: {read:?}");
            Ok(answer)
        };
        timeout(EXCHANGE, exchange).await.context("no answer in time")?
    }
}

/// Makes a request again as long as nobody answers it, or the answer is that it took too long or
/// that the service cannot tell: on a busy machine any request may meet that, and may have been done
/// nonetheless. A sealed store is another answer, and so is work that broke.
///
/// # Errors
///
/// There is no other answer.
pub async fn answered(request: impl AsyncFn() -> Result<Answer>) -> Result<Answer> {
    wait_for("an answer", ANSWER, async || {
        let answer = request().await?;
        let text = answer.text();
        let is_final = text.contains(r#""code":"sealed""#) || text.contains("the request failed");
        let is_late = answer.status == 408 || (answer.status == 503 && !is_final);
        ensure!(!is_late, "{}: {text}", answer.status);
        Ok(answer)
    })
    .await
}

/// The lines before a body. `headers` are whole lines.
fn head(method: &str, path: &str, headers: &[String], length: usize, is_last: bool) -> String {
    let mut lines = vec![
        format!("{method} {path} HTTP/1.1"),
        "Host: watchword".to_owned(),
        format!("Content-Length: {length}"),
    ];
    lines.extend(is_last.then(|| "Connection: close".to_owned()));
    lines.extend_from_slice(headers);
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

/// The headers and the body of JSON, or of nothing, by somebody with a token.
fn with_token(token: Option<&str>, body: &Value) -> (Vec<String>, String) {
    let token = token.map(|token| format!("Authorization: Bearer {token}"));
    let json = Some("Content-Type: application/json".to_owned());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    (token.into_iter().chain(json).collect(), body)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let headers = head.lines().skip(1).map(str::to_owned).collect();
    Ok(Answer { status: status.context("no status")?, headers, body: answer[end + 4..].to_vec() })
}

/// How long an answer is waited for: a part of [`watchword::LIMIT`], so that a wait around it hears why
/// there was none.
const ANSWER: Duration = Duration::from_secs(200);

/// How many requests go over one connection.
const AT_ONCE: usize = 50;

/// Longer than any limit of the services.
const EXCHANGE: Duration = Duration::from_secs(60);
const PORT: u16 = 8443;
