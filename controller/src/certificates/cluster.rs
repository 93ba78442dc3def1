//! The objects in the cluster: read by name, watched, written.
//!
//! The authority's Secret is created, or replaced with the resourceVersion that was read, so that
//! of two leaders one fails instead of making a second authority. Everything else is server-side
//! apply. Nothing lists without a name: the account's rights are limited to names.

use std::{collections::BTreeMap, fmt::Debug};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{Stream, StreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        core::v1::{ConfigMap, Secret},
    },
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use watchword_crds::names;

use crate::{certificate::Certificate, chain::Chain};

use super::{
    authority::{Authority, IssueError},
    plan::{
        AuthorityFacts, AuthorityStep, CertificatePlan, Configuration, Facts, LeafFacts, Server,
    },
};

/// Where the objects are.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

/// What was found, and what is needed to change it.
pub(super) struct Observation {
    pub(super) facts: Facts,
    authority: Option<Authority>,
    /// The resourceVersion of the authority's Secret; `None` if there is no Secret.
    authority_version: Option<String>,
    configurations: BTreeMap<Configuration, Webhooks>,
}

/// A webhook configuration: its identity, and the names of its webhooks.
struct Webhooks {
    names: Vec<String>,
    uid: Option<String>,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    #[error("cannot make a certificate")]
    Issue(#[from] IssueError),
    #[error("cannot read {kind} `{name}`")]
    Read { kind: &'static str, name: &'static str, source: kube::Error },
    #[error("cannot read and write the objects in time")]
    Timeout,
    #[error("the objects change as fast as they are written")]
    Unsettled,
    #[error("cannot write {kind} `{name}`")]
    Write { kind: &'static str, name: &'static str, source: kube::Error },
}

impl Cluster {
    /// Something that may be one of the objects having changed, deleted ones included.
    pub(super) fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let namespaced = [
            self.changes_of::<Secret>(names::CA),
            self.changes_of::<Secret>(names::STORE_TLS),
            self.changes_of::<Secret>(names::WEBHOOK_TLS),
            self.changes_of::<ConfigMap>(names::CA),
        ];
        let mutating: Api<PartialObjectMeta<MutatingWebhookConfiguration>> =
            Api::all(self.client.clone());
        let validating: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> =
            Api::all(self.client.clone());
        let configurations = [
            changes(mutating, Configuration::NAME).boxed(),
            changes(validating, Configuration::NAME).boxed(),
        ];
        stream::select_all(namespaced.into_iter().chain(configurations))
    }

    fn changes_of<K>(&self, name: &'static str) -> stream::BoxStream<'static, ()>
    where
        K: Clone + Debug + Send + Sync + 'static,
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), &self.namespace);
        changes(api, name).boxed()
    }

    /// Reads everything.
    pub(super) async fn observe(&self) -> Result<Observation, ClusterError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let read_secret = async |name| {
            let secret = secrets.get_opt(name).await;
            secret.map_err(|source| ClusterError::Read { kind: "secret", name, source })
        };
        let secret = read_secret(names::CA).await?;
        let authority_version = secret.as_ref().map(|secret| {
            // An empty version would make the replacement unconditional; the server always has one.
            secret.metadata.resource_version.clone().unwrap_or_else(|| "0".to_owned())
        });
        let authority = secret.and_then(|secret| {
            Authority::from_data(&secret.data.unwrap_or_default())
                .inspect_err(|error| {
                    warn!(error = %Chain(error), "the secret `{}` holds no authority", names::CA);
                })
                .ok()
        });

        let mut facts = Facts {
            authority: authority.as_ref().map(authority_facts),
            bundle: self.read_bundle().await?,
            ..Facts::default()
        };
        for server in Server::ALL {
            let secret = read_secret(server.secret()).await?;
            let data = secret.and_then(|secret| secret.data);
            let names = server.dns_names(&self.namespace);
            let leaf = data.and_then(|data| leaf_facts(&data, authority.as_ref(), &names));
            facts.leaves.extend(leaf.map(|leaf| (server, leaf)));
        }
        let mut configurations = BTreeMap::new();
        for configuration in Configuration::ALL {
            if let Some((webhooks, bundles)) = self.read_configuration(configuration).await? {
                facts.configurations.insert(configuration, bundles);
                configurations.insert(configuration, webhooks);
            }
        }
        Ok(Observation { facts, authority, authority_version, configurations })
    }

    async fn read_bundle(&self) -> Result<Option<String>, ClusterError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get_opt(names::CA).await.map_err(|source| ClusterError::Read {
            kind: "configmap",
            name: names::CA,
            source,
        })?;
        Ok(map.and_then(|map| map.data?.remove(names::CA_CERTIFICATE_KEY)))
    }

    async fn read_configuration(
        &self,
        configuration: Configuration,
    ) -> Result<Option<(Webhooks, Vec<String>)>, ClusterError> {
        let name = Configuration::NAME;
        let client = self.client.clone();
        let read = |source| ClusterError::Read { kind: kind(configuration), name, source };
        let entry = |name: String, config: WebhookClientConfig| {
            let bundle = config.ca_bundle.unwrap_or_default().0;
            (name, String::from_utf8_lossy(&bundle).into_owned())
        };
        let (metadata, webhooks): (ObjectMeta, Vec<_>) = match configuration {
            Configuration::Mutating => {
                let api: Api<MutatingWebhookConfiguration> = Api::all(client);
                let Some(found) = api.get_opt(name).await.map_err(read)? else { return Ok(None) };
                let webhooks = found.webhooks.unwrap_or_default().into_iter();
                (
                    found.metadata,
                    webhooks.map(|hook| entry(hook.name, hook.client_config)).collect(),
                )
            }
            Configuration::Validating => {
                let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
                let Some(found) = api.get_opt(name).await.map_err(read)? else { return Ok(None) };
                let webhooks = found.webhooks.unwrap_or_default().into_iter();
                (
                    found.metadata,
                    webhooks.map(|hook| entry(hook.name, hook.client_config)).collect(),
                )
            }
        };
        let (names, bundles) = webhooks.into_iter().unzip();
        Ok(Some((Webhooks { names, uid: metadata.uid }, bundles)))
    }

    /// Carries out what was planned from this observation.
    pub(super) async fn apply(
        &self,
        plan: &CertificatePlan,
        observation: Observation,
        now: Timestamp,
    ) -> Result<(), ClusterError> {
        let Observation { facts: _, authority, authority_version, configurations } = observation;
        let authority = match (plan.authority, authority) {
            (AuthorityStep::Keep, Some(authority)) => authority,
            (AuthorityStep::Create, _) | (_, None) => {
                info!("making an authority that nobody knows yet");
                return self.write_authority(&Authority::create(now)?, authority_version).await;
            }
            (AuthorityStep::ForgetPredecessor, Some(authority)) => {
                info!("forgetting the authority before");
                let authority = authority.without_predecessor();
                return self.write_authority(&authority, authority_version).await;
            }
            (AuthorityStep::Succeed, Some(authority)) => {
                info!("making a successor of the authority");
                return self.write_authority(&authority.succeed(now)?, authority_version).await;
            }
        };
        // Trust first: no client shall meet a certificate before it can know who signed it.
        if plan.bundle {
            self.write_bundle(&authority).await?;
        }
        for configuration in &plan.configurations {
            if let Some(webhooks) = configurations.get(configuration) {
                self.write_configuration(*configuration, webhooks, &authority).await?;
            }
        }
        for server in &plan.leaves {
            self.write_leaf(*server, &authority, now).await?;
        }
        Ok(())
    }

    async fn write_authority(
        &self,
        authority: &Authority,
        version: Option<String>,
    ) -> Result<(), ClusterError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let replace = version.is_some();
        let metadata = ObjectMeta {
            labels: Some(BTreeMap::from([LABEL.map(str::to_owned).into()])),
            name: Some(names::CA.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        };
        let data = Some(authority.to_data());
        let secret = Secret { data, metadata, ..Secret::default() };
        let parameters = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = if replace {
            api.replace(names::CA, &parameters, &secret).await
        } else {
            api.create(&parameters, &secret).await
        };
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                info!("another replica changed the authority first");
                Ok(())
            }
            Err(source) => Err(ClusterError::Write { kind: "secret", name: names::CA, source }),
        }
    }

    async fn write_bundle(&self, authority: &Authority) -> Result<(), ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let data = json!({ names::CA_CERTIFICATE_KEY: authority.bundle() });
        self.write(&api, "ConfigMap", names::CA, json!({ "data": data })).await
    }

    async fn write_leaf(
        &self,
        server: Server,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<(), ClusterError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let leaf = authority.issue(&server.dns_names(&self.namespace), now)?;
        let data = json!({
            "tls.crt": STANDARD.encode(&leaf.chain),
            "tls.key": STANDARD.encode(leaf.key.as_bytes()),
        });
        let fields = json!({ "type": "kubernetes.io/tls", "data": data });
        self.write(&api, "Secret", server.secret(), fields).await
    }

    /// Applies an object of ours: `fields` beside what every object has.
    async fn write<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &'static str,
        mut fields: Value,
    ) -> Result<(), ClusterError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let [label, value] = LABEL;
        fields["apiVersion"] = "v1".into();
        fields["kind"] = kind.into();
        fields["metadata"] = json!({ "name": name, "labels": { label: value } });
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let written = api.patch(name, &parameters, &Patch::Apply(&fields)).await;
        written.map(drop).map_err(|source| ClusterError::Write { kind, name, source })
    }

    async fn write_configuration(
        &self,
        configuration: Configuration,
        webhooks: &Webhooks,
        authority: &Authority,
    ) -> Result<(), ClusterError> {
        let Webhooks { names, uid } = webhooks;
        let kind = kind(configuration);
        let name = Configuration::NAME;
        let bundle = STANDARD.encode(authority.bundle());
        let webhooks: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "clientConfig": { "caBundle": bundle } }))
            .collect();
        // With the uid: one that has been deleted meanwhile is not ours to make again.
        let body = Patch::Apply(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": { "name": name, "uid": uid },
            "webhooks": webhooks,
        }));
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let client = self.client.clone();
        let written = match configuration {
            Configuration::Mutating => {
                let api: Api<MutatingWebhookConfiguration> = Api::all(client);
                api.patch(name, &parameters, &body).await.map(drop)
            }
            Configuration::Validating => {
                let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
                api.patch(name, &parameters, &body).await.map(drop)
            }
        };
        written.map_err(|source| ClusterError::Write { kind, name, source })
    }
}

/// A watch on one object, as the mere fact that it may have changed.
fn changes<K>(
    api: Api<PartialObjectMeta<K>>,
    name: &'static str,
) -> impl Stream<Item = ()> + Send + 'static
where
    K: Clone + Debug + Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let config = watcher::Config::default().any_semantic().fields(&format!("metadata.name={name}"));
    watcher(api, config).default_backoff().filter_map(move |event| {
        future::ready(match event {
            Ok(watcher::Event::Init) => None,
            Ok(_) => Some(()),
            Err(error) => {
                debug!(name, error = %Chain(&error), "cannot watch");
                None
            }
        })
    })
}

fn authority_facts(authority: &Authority) -> AuthorityFacts {
    let Certificate { issued, not_after, .. } = authority.certificate();
    let predecessor = authority.predecessor();
    AuthorityFacts {
        bundle: authority.bundle(),
        issued: *issued,
        not_after: *not_after,
        predecessor_not_after: predecessor.map(|before| before.certificate.not_after),
    }
}

/// What a server's Secret holds; `None` if it is not even a certificate.
fn leaf_facts(
    data: &BTreeMap<String, ByteString>,
    authority: Option<&Authority>,
    dns_names: &[String],
) -> Option<LeafFacts> {
    let chain = Certificate::chain(&data.get("tls.crt")?.0);
    let not_after = chain.first()?.not_after;
    let key_fits = || {
        let key = PrivateKeyDer::from_pem_slice(&data.get("tls.key")?.0).ok()?;
        let ders = chain.iter().map(|certificate| certificate.der().clone()).collect();
        CertifiedKey::from_der(ders, key, &aws_lc_rs::default_provider()).ok()
    };
    let issued = authority.is_some_and(|authority| authority.has_issued(&chain, dns_names));
    Some(LeafFacts { fits: issued && key_fits().is_some(), not_after })
}

fn kind(configuration: Configuration) -> &'static str {
    match configuration {
        Configuration::Mutating => "MutatingWebhookConfiguration",
        Configuration::Validating => "ValidatingWebhookConfiguration",
    }
}

/// The label of what we write.
const LABEL: [&str; 2] = ["app.kubernetes.io/name", "watchword"];

#[cfg(test)]
mod tests;
