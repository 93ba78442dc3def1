//! Injection: what the webhook does to one pod.
//!
//! `mutate` = strip, plan, edit. Stripping takes everything of Watchword's out of a pod, so that
//! what comes in is judged by its structure alone: a pod that was copied with all we once put into
//! it, or one that a tenant dressed up, ends exactly as a fresh one does. Hence
//! mutate ∘ mutate = mutate.
//!
//! Decisions are made on a view of the pod that has only what they hang on; what is done to the pod
//! is a patch that names only what is ours, so that fields which this build does not know survive.
//! Nothing here holds a value or asks anybody anything.

use k8s_openapi::api::core::v1::{Container, Pod};
use watchword_crds::task_revision::TaskRevisionSpec;
use watchword_protocol::env_names;

use crate::pod;

pub use self::patch::Patch;
pub use self::plan::{
    ContainerInjection, FileMount, FilesContainer, FilesIdentity, InjectionPlan, plan,
};
pub use self::strip::unwrap_command;
pub use self::view::PodView;

mod edit;
mod patch;
mod plan;
mod strip;
mod view;

/// How the agent's binary gets into a pod, and what pods are told of the store. The same for
/// every pod; the operator's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the agent's binary comes from.
    pub agent: AgentSource,
    /// PEM bundle of the certificate authorities that the agent trusts; public.
    pub ca_bundle: String,
    /// `https://…` of the store, without a path.
    pub store_url: String,
}

/// Where the agent's binary comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentSource {
    /// By which mechanism.
    pub delivery: Delivery,
    /// The image that holds `/agent`.
    pub image: String,
    /// `imagePullPolicy` of that image; the cluster's default when absent.
    pub pull_policy: Option<String>,
}

/// The mechanisms that bring the agent into a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// The image is mounted as a volume: needs Kubernetes 1.36 and containerd 2.1 on every node.
    ImageVolume,
    /// An init container copies the binary into memory: works everywhere.
    InitContainer,
}

/// Why a pod is refused. The text names the field and the mend, and is shown to whoever made the pod
/// or posted its review: it may name what the definition says, and never holds a value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Denial(String);

impl Denial {
    /// A denial with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What is to be done to a pod, and what its maker should know.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Makes the pod what it shall be.
    pub patch: Patch,
    /// Admission warnings, at most 120 characters each.
    pub warnings: Vec<String>,
}

/// Injects what `revision`, called `name`, gives to the pod.
///
/// # Errors
///
/// A denial when the pod cannot be given its secrets.
pub fn mutate(
    mut pod: PodView<'_>,
    name: &str,
    revision: &TaskRevisionSpec,
    settings: &Settings,
) -> Result<Mutation, Denial> {
    let mut patch = Patch::default();
    strip::strip(&mut pod, &mut patch);
    let plan = plan(&pod, name, revision, &settings.store_url)?;
    plan.edit(&pod, settings, &mut patch);
    Ok(Mutation { patch, warnings: plan.warnings })
}

/// The revision that a pod's containers name in their spec, if they agree on one.
pub fn named_revision(pod: &Pod) -> Option<&str> {
    agreed(containers(pod).filter_map(revision_of))
}

/// The revision that one container names in the immutable part of its spec.
pub fn revision_of(container: &Container) -> Option<&str> {
    let variables = container.env.as_deref().unwrap_or_default();
    variables.iter().find(|one| one.name == env_names::WATCHWORD_REVISION)?.value.as_deref()
}

/// All containers of a pod: init containers, sidecars among them, then the others.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// The container called `name`, wherever it stands.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod).find(|container| container.name == name)
}

/// What all of them are, if there is one at all.
fn agreed<'a>(mut revisions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = revisions.next()?;
    revisions.all(|other| other == first).then_some(first)
}

/// Whether a volume, mount or init container is one of ours, by name. Tenants cannot keep anything
/// under such a name: it is taken out before we put ours in.
fn is_ours(name: &str) -> bool {
    name == pod::AGENT_VOLUME || name.starts_with(pod::PREFIX)
}

#[cfg(test)]
mod tests;
