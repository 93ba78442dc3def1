//! Fetching what a claim is judged by, from the API server, for each claim anew.
//!
//! Nothing of this is cached: a token stays true for a while after its pod is gone, and so would a
//! cache.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::Api;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use watchword_core::claim::{Claim, Evidence, Owner, Refusal, controller_of, living_container};
use watchword_core::injection::revision_of;
use watchword_crds::TaskDefinition;
use watchword_crds::task_revision::TaskRevision;

use super::failure::Failure;

/// The objects around a claimant.
pub(super) struct Fetched {
    /// The pod.
    pub pod: Pod,
    /// The revision that the claimant's container names.
    pub revision: TaskRevision,
    /// The definition of that revision.
    pub definition: TaskDefinition,
    owners: Vec<Owner>,
}

impl Fetched {
    /// The objects as the domain judges them.
    pub(super) fn evidence(&self) -> Evidence<'_> {
        let Self { pod, revision, definition, owners } = self;
        Evidence { pod, revision, definition, owners }
    }
}

/// Why the evidence is not complete.
pub(super) enum FetchError {
    /// The API server did not answer.
    Failure(Failure),
    /// Something is missing or says no by itself.
    Refusal(Refusal),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Fetches the pod of a claim and what stands around it.
///
/// # Errors
///
/// What is missing, or that the API server cannot be asked.
pub(super) async fn fetch(client: &Client, claim: &Claim) -> Result<Fetched, FetchError> {
    let namespace = &claim.namespace;
    let pod: Pod = get(client, namespace, &claim.pod).await?.ok_or(Refusal::Gone)?;
    let container = living_container(claim, &pod)?;
    let name =
        revision_of(container).ok_or_else(|| Refusal::NoRevision(claim.container.clone()))?;
    let missing = || Refusal::Revision(name.to_owned());
    let revision: TaskRevision = get(client, namespace, name).await?.ok_or_else(missing)?;
    let definition: TaskDefinition =
        get(client, namespace, &revision.spec.definition).await?.ok_or_else(missing)?;
    let owners = match revision.spec.adopt {
        true => Vec::new(),
        false => owners(client, namespace, &pod.metadata).await?,
    };
    Ok(Fetched { pod, revision, definition, owners })
}

/// The chain of controllers above a pod, as far as it is made of workloads.
async fn owners(
    client: &Client,
    namespace: &str,
    pod: &ObjectMeta,
) -> Result<Vec<Owner>, FetchError> {
    let mut owners: Vec<Owner> = Vec::new();
    while owners.len() < MAX_OWNERS {
        let child = owners.last().map_or(pod, |owner| &owner.metadata);
        let Some(reference) = controller_of(child).cloned() else { break };
        let Some(metadata) = owner(client, namespace, &reference).await? else { break };
        owners.push(Owner { kind: reference.kind, metadata });
    }
    Ok(owners)
}

/// The metadata of a workload that a reference names; `None` for anything else.
async fn owner(
    client: &Client,
    namespace: &str,
    reference: &OwnerReference,
) -> Result<Option<ObjectMeta>, Failure> {
    let name = &reference.name;
    match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("apps/v1", "Deployment") => metadata::<Deployment>(client, namespace, name).await,
        ("apps/v1", "ReplicaSet") => metadata::<ReplicaSet>(client, namespace, name).await,
        ("batch/v1", "CronJob") => metadata::<CronJob>(client, namespace, name).await,
        ("batch/v1", "Job") => metadata::<Job>(client, namespace, name).await,
        _ => Ok(None),
    }
}

async fn metadata<K>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api.get_metadata_opt(name).await.map_err(unavailable)?;
    Ok(found.map(|object| object.metadata))
}

/// One of the objects that a pod is judged by, as it is now; `None` if there is no such object.
///
/// # Errors
///
/// `Unavailable` when the API server cannot be asked.
pub(super) async fn get<K>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(unavailable)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unavailable(error: kube::Error) -> Failure {
    Failure::unavailable("cannot ask the API server about the pod", &error)
}

/// CronJob, Job and the pod, or Deployment, ReplicaSet and the pod: no chain is longer.
const MAX_OWNERS: usize = 2;
