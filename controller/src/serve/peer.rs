//! The other replicas of the store: who they are, and what this one asks of them.
//!
//! Peers are the live pods of the store in our own namespace. They are reached by their pods'
//! addresses, on a port of its own, over TLS 1.3 with the service's name and our own authorities;
//! we prove ourselves with a token that the kubelet made for this pod and for nothing else
//! ([`channel`] is the other end). Whatever a peer answers, a key that it hands over counts only
//! when it opens the keyring.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use reqwest::{Certificate, Method, redirect, tls};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::fs;
use watchword_crds::names;
use watchword_store::{RootKey, Share};
use zeroize::Zeroizing;

use self::handover::{Exchange, Given, HandoverError};
use super::authenticate::Person;
use super::ceremony::operation::{Operation, WireReply};
use crate::args::PeerArgs;

mod admit;
pub(super) mod channel;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod handover;

pub(super) use self::admit::PeerClaim;

/// How peers are found and reached.
pub(super) struct Peers {
    ca: PathBuf,
    client: Client,
    namespace: String,
    /// The name of this replica's own pod.
    own: String,
    port: u16,
    token: PathBuf,
}

/// The pods of the store, as they were at one moment.
pub(super) struct Replicas {
    /// All but this one that may be running.
    pub others: Vec<Peer>,
    /// The uid of this one's pod; `None` where it runs in no pod.
    pub own_uid: Option<String>,
}

/// Another replica.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its address; it has none before it starts.
    pub address: Option<IpAddr>,
    /// Whether its pod is being deleted.
    pub is_ending: bool,
    /// Its pod's name.
    pub name: String,
}

/// What a replica says of itself.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct PeerState {
    /// Whether it holds the present key.
    pub holds: bool,
}

/// An operation on its way to the replica that leads.
#[derive(Deserialize, Serialize)]
pub(super) struct Forwarded {
    /// Who asks for it. The replica that leads has the access reviewed itself.
    pub person: Person,
    /// What is asked for.
    pub operation: Operation,
}

/// Why a peer did not do as it was asked. No variant holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("cannot make a client for the other replicas")]
    Client(#[source] reqwest::Error),
    #[error("cannot take the key over")]
    Handover(#[from] HandoverError),
    #[error("what was handed over is no root key")]
    Key,
    #[error("cannot list the store's pods")]
    List(#[source] kube::Error),
    #[error("cannot reach `{peer}`")]
    Reach {
        peer: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("cannot read {file}")]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{peer}` refuses: {message}")]
    Refused { peer: String, message: String },
    #[error("`{0}` has no address yet")]
    Starting(String),
}

impl Peers {
    /// The peers of the replica `own`, a pod's name.
    pub(super) fn new(client: Client, namespace: &str, own: &str, args: &PeerArgs) -> Self {
        let PeerArgs { peer_address, peer_ca_dir, peer_token_file } = args;
        Self {
            ca: peer_ca_dir.join(names::CA_CERTIFICATE_KEY),
            client,
            namespace: namespace.to_owned(),
            own: own.to_owned(),
            port: peer_address.port(),
            token: peer_token_file.clone(),
        }
    }

    /// The name of this replica's own pod.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// The namespace that Watchword runs in.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The store's pods that may be running now.
    ///
    /// # Errors
    ///
    /// They cannot be listed.
    pub(super) async fn replicas(&self) -> Result<Replicas, PeerError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(LABELS);
        let pods = pods.list(&ours).await.map_err(PeerError::List)?.items;
        let (own, others): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|pod| pod.name_any() == self.own);
        Ok(Replicas {
            others: others.iter().filter_map(running).collect(),
            own_uid: own.first().and_then(ResourceExt::uid),
        })
    }

    /// Asks a peer for its state.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or refuses.
    pub(super) async fn state(&self, peer: &Peer) -> Result<PeerState, PeerError> {
        self.ask(peer, Method::GET, STATE_PATH, None::<&()>, SHORT).await
    }

    /// Takes the root key from a peer. `own_uid` is this replica's pod's.
    ///
    /// # Errors
    ///
    /// It cannot be reached, refuses, or does not hold it.
    pub(super) async fn fetch(&self, peer: &Peer, own_uid: &str) -> Result<RootKey, PeerError> {
        let exchange = Exchange::begin()?;
        let asked = exchange.asked();
        let given: Given = self.ask(peer, Method::POST, KEY_PATH, Some(&asked), SHORT).await?;
        let text = exchange.open(&given, own_uid)?;
        let text = std::str::from_utf8(&text).map_err(|_| PeerError::Key)?;
        let share = Share::parse(text).map_err(|_| PeerError::Key)?;
        RootKey::combine(&[share]).map_err(|_| PeerError::Key)
    }

    /// Has a peer look around at once: what is recorded, or the key, has changed.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or refuses: then it looks by itself, seconds later.
    pub(super) async fn look(&self, peer: &Peer) -> Result<PeerState, PeerError> {
        self.ask(peer, Method::POST, LOOK_PATH, None::<&()>, SHORT).await
    }

    /// Has a peer drop the key; when this returns, it has.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or refuses: then nobody knows.
    pub(super) async fn seal(&self, peer: &Peer) -> Result<(), PeerError> {
        let state: PeerState = self.ask(peer, Method::POST, SEAL_PATH, None::<&()>, SHORT).await?;
        match state.holds {
            false => Ok(()),
            true => Err(PeerError::Refused {
                peer: peer.name.clone(),
                message: "it still holds the key".to_owned(),
            }),
        }
    }

    /// Has the replica that leads do something for somebody.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or does not lead.
    pub(super) async fn forward(
        &self,
        peer: &Peer,
        forwarded: &Forwarded,
    ) -> Result<WireReply, PeerError> {
        self.ask(peer, Method::POST, FORWARD_PATH, Some(forwarded), LONG).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        peer: &Peer,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, PeerError> {
        let name = || peer.name.clone();
        let address = peer.address.ok_or_else(|| PeerError::Starting(name()))?;
        let token = Zeroizing::new(read(&self.token).await?);
        // The certificate is of the service; so the name is, and only the address is the pod's.
        let host = format!("{}.{}.svc", names::STORE, self.namespace);
        let client = self.reqwest(&host, address, timeout).await?;
        let url = format!("https://{host}:{}{path}", self.port);
        let mut request = client.request(method, url).bearer_auth(token.trim());
        if let Some(body) = body {
            request = request.json(body);
        }
        let reach = |source| PeerError::Reach { peer: name(), source };
        let response = request.send().await.map_err(reach)?;
        if response.status().is_success() {
            return response.json().await.map_err(reach);
        }
        let refusal: Refusal = response.json().await.map_err(reach)?;
        Err(PeerError::Refused { peer: name(), message: refusal.message })
    }

    /// A client for one request: it trusts the authorities of this moment, and goes nowhere else.
    async fn reqwest(
        &self,
        host: &str,
        address: IpAddr,
        timeout: Duration,
    ) -> Result<reqwest::Client, PeerError> {
        let ca = read(&self.ca).await?;
        let authorities = Certificate::from_pem_bundle(ca.as_bytes()).map_err(PeerError::Client)?;
        reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .resolve(host, SocketAddr::new(address, self.port))
            .timeout(timeout)
            .tls_certs_only(authorities)
            .tls_version_min(tls::Version::TLS_1_3)
            .build()
            .map_err(PeerError::Client)
    }
}

/// The part of a refusal that is of interest.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// A pod that may be running; `None` for one that has ended, is on no node yet, or is not ours.
fn running(pod: &Pod) -> Option<Peer> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref());
    let is_ours = spec.service_account_name.as_deref() == Some(names::STORE);
    if !is_ours || spec.node_name.is_none() || matches!(phase, Some("Failed" | "Succeeded")) {
        return None;
    }
    let address = status.and_then(|status| status.pod_ip.as_deref());
    Some(Peer {
        address: address.and_then(|address| address.parse().ok()),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        name: pod.name_any(),
    })
}

async fn read(file: &PathBuf) -> Result<String, PeerError> {
    fs::read_to_string(file).await.map_err(|source| PeerError::Read { file: file.clone(), source })
}

const FORWARD_PATH: &str = "/peer/v1/forward";
const KEY_PATH: &str = "/peer/v1/key";
const LOOK_PATH: &str = "/peer/v1/look";
const SEAL_PATH: &str = "/peer/v1/seal";
const STATE_PATH: &str = "/peer/v1/state";

const LABELS: &str = "app.kubernetes.io/component=store,app.kubernetes.io/name=watchword";

/// How long a peer may take for what it does at once.
const SHORT: Duration = Duration::from_secs(3);

/// How long the leader may take for a ceremony: less than a request may, of which this is a part.
const LONG: Duration = Duration::from_millis(9500);

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "watchword-store-a"},
            "spec": {"containers": [], "nodeName": "n", "serviceAccountName": "watchword-store"},
            "status": {"phase": "Running", "podIP": "10.1.0.7"},
        })
    }

    #[test]
    fn a_pod_that_starts_is_a_peer_without_an_address() {
        let mut starting = pod();
        starting["status"] = json!({"phase": "Pending"});

        let peer = running(&serde_json::from_value(starting).unwrap()).unwrap();

        assert_eq!(peer.address, None);
    }

    #[rstest]
    #[case::ended("/status/phase", json!("Succeeded"))]
    #[case::on_no_node("/spec/nodeName", Value::Null)]
    #[case::of_another_account("/spec/serviceAccountName", json!("default"))]
    fn what_cannot_hold_the_key_is_no_peer(#[case] pointer: &str, #[case] value: Value) {
        let mut pod = pod();
        *pod.pointer_mut(pointer).unwrap() = value;

        assert!(running(&serde_json::from_value(pod).unwrap()).is_none());
    }
}
