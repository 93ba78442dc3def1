//! Real TLS connections over loopback, with limits shortened to milliseconds.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::Request,
    routing::{get, post},
};
use futures::stream::{self, StreamExt};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, NamedGroup, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS12,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    certificates::authority::Authority,
    listen::{Limits, Patience},
    readiness::Readiness,
    shutdown::{Shutdown, Trigger},
};

use super::*;

const NAME: &str = "watchword-store.watchword-system.svc";

/// Longer than what is shortened here may take on a busy machine, and shorter than what is not.
const SOON: Duration = Duration::from_secs(8);

/// A server in this process.
struct Server {
    address: SocketAddr,
    authority: Authority,
    directory: TempDir,
    readiness: Readiness,
    task: JoinHandle<io::Result<()>>,
    trigger: Trigger,
}

impl Server {
    async fn start(limits: Limits, client_ca: Option<ClientCa>) -> Self {
        let authority = Authority::create(Timestamp::now()).unwrap();
        let directory = TempDir::new().unwrap();
        issue(&authority, directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::channel();
        let readiness = Readiness::new(&shutdown);
        let server = ServeTls {
            address,
            client_ca,
            limits,
            readiness: readiness.clone(),
            router: router(),
            shutdown,
            tls_dir: directory.path().to_owned(),
        };
        let poll = Duration::from_millis(20);
        let task = tokio::spawn(serve_with(server, async || Ok(listener), poll));
        Self { address, authority, directory, readiness, task, trigger }
    }

    async fn connect(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        self.connect_from(1, config).await
    }

    /// Connects from 127.0.0.`host`: all of that network is this machine.
    async fn connect_from(
        &self,
        host: u8,
        config: ClientConfig,
    ) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, host], 0).into())?;
        let stream = socket.connect(self.address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    fn trusting(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().der().clone()).unwrap();
        ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
    }

    fn client(&self) -> ClientConfig {
        self.trusting().with_no_client_auth()
    }
}

fn issue(authority: &Authority, directory: &Path) {
    let leaf = authority.issue(&[NAME.to_owned()], Timestamp::now()).unwrap();
    std::fs::write(directory.join("tls.crt"), &leaf.chain).unwrap();
    std::fs::write(directory.join("tls.key"), &*leaf.key).unwrap();
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/echo", post(async |body: Bytes| body))
        .route(
            "/digest",
            post(async |body: Bytes| {
                time::sleep(Duration::from_millis(600)).await;
                body
            }),
        )
        .route("/slow", get(async || time::sleep(Duration::from_secs(60)).await))
        .route(
            "/patient",
            get(async |request: Request| {
                let moves = Patience::steps(request.extensions(), Duration::from_secs(5));
                moves();
                time::sleep(Duration::from_millis(600)).await;
            }),
        )
        .route(
            "/long",
            get(async || {
                Body::from_stream(stream::unfold(0, async |count| {
                    time::sleep(Duration::from_millis(200)).await;
                    (count < 10).then(|| (Ok::<_, io::Error>(format!("{count} ")), count + 1))
                }))
            }),
        )
        .route(
            "/endless",
            get(async || {
                Body::from_stream(stream::unfold((), async |()| {
                    time::sleep(Duration::from_millis(100)).await;
                    Some((Ok::<_, io::Error>("more"), ()))
                }))
            }),
        )
        .route(
            "/stalled",
            get(async || {
                let piece = stream::once(async { Ok::<_, io::Error>("half") });
                Body::from_stream(piece.chain(stream::pending()))
            }),
        )
        .route(
            "/upload",
            post(async |Extension(patience): Extension<Patience>, body: Body| {
                let mut bytes = 0;
                let mut pieces = body.into_data_stream();
                while let Some(Ok(piece)) = pieces.next().await {
                    patience.extend(Duration::from_secs(3));
                    bytes += piece.len();
                }
                bytes.to_string()
            }),
        )
        .route(
            "/who",
            get(async |identity: Option<Extension<ClientIdentity>>| match identity {
                None => "nobody".to_owned(),
                Some(Extension(ClientIdentity { user, groups })) => {
                    format!("{user} of {}", groups.join(","))
                }
            }),
        )
}

fn limits() -> Limits {
    Limits {
        drain_delay: Duration::ZERO,
        end: Duration::from_millis(200),
        headers: Duration::from_secs(2),
        idle: Duration::from_millis(600),
        request: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// One HTTP/1 request; the whole answer, or what came of it until the server closed.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // What the socket did not take at once waits for this.
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_old_connections_go_on() {
    let server = Server::start(Limits::default(), None).await;
    let mut old = server.connect(server.client()).await.unwrap();
    let first = leaf(&old);

    issue(&server.authority, server.directory.path());

    let deadline = Instant::now() + Duration::from_secs(5);
    while leaf(&server.connect(server.client()).await.unwrap()) == first {
        assert!(Instant::now() < deadline, "the new certificate is not served");
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ask(&mut old, "/").await.ends_with("hello"));
    assert!(server.readiness.unmet().is_empty());
}

#[tokio::test]
async fn a_broken_new_certificate_leaves_the_old_one_in_place() {
    let server = Server::start(Limits::default(), None).await;
    let first = leaf(&server.connect(server.client()).await.unwrap());

    std::fs::write(server.directory.path().join("tls.crt"), "-----BEGIN NONSENSE").unwrap();
    time::sleep(Duration::from_millis(100)).await;

    assert_eq!(leaf(&server.connect(server.client()).await.unwrap()), first);
    assert!(server.readiness.unmet().is_empty());
}

#[tokio::test]
async fn a_server_without_a_certificate_is_not_ready_and_waits_for_one() {
    let authority = Authority::create(Timestamp::now()).unwrap();
    let directory = TempDir::new().unwrap();
    let (_trigger, shutdown) = Shutdown::channel();
    let readiness = Readiness::new(&shutdown);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls_dir = directory.path().to_owned();
    let router = router();
    let server = ServeTls {
        address,
        client_ca: None,
        limits: Limits::default(),
        readiness: readiness.clone(),
        router,
        shutdown,
        tls_dir,
    };
    let bind = async move || listen::bind(address).await;
    let poll = Duration::from_millis(20);
    let task = tokio::spawn(serve_with(server, bind, poll));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !readiness.unmet().iter().any(|(_, why)| why.contains("tls.crt")) {
        assert!(Instant::now() < deadline, "{:?}", readiness.unmet());
        time::sleep(Duration::from_millis(10)).await;
    }

    issue(&authority, directory.path());

    let deadline = Instant::now() + Duration::from_secs(5);
    while !readiness.unmet().is_empty() {
        assert!(Instant::now() < deadline && !task.is_finished());
        time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_the_protocol_is_the_clients_choice() {
    let server = Server::start(Limits::default(), None).await;
    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let mut config = server.client();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();

        let stream = server.connect(config).await.unwrap();

        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), chosen.map(str::as_bytes));
        let group = session.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
    }
}

#[tokio::test]
async fn a_client_that_knows_nothing_newer_than_tls_1_2_is_not_served() {
    let server = Server::start(Limits::default(), None).await;
    let mut roots = RootCertStore::empty();
    roots.add(server.authority.certificate().der().clone()).unwrap();
    let old = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let refused = server.connect(old).await.unwrap_err().to_string();

    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

/// An authority for clients, and a client's certificate signed by it.
fn client_certificate(
    subject: &[(DnType, &str)],
) -> (String, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut client = CertificateParams::new([]).unwrap();
    client.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        client.distinguished_name.push(kind.clone(), *value);
    }
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = client.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (authority.pem(), vec![certificate.der().clone()], key)
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says_and_nobody_without_one() {
    let subject = [(DnType::CommonName, "admin"), (DnType::OrganizationName, "system:masters")];
    let (ca, certificate, key) = client_certificate(&subject);
    let (_sender, client_ca) = watch::channel(ca);
    let server = Server::start(Limits::default(), Some(client_ca)).await;

    let config = server.trusting().with_client_auth_cert(certificate, key).unwrap();
    let mut known = server.connect(config).await.unwrap();
    let mut unknown = server.connect(server.client()).await.unwrap();

    assert!(ask(&mut known, "/who").await.ends_with("admin of system:masters"));
    assert!(ask(&mut unknown, "/who").await.ends_with("nobody"));
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_refused_until_that_one_counts() {
    let subject = [(DnType::CommonName, "admin")];
    let (other, _, _) = client_certificate(&subject);
    let (ca, certificate, key) = client_certificate(&subject);
    let (sender, client_ca) = watch::channel(other);
    let server = Server::start(Limits::default(), Some(client_ca)).await;
    let config = server.trusting().with_client_auth_cert(certificate, key).unwrap();

    // In TLS 1.3 the client hears of it only when it reads.
    let answer = match server.connect(config.clone()).await {
        Err(_) => String::new(),
        Ok(mut stream) => ask(&mut stream, "/who").await,
    };
    assert_eq!(answer, "");

    sender.send(ca).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Ok(mut stream) = server.connect(config.clone()).await
            && ask(&mut stream, "/who").await.ends_with("admin of ")
        {
            break;
        }
        assert!(Instant::now() < deadline, "the new authority does not count");
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server closes, and returns what it said before.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut said = Vec::new();
    let closed = timeout(SOON, stream.read_to_end(&mut said)).await;
    assert!(closed.is_ok(), "the server lets the client hold the connection");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_client_that_never_finishes_the_handshake_is_cut_off() {
    let handshake = Duration::from_millis(300);
    let server = Server::start(Limits { handshake, ..limits() }, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();

    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();

    closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off() {
    let headers = Duration::from_millis(300);
    let server = Server::start(Limits { headers, ..limits() }, None).await;
    for protocol in ["http/1.1", "h2"] {
        let mut config = server.client();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let mut stream = server.connect(config).await.unwrap();

        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn an_old_http2_connection_is_told_to_go_away() {
    let age = Duration::from_millis(100);
    let server = Server::start(Limits { age, ..Limits::default() }, None).await;
    let mut config = server.client();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    let mut stream = server.connect(config).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&settings).await.unwrap();

    // Frames: 24 bits of length, 8 bits of type, 5 bytes, then as many as the length says.
    loop {
        let mut head = [0; 9];
        let read = timeout(SOON, stream.read_exact(&mut head));
        read.await.expect("no GOAWAY in time").expect("closed without GOAWAY");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        if head[3] == 7 {
            break;
        }
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_has_a_limit_that_its_handler_may_raise() {
    let server = Server::start(limits(), None).await;

    let mut slow = server.connect(server.client()).await.unwrap();
    let refused = ask(&mut slow, "/slow").await;
    let mut patient = server.connect(server.client()).await.unwrap();
    let answered = ask(&mut patient, "/patient").await;

    assert!(refused.starts_with("HTTP/1.1 408 "), "{refused:?}");
    assert!(refused.contains(r#"{"code":"timeout""#), "{refused:?}");
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered:?}");
}

#[tokio::test]
async fn an_answer_that_takes_long_is_whole_on_a_connection_that_is_old() {
    let age = Duration::from_millis(300);
    let server = Server::start(Limits { age, ..limits() }, None).await;
    let mut stream = server.connect(server.client()).await.unwrap();

    let answer = ask(&mut stream, "/long").await;

    assert!(answer.contains("9 "), "{answer:?}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_go_on_is_cut_off() {
    let age = Duration::from_millis(300);
    for limits in [limits(), Limits { age, ..limits() }] {
        let server = Server::start(limits, None).await;
        let mut stream = server.connect(server.client()).await.unwrap();
        let request = format!("GET /stalled HTTP/1.1\r\nhost: {NAME}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();

        let said = closed(&mut stream).await;

        assert!(said.contains("half") && !said.ends_with("0\r\n\r\n"), "{said:?}");
    }
}

#[tokio::test]
async fn a_body_may_take_as_long_as_its_handler_waits_for_the_next_piece() {
    let age = Duration::from_millis(300);
    let server = Server::start(Limits { age, ..limits() }, None).await;
    let mut stream = server.connect(server.client()).await.unwrap();
    let head = format!("POST /upload HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();

    for _ in 0..10 {
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        time::sleep(Duration::from_millis(400)).await;
    }

    let said = closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("10"), "{said:?}");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_what_takes_long() {
    let server = Server::start(limits(), None).await;
    let mut stream = server.connect(server.client()).await.unwrap();
    let request = format!("GET /endless HTTP/1.1\r\nhost: {NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The head; what follows never ends.
    stream.read_exact(&mut [0; 1]).await.unwrap();

    server.trigger.request();

    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_dribbles_its_headers_is_cut_off() {
    let headers = Duration::from_millis(300);
    let server = Server::start(Limits { headers, ..limits() }, None).await;
    let mut stream = server.connect(server.client()).await.unwrap();
    let begin = Instant::now();

    let mut dribble = "GET / HTTP/1.1\r\n".bytes().chain(std::iter::repeat(b'x'));
    while stream.write_all(&[dribble.next().unwrap()]).await.is_ok() && stream.flush().await.is_ok()
    {
        assert!(begin.elapsed() < SOON, "the server waits for ever");
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_dribbles_its_body_is_answered_408_and_cut_off() {
    let server = Server::start(limits(), None).await;
    let mut stream = server.connect(server.client()).await.unwrap();
    let head = format!("POST /echo HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 1000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let dribble = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() && write.flush().await.is_ok() {
            time::sleep(Duration::from_millis(20)).await;
        }
    });

    let said = closed(&mut read).await;

    assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
    timeout(SOON, dribble).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let server = Server::start(Limits { connections: 1, ..limits() }, None).await;
    let first = server.connect(server.client()).await.unwrap();

    let second = timeout(Duration::from_millis(100), server.connect(server.client()));
    assert!(second.await.is_err(), "a second connection was accepted");
    drop(first);

    let mut third = server.connect(server.client()).await.unwrap();
    assert!(ask(&mut third, "/").await.ends_with("hello"));
}

#[tokio::test]
async fn a_host_that_dribbles_as_much_as_it_can_is_in_nobodys_way_but_its_own() {
    let long = Duration::from_secs(30);
    let limits = Limits { requests: 16, request: long, body: long, ..limits() };
    let server = Server::start(limits, None).await;
    let head = format!("POST /echo HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 1000\r\n\r\nx");
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = server.connect_from(2, server.client()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    time::sleep(Duration::from_millis(50)).await;

    let mut other = server.connect(server.client()).await.unwrap();
    let answer = timeout(SOON, ask(&mut other, "/")).await.unwrap();
    let mut own = server.connect_from(2, server.client()).await.unwrap();
    let waits = timeout(Duration::from_millis(200), ask(&mut own, "/")).await;

    assert!(answer.ends_with("hello"), "{answer:?}");
    assert!(waits.is_err(), "its own waited for nothing: {waits:?}");
}

#[tokio::test]
async fn a_full_house_of_one_host_is_answered_to_the_last() {
    let server = Server::start(Limits::default(), None).await;
    let requests = (0..60).map(async |_| {
        let mut stream = server.connect(server.client()).await.unwrap();
        ask(&mut stream, "/").await
    });

    let answers = futures::future::join_all(requests).await;

    let others: Vec<_> = answers.iter().filter(|answer| !answer.ends_with("hello")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn a_host_has_an_eighth_of_the_connections() {
    let server = Server::start(Limits { connections: 16, ..limits() }, None).await;
    let held = [
        server.connect_from(2, server.client()).await.unwrap(),
        server.connect_from(2, server.client()).await.unwrap(),
    ];

    let third = timeout(SOON, server.connect_from(2, server.client())).await;
    let mut other = server.connect(server.client()).await.unwrap();

    assert!(third.unwrap().is_err(), "a third connection of one host was accepted");
    assert!(ask(&mut other, "/").await.ends_with("hello"));
    drop(held);
}

#[tokio::test]
async fn a_body_has_a_limit_of_its_own_that_ends_with_it() {
    let (body, request) = (Duration::from_millis(200), Duration::from_secs(30));
    let server = Server::start(Limits { body, request, ..limits() }, None).await;
    let head = format!("POST /digest HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 4\r\n\r\n");
    let mut whole = server.connect(server.client()).await.unwrap();
    whole.write_all(format!("{head}body").as_bytes()).await.unwrap();
    let mut half = server.connect(server.client()).await.unwrap();
    half.write_all(format!("{head}bo").as_bytes()).await.unwrap();

    let refused = closed(&mut half).await;
    let answered = closed(&mut whole).await;

    assert!(refused.starts_with("HTTP/1.1 408 "), "{refused:?}");
    assert!(answered.starts_with("HTTP/1.1 200 ") && answered.ends_with("body"), "{answered:?}");
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_begun_and_accepts_nothing_new() {
    let limits = Limits { end: SOON, request: Duration::from_secs(10), ..limits() };
    let server = Server::start(limits, None).await;
    let mut stream = server.connect(server.client()).await.unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Said when the body is asked for: the request has begun.
    let mut begun = [0; 25];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.trigger.request();
    time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"body").await.unwrap();

    let said = closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("body"), "{said:?}");
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
