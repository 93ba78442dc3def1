//! A store in memory, behind TLS 1.3 on loopback.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    NamedGroup, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer, version::TLS13,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime, sync::oneshot};
use tokio_rustls::TlsAcceptor;

use crate::seal::Seal;

/// A store; it ends with the test process.
pub(crate) struct FakeStore {
    /// The authority to know it by, PEM.
    pub(crate) authority: String,
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What the store holds and has heard.
#[derive(Default)]
pub(crate) struct State {
    /// All versions of each secret, oldest first.
    pub(crate) secrets: BTreeMap<String, Vec<Vec<u8>>>,
    pub(crate) requests: Vec<Asked>,
    pub(crate) sealed: bool,
    /// Whether nobody may see versions, as who may list and not read.
    pub(crate) lists_only: bool,
    pub(crate) seal: Seal,
    /// Whether every connection ends with its first answer.
    pub(crate) hangs_up: bool,
    /// What every request gets, instead of an answer: status and body.
    pub(crate) refusal: Option<(u16, String)>,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl FakeStore {
    /// A store that is called `localhost`.
    pub(crate) fn start() -> Self {
        Self::start_as("localhost")
    }

    /// A store whose certificate has this name.
    pub(crate) fn start_as(name: &str) -> Self {
        let (authority, tls) = certify(name);
        let state = Arc::new(Mutex::new(State::default()));
        let (send, receive) = oneshot::channel();
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    send.send(listener.local_addr().unwrap()).unwrap();
                    serve(listener, TlsAcceptor::from(Arc::new(tls)), state).await;
                });
            }
        });
        Self { authority, address: receive.blocking_recv().unwrap(), state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a secret into the store without asking it.
    pub(crate) fn hold(&self, name: &str, value: &[u8]) {
        self.state().secrets.entry(name.to_owned()).or_default().push(value.to_vec());
    }

    /// The newest value of a secret.
    pub(crate) fn value(&self, name: &str) -> Option<Vec<u8>> {
        self.state().secrets.get(name).and_then(|versions| versions.last().cloned())
    }

    /// The only request that has come.
    pub(crate) fn only_request(&self) -> Asked {
        let state = self.state();
        assert_eq!(state.requests.len(), 1, "{:?}", state.requests);
        state.requests[0].clone()
    }
}

fn certify(name: &str) -> (String, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority);

    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.unwrap().der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (authority.pem(), tls)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A client that does not trust us goes away; that is its right.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let group = stream.get_ref().1.negotiated_key_exchange_group();
            assert_eq!(group.map(|group| group.name()), Some(NamedGroup::X25519MLKEM768));
            let answer = service_fn(|request| answer(Arc::clone(&state), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body: collect(body).await,
    };
    let mut state = state.lock().unwrap();
    state.requests.push(asked.clone());
    let mut answer = state.answer(&asked);
    if state.hangs_up {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Response<Body> {
        if let Some((status, body)) = self.refusal.clone() {
            return respond(StatusCode::from_u16(status).unwrap(), body);
        }
        if let Some(answer) = self.answer_ceremony(asked) {
            return answer;
        }
        if self.sealed {
            return refuse(503, "sealed", "");
        }
        let Some(rest) = asked.target.strip_prefix("/secrets/v1/secret/default/") else {
            return refuse(404, "not_found", "there is no such store");
        };
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        match (asked.method.as_str(), query) {
            ("GET", "list=true") => respond_json(200, &json!({"array": self.below(name)})),
            ("GET", "versions=true") if self.lists_only => refuse(403, "denied", "no right"),
            ("GET", "versions=true") => self.versions(name),
            ("GET", _) => self.read(name, query),
            ("PATCH" | "DELETE", _) if !self.is_newest(name, asked) => {
                refuse(412, "precondition_failed", "the newest version is another")
            }
            ("PUT", _) if self.secrets.contains_key(name) => {
                refuse(409, "conflict", "the secret already exists")
            }
            ("PUT", _) => self.write(name, asked, 201),
            ("PATCH", _) if query.starts_with("rollback=") => self.roll_back(name, query),
            ("PATCH", _) if self.secrets.contains_key(name) => self.write(name, asked, 204),
            ("DELETE", _) if self.secrets.remove(name).is_some() => respond(status(204), ""),
            _ => refuse(404, "not_found", "there is no such secret"),
        }
    }

    fn read(&self, name: &str, query: &str) -> Response<Body> {
        let versions = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        let wanted = query.strip_prefix("version=").map_or(versions.len(), |n| n.parse().unwrap());
        let Some(value) = wanted.checked_sub(1).and_then(|index| versions.get(index)) else {
            return refuse(404, "not_found", "there is no such secret");
        };
        tagged(respond(status(200), value.clone()), wanted)
    }

    /// Whether the request's `If-Match`, if it has one, is the newest version.
    fn is_newest(&self, name: &str, asked: &Asked) -> bool {
        let newest = self.secrets.get(name).map_or(0, Vec::len);
        let tag = asked.header(header::IF_MATCH);
        tag.is_empty() || tag == format!("\"{newest}\"")
    }

    fn roll_back(&mut self, name: &str, query: &str) -> Response<Body> {
        let version: usize = query["rollback=".len()..].parse().unwrap();
        let Some(versions) = self.secrets.get_mut(name).filter(|kept| kept.len() >= version) else {
            return refuse(404, "not_found", "there is no such version");
        };
        versions.push(versions[version - 1].clone());
        tagged(respond(status(204), ""), versions.len())
    }

    fn write(&mut self, name: &str, asked: &Asked, code: u16) -> Response<Body> {
        let value = match asked.header(header::CONTENT_TYPE) {
            "application/octet-stream" => asked.body.clone(),
            "application/json" => {
                let body: Value = serde_json::from_slice(&asked.body).unwrap();
                body["value"].as_str().unwrap().as_bytes().to_vec()
            }
            _ => return refuse(400, "bad_request", "unsupported Content-Type"),
        };
        self.secrets.entry(name.to_owned()).or_default().push(value);
        respond(status(code), "")
    }

    fn versions(&self, name: &str) -> Response<Body> {
        let Some(versions) = self.secrets.get(name) else {
            return refuse(404, "not_found", "there is no such secret");
        };
        let versions: Vec<_> = (1..=versions.len())
            .map(|number| {
                json!({"version": number, "created": "2026-11-23T21:00:00Z", "author": "ann"})
            })
            .collect();
        respond_json(200, &json!({"versions": versions}))
    }

    fn below(&self, directory: &str) -> Vec<&str> {
        let names = self.secrets.keys();
        match directory {
            "" => names.map(String::as_str).collect(),
            _ => names.filter_map(|name| name.strip_prefix(directory)?.strip_prefix('/')).collect(),
        }
    }
}

async fn collect(body: Incoming) -> Vec<u8> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    bytes
}

fn tagged(mut answer: Response<Body>, version: usize) -> Response<Body> {
    answer.headers_mut().insert(header::ETAG, format!("\"{version}\"").parse().unwrap());
    answer
}

pub(crate) fn refuse(code: u16, name: &str, message: &str) -> Response<Body> {
    respond_json(code, &json!({"code": name, "message": message}))
}

pub(crate) fn respond_json(code: u16, body: &Value) -> Response<Body> {
    respond(status(code), body.to_string())
}

pub(crate) fn respond(status: StatusCode, body: impl Into<Vec<u8>>) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.into())).unwrap()
}

pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}
