//! Whoever keeps the share of a store: initialises it, unseals it, and looks at each replica.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::cluster::{Answer, Https, answered};
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, wait_for};
use watchword_store::openpgp::PrivateKey;

use crate::document::Document;

/// A person with all rights, and the private key that the one share is encrypted to.
pub(crate) struct Keeper {
    cluster: Cluster,
    /// What every answer is judged by.
    document: Document,
    /// Armoured.
    private_key: Mutex<String>,
    store: Https,
    token: String,
}

/// One replica of the store.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Keeper {
    /// Initialises a new store with nothing given.
    pub(crate) async fn initialize(cluster: &Cluster) -> Result<Self> {
        let keeper = Self::of(cluster).await?;
        let answer = keeper.ask("PUT", "init/default", &json!({})).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        keeper.has_another_key(&answer.json())?;
        Ok(keeper)
    }

    /// Of a store that initialises itself: without a private key.
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.namespace("keeper").await?;
        namespace.account("keeper").await?;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": namespace.name()}, "subjects": namespace.subjects("keeper"),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
        });
        namespace.apply(&binding.to_string()).await?;
        let token = namespace.token(cluster.client(), "keeper", None, None).await?;
        let store = cluster.https("store").await?;
        let document = Document::of(&store, &token).await?;
        let (cluster, private_key) = (cluster.clone(), Mutex::default());
        Ok(Self { cluster, document, private_key, store, token })
    }

    /// Takes the private key out of the answer to `init` or `rekey`.
    pub(crate) fn has_another_key(&self, answer: &Value) -> Result<()> {
        let armor = answer["pgp_private_key"].as_str().context("no private key")?;
        self.takes_key(armor);
        Ok(())
    }

    /// Takes a private key, armoured.
    pub(crate) fn takes_key(&self, armor: &str) {
        *self.private_key.lock().unwrap_or_else(PoisonError::into_inner) = armor.to_owned();
    }

    /// The one share, from what everybody who may ask is given, and the private key.
    pub(crate) async fn share(&self) -> Result<String> {
        let init = self.ask("GET", "init/default", &Value::Null).await?.json();
        let hex = init["keys"][0].as_str().with_context(|| init.to_string())?;
        let message: Result<Vec<u8>, _> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect();
        let armor = self.private_key.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let share = PrivateKey::parse(armor.as_bytes())?.decrypt(&message?, None)?;
        Ok(String::from_utf8(share.to_vec())?)
    }

    /// Asks whichever replica the Service leads to.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.ask_of(&self.store, method, path, body).await
    }

    /// Seals the store.
    pub(crate) async fn seal(&self) -> Result<()> {
        // A busy replica may confirm it too late for the first answer.
        wait_for("the store to be sealed", LIMIT, async || {
            let sealed = self.ask("PUT", "seal/default", &Value::Null).await?;
            ensure!(sealed.status == 200, "{}: {}", sealed.status, sealed.text());
            Ok(())
        })
        .await
    }

    /// Asks one replica.
    pub(crate) async fn ask_at(
        &self,
        replica: &Replica,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Answer> {
        self.ask_of(&self.outside(replica), method, path, body).await
    }

    /// The answer is one that the store's own document describes, or an error. What changes nothing is
    /// asked until it is answered; all else again as long as nobody runs the ceremonies, as after a
    /// leader's end.
    async fn ask_of(
        &self,
        store: &Https,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Answer> {
        let path = format!("/secrets/v1/{path}");
        let ask = async || store.ask_once(method, &path, Some(&self.token), body).await;
        let answer = if method == "GET" { answered(ask).await? } else { begun(ask).await? };
        if let Some(operation) = self.document.operation_at(method, &path) {
            let judged = self.document.judge(operation, method, &answer);
            judged
                .with_context(|| format!("{method} {path}: {} {}", answer.status, answer.text()))?;
        }
        Ok(answer)
    }

    /// Asks whichever replica the Service leads to, with another token.
    pub(crate) async fn ask_with(&self, token: &str, method: &str, path: &str) -> Result<Answer> {
        self.store.ask(method, &format!("/secrets/v1/{path}"), Some(token), &Value::Null).await
    }

    /// The token by which the keeper is known.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A replica's port for other replicas.
    pub(crate) fn channel(&self, replica: &Replica) -> Https {
        self.store.at(&replica.address, PEER_PORT)
    }

    /// A replica's port for everybody.
    pub(crate) fn outside(&self, replica: &Replica) -> Https {
        self.store.at(&replica.address, names::TLS_PORT)
    }

    /// Gives the share to one replica, and returns the answer.
    pub(crate) async fn unseal_at(&self, replica: &Replica) -> Result<Value> {
        let share = json!({"key": self.share().await?});
        let answer = wait_for("the store to be unsealed", LIMIT, async || {
            let answer = self.ask_at(replica, "PUT", "unseal/default", &share).await?;
            // Whoever led may have gone with the lease.
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
            Ok::<_, anyhow::Error>(answer)
        });
        Ok(answer.await?.json())
    }

    /// What a replica says of the seal.
    pub(crate) async fn seal_status(&self, replica: &Replica) -> Result<Value> {
        let answer = self.ask_at(replica, "GET", "seal-status/default", &Value::Null).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        Ok(answer.json())
    }

    /// Waits until a replica serves a secret.
    pub(crate) async fn serves(&self, replica: &Replica, secret: &str, value: &str) -> Result<()> {
        wait_for(&format!("`{}` to serve `{secret}`", replica.name), LIMIT, async || {
            let path = format!("secret/default/{secret}");
            let answer = self.ask_at(replica, "GET", &path, &Value::Null).await?;
            // As it was written: as text, or as bytes.
            let is_it = answer.json()["value"] == value || answer.text() == value;
            ensure!(answer.status == 200 && is_it, "{}: {}", answer.status, answer.text());
            Ok(())
        })
        .await
    }

    /// Waits until each replica serves a secret.
    pub(crate) async fn all_serve(&self, secret: &str, value: &str) -> Result<()> {
        for replica in self.replicas().await? {
            self.serves(&replica, secret, value).await?;
        }
        Ok(())
    }

    /// Waits until there are two replicas, both Ready, and both sealed or both open.
    pub(crate) async fn all_are(&self, sealed: bool) -> Result<()> {
        wait_for(&format!("two replicas with sealed={sealed}"), LIMIT, async || {
            for replica in self.replicas().await? {
                let status = self.seal_status(&replica).await?;
                ensure!(status["sealed"] == sealed, "`{}`: {status}", replica.name);
            }
            Ok(())
        })
        .await
    }

    /// Both replicas, as soon as there are just two and both are Ready.
    pub(crate) async fn replicas(&self) -> Result<Vec<Replica>> {
        wait_for("two Ready replicas", LIMIT, async || {
            let pods = self.pods().await?;
            let ready: Vec<Replica> = pods.iter().filter_map(ready).collect();
            ensure!(ready.len() == 2 && pods.len() == 2, "{ready:?} of {} pods", pods.len());
            Ok(ready)
        })
        .await
    }

    /// The replica that runs the ceremonies, and the one that does not, once one of them does.
    pub(crate) async fn leader_and_follower(&self) -> Result<[Replica; 2]> {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client(), names::NAMESPACE);
        wait_for("a replica that leads", LIMIT, async || {
            let lease = leases.get(names::STORE).await?;
            let leader = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            let replicas = self.replicas().await?;
            let (lead, follow): (Vec<_>, Vec<_>) =
                replicas.into_iter().partition(|replica| replica.name == leader);
            match (lead.as_slice(), follow.as_slice()) {
                ([lead], [follow]) => Ok([lead.clone(), follow.clone()]),
                _ => bail!("`{leader}` holds the lease"),
            }
        })
        .await
    }

    /// Gives a share to one replica, and returns how many have been given since.
    pub(crate) async fn give(&self, replica: &Replica, share: &str) -> Result<Value> {
        let share = json!({"key": share});
        let answer = self.ask_at(replica, "PUT", "unseal/default", &share).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        Ok(answer.json())
    }

    /// Has a replica end, in this way, and waits until it is gone.
    pub(crate) async fn delete(&self, replica: &Replica, how: &DeleteParams) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), names::NAMESPACE);
        pods.delete(&replica.name, how).await?;
        self.is_gone(replica).await
    }

    /// Kills a replica, which has no time to tidy up, and waits until its pod is gone.
    pub(crate) async fn kill(&self, replica: &Replica) -> Result<()> {
        self.cluster.kill(&replica.name).await?;
        self.is_gone(replica).await
    }

    async fn is_gone(&self, replica: &Replica) -> Result<()> {
        wait_for(&format!("`{}` to be gone", replica.name), LIMIT, async || {
            let names: Vec<_> = self.pods().await?.iter().map(ResourceExt::name_any).collect();
            ensure!(!names.contains(&replica.name), "{names:?}");
            Ok(())
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), names::NAMESPACE);
        let stores = ListParams::default().labels("app.kubernetes.io/component=store");
        Ok(pods.list(&stores).await?.items)
    }
}

/// Asks again as long as the answer says that a ceremony was not begun, and returns whatever else
/// comes of it.
pub(crate) async fn begun(ask: impl AsyncFn() -> Result<Answer>) -> Result<Answer> {
    wait_for("a ceremony to be begun", LIMIT, async || match ask().await {
        Ok(answer) if is_for_later(&answer.text()) => Err(answer.text()),
        outcome => Ok(outcome),
    })
    .await?
}

/// Whether an answer says that a ceremony was not begun or was given up, for a reason that passes by
/// itself: no replica leads, another does by now, or the one that does makes an OpenPGP pair; or the
/// API server did not say whose the token is.
pub(crate) fn is_for_later(answer: &str) -> bool {
    answer.contains(r#""code":"unavailable""#)
        && [
            "an OpenPGP pair is being made",
            "another replica has taken over the ceremonies",
            "cannot have the access reviewed",
            "cannot have the token reviewed",
            "no replica runs the ceremonies",
        ]
        .iter()
        .any(|reason| answer.contains(reason))
}

fn ready(pod: &Pod) -> Option<Replica> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|one| one.type_ == "Ready" && one.status == "True")?;
    Some(Replica { name: pod.name_any(), address: status.pod_ip.clone()? })
}

/// `peers` in the store's Deployment.
const PEER_PORT: u16 = 8445;
