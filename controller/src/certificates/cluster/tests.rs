//! What is written, and with which care, over a mock of the API server.

use http::{Method, Request, Response};
use jiff::SignedDuration;
use kube::client::Body;
use tokio::task::JoinHandle;
use tower_test::mock;

use super::*;

const NAMESPACE: &str = "watchword-system";

/// A request as a test looks at it.
struct Seen {
    body: Value,
    method: Method,
    path: String,
    query: String,
}

/// A cluster that answers every write with `status` and what was written.
fn cluster(status: u16) -> (Cluster, JoinHandle<Vec<Seen>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
            let answer = match status {
                200 => serde_json::to_vec(&body).unwrap(),
                _ => serde_json::to_vec(&json!({ "status": "Failure", "code": status })).unwrap(),
            };
            send.send_response(Response::builder().status(status).body(answer.into()).unwrap());
            requests.push(Seen {
                body,
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
            });
        }
        requests
    });
    let client = Client::new(service, NAMESPACE);
    (Cluster { client, namespace: NAMESPACE.to_owned() }, requests)
}

fn observation(authority: Option<Authority>, version: Option<&str>) -> Observation {
    let webhooks =
        |name: &str| Webhooks { names: vec![name.to_owned()], uid: Some("u".to_owned()) };
    Observation {
        facts: Facts::default(),
        authority,
        authority_version: version.map(str::to_owned),
        configurations: BTreeMap::from([(Configuration::Mutating, webhooks("pods.watchword.dev"))]),
    }
}

fn step(authority: AuthorityStep) -> CertificatePlan {
    CertificatePlan { authority, ..CertificatePlan::default() }
}

fn decoded(value: &Value) -> String {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_first_authority_is_created_and_never_overwrites_another() {
    let (cluster, requests) = cluster(409);

    let plan = step(AuthorityStep::Create);
    cluster.apply(&plan, observation(None, None), Timestamp::now()).await.unwrap();

    drop(cluster);
    let requests = requests.await.unwrap();
    assert_eq!(requests.len(), 1, "the next round reads what the other replica wrote");
    assert_eq!(requests[0].method, Method::POST);
    assert_eq!(requests[0].path, "/api/v1/namespaces/watchword-system/secrets");
    assert!(requests[0].body["metadata"].get("resourceVersion").is_none());
}

#[tokio::test]
async fn a_successor_replaces_exactly_the_authority_that_was_read() {
    let (cluster, requests) = cluster(200);
    let authority = Authority::create(Timestamp::now()).unwrap();
    let old = authority.certificate().pem.clone();

    let observed = observation(Some(authority), Some("7"));
    cluster.apply(&step(AuthorityStep::Succeed), observed, Timestamp::now()).await.unwrap();

    drop(cluster);
    let requests = requests.await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, Method::PUT);
    assert_eq!(requests[0].body["metadata"]["resourceVersion"], "7");
    assert_eq!(decoded(&requests[0].body["data"]["previous.crt"]), old);
}

#[tokio::test]
async fn trust_is_published_before_certificates_and_every_write_is_an_apply() {
    let (cluster, requests) = cluster(200);
    let now = Timestamp::now();
    let [authority, copy] = {
        let authority = Authority::create(now - SignedDuration::from_hours(1)).unwrap();
        let copy = Authority::from_data(&authority.to_data()).unwrap();
        [authority, copy]
    };
    let plan = CertificatePlan {
        bundle: true,
        configurations: vec![Configuration::Mutating],
        leaves: vec![Server::Webhook],
        ..CertificatePlan::default()
    };

    cluster.apply(&plan, observation(Some(authority), Some("7")), now).await.unwrap();

    drop(cluster);
    let requests = requests.await.unwrap();
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/v1/namespaces/watchword-system/configmaps/watchword-ca",
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/watchword",
            "/api/v1/namespaces/watchword-system/secrets/watchword-webhook-tls",
        ]
    );
    for request in &requests {
        assert_eq!(request.method, Method::PATCH);
        assert!(request.query.contains("fieldManager=watchword"), "{}", request.query);
        assert!(request.query.contains("force=true"), "{}", request.query);
    }
    let [map, configuration, secret] = &requests[..] else { panic!() };
    assert_eq!(map.body["data"]["ca.crt"], copy.bundle());
    let webhooks = &configuration.body["webhooks"];
    assert_eq!(webhooks[0]["name"], "pods.watchword.dev");
    assert_eq!(decoded(&webhooks[0]["clientConfig"]["caBundle"]), copy.bundle());
    assert_eq!(configuration.body["metadata"]["uid"], "u");

    // What was written is what the next round would take for right.
    let names = Server::Webhook.dns_names(NAMESPACE);
    let data: BTreeMap<String, ByteString> =
        serde_json::from_value(secret.body["data"].clone()).unwrap();
    let facts = leaf_facts(&data, Some(&copy), &names).unwrap();
    assert!(facts.fits);
    let other = Authority::create(now).unwrap();
    assert!(!leaf_facts(&data, Some(&other), &names).unwrap().fits);
    let mut broken = data.clone();
    broken.insert("tls.key".to_owned(), ByteString(b"no key".to_vec()));
    assert!(!leaf_facts(&broken, Some(&copy), &names).unwrap().fits);
}
