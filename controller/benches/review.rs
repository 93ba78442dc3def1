//! The webhook's answer to one review. The pod has 7 KB, as many have; its definition two secrets.
//!
//! - `bytes`: from the bytes that the API server sends to the bytes that it gets.
//! - `tls`: the same through the role's own listener: TLS 1.3 and HTTP/1.1 with keep-alive on loopback,
//!   as the API server speaks to webhooks. What counts is the CPU time of the thread that serves,
//!   the kernel's share included, and not what the client costs.
//!
//! `cargo bench -p watchword-controller --bench review`. For instructions instead of time:
//! docs/benchmarks.md says how.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)] // a bench: what fails here fails loudly

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use prometheus_client::metrics::family::Family;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use watchword_controller::admission::caches::Caches;
use watchword_controller::admission::{Reviewer, pods, review, router};
use watchword_controller::certificates::authority::Authority;
use watchword_controller::listen::Limits;
use watchword_controller::readiness::Readiness;
use watchword_controller::shutdown::Shutdown;
use watchword_controller::tls::{self, ServeTls};
use watchword_core::injection::{AgentSource, Delivery, Settings};
use watchword_core::{revision, workload};
use watchword_crds::task_definition::{TaskDefinition, TaskDefinitionSpec};
use watchword_crds::task_revision::TaskRevision;

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("review");
    for kind in [Kind::Rendered, Kind::Adopted] {
        let (reviewer, body) = world(kind);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("bytes, {kind:?}"), |bencher| {
            bencher.iter(|| {
                review::respond(black_box(&body), |request| pods::answer(&reviewer, request))
            });
        });
        let server = Server::start(reviewer);
        let mut client = server.connect();
        let request = [
            format!(
                "POST /mutate/pods?timeout=3s HTTP/1.1\r\nHost: {NAME}:443\r\n\
                 User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\n\
                 Accept: application/json, */*\r\nContent-Type: application/json\r\n\
                 Accept-Encoding: gzip\r\n\r\n",
                body.len()
            )
            .into_bytes(),
            body,
        ]
        .concat();
        let mut reviews = 0;
        group.bench_function(format!("tls, {kind:?}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let before = server.cpu();
                for _ in 0..iterations {
                    client.ask(&request);
                }
                reviews += iterations;
                server.cpu() - before
            });
        });
        println!("{reviews} reviews over TLS");
    }
    group.finish();
}

/// How the pod came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// By a user's own workload.
    Adopted,
    /// By a workload that Watchword rendered.
    Rendered,
}

/// The role's listener in a thread of its own.
struct Server {
    address: SocketAddr,
    authority: Authority,
    schedstat: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(reviewer: Reviewer) -> Self {
        let authority = Authority::create(Timestamp::now()).unwrap();
        let directory = tempfile::TempDir::new().unwrap();
        let leaf = authority.issue(&[NAME.to_owned()], Timestamp::now()).unwrap();
        std::fs::write(directory.path().join("tls.crt"), &leaf.chain).unwrap();
        std::fs::write(directory.path().join("tls.key"), &*leaf.key).unwrap();
        // Free a moment ago, and nobody else's on loopback in a bench.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tls_dir = directory.path().to_owned();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            sender.send(Path::new("/proc").join(thread).join("schedstat")).unwrap();
            let (_trigger, shutdown) = Shutdown::channel();
            let server = ServeTls {
                address,
                client_ca: None,
                limits: Limits::default(),
                readiness: Readiness::new(&shutdown),
                router: router(Arc::new(reviewer)),
                shutdown,
                tls_dir,
            };
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(tls::serve(server)).unwrap();
        });
        let schedstat = receiver.recv().unwrap();
        Self { address, authority, schedstat, _directory: directory }
    }

    /// The CPU time of its thread so far.
    fn cpu(&self) -> Duration {
        let schedstat = std::fs::read_to_string(&self.schedstat).unwrap();
        Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
    }

    fn connect(&self) -> Client {
        let mut roots = RootCertStore::empty();
        let bundle = self.authority.bundle();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(NAME).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        stream.set_nodelay(true).unwrap();
        Client { stream: StreamOwned::new(connection, stream), buffer: vec![0; 64 << 10] }
    }
}

struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends a request and reads its answer to the end.
    fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
        self.stream.flush().unwrap();
        let (mut length, mut whole) = (0, usize::MAX);
        while length < whole {
            length += self.stream.read(&mut self.buffer[length..]).unwrap();
            let text = &self.buffer[..length];
            if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&text[..end]).unwrap();
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let (_, rest) = head.split_once("content-length: ").unwrap();
                let size: usize = rest.lines().next().unwrap().parse().unwrap();
                whole = end + 4 + size;
            }
        }
    }
}

fn world(kind: Kind) -> (Reviewer, Vec<u8>) {
    let reference = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
    let mut spec: TaskDefinitionSpec = serde_json::from_value(json!({"tasks": [{
        "name": "web",
        "command": {"value": "exec serve", "environment": {"variables": [
            {"name": "DB", "type": "SECRET", "secret": reference},
        ]}},
        "container": {
            "type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": "app:1"}}},
            "volumes": [{
                "mode": "RO",
                "container_path": "key",
                "source": {"type": "SECRET", "secret": reference},
            }],
        },
    }]}))
    .unwrap();
    let snapshot = revision::snapshot(&spec, "shop", "web");
    let mut pod =
        workload::render("web", "shop", &spec.run, &snapshot).unwrap().manifest["spec"]["template"]
            .take();
    fatten(&mut pod);
    if kind == Kind::Adopted {
        let labels = json!({"app": "web", "watchword.dev/inject": "true"});
        pod["metadata"]["labels"] = labels;
        spec.run = serde_json::from_value(json!({"adopt": {
            "selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web",
        }}))
        .unwrap();
    }
    let snapshot = revision::snapshot(&spec, "shop", "web");
    let mut object = TaskRevision::new(&revision::name(&snapshot), snapshot);
    object.metadata.namespace = Some("shop".to_owned());
    let mut definition = TaskDefinition::new("web", spec);
    definition.metadata.namespace = Some("shop".to_owned());
    let settings = Settings {
        agent: AgentSource {
            delivery: Delivery::InitContainer,
            image: "watchword:1".to_owned(),
            pull_policy: None,
        },
        ca_bundle: "M".repeat(1200),
        store_url: "https://watchword-store.watchword-system.svc".to_owned(),
    };
    let caches =
        Caches { definitions: store([definition]), revisions: store([object]), spaces: store([]) };
    let reviewer = Reviewer {
        caches,
        reviews: Family::default(),
        settings: ArcSwapOption::from(Some(Arc::new(settings))),
    };
    let body = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
        },
    });
    (reviewer, body.to_string().into_bytes())
}
/// Brings the pod to 7 KB with what pods usually have: variables, mounts, managed fields.
fn fatten(pod: &mut Value) {
    for number in 0..40 {
        let variable = json!({"name": format!("SETTING_{number}"), "value": "x".repeat(40)});
        pod["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(variable);
    }
    let managed: Value = (0..30)
        .map(|number| (format!("f:field-{number}"), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    pod["metadata"]["managedFields"] = json!([{"manager": "kcm", "fieldsV1": {"f:spec": managed}}]);
    while pod.to_string().len() < 7_000 {
        let tolerations = &mut pod["spec"]["tolerations"];
        if tolerations.is_null() {
            *tolerations = json!([]);
        }
        let toleration = json!({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"});
        tolerations.as_array_mut().unwrap().push(toleration);
    }
}

fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    reader
}

const NAME: &str = "watchword-webhook.watchword-system.svc";

criterion_group!(benches, benchmark);
criterion_main!(benches);
