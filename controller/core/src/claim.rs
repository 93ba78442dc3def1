//! Claims: whether one container of one pod may have the secrets of a revision.
//!
//! The token says who asks: namespace, service account, pod and container, and nothing of that can
//! be forged. All else is read from the API server, and each link is believed only as far as its
//! writer is guarded (design, section 4). Owner references and labels are necessary, never
//! sufficient. This module only compares; who fetches the evidence is the store.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use watchword_crds::mesos::TaskInfo;
use watchword_crds::names;
use watchword_crds::task_definition::TaskDefinition;
use watchword_crds::task_revision::TaskRevision;

use crate::container_name::container_names;
use crate::injection::{container, revision_of, unwrap_command};
use crate::{revision, selector, workload};

/// Who asks, as the token proves it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The pod's service account.
    pub service_account: String,
    /// The container that the token was mounted in.
    pub container: String,
}

/// What the API server says of the claimant's surroundings, fetched for this claim.
pub struct Evidence<'a> {
    /// The pod of the claim's name.
    pub pod: &'a Pod,
    /// The revision that the container names.
    pub revision: &'a TaskRevision,
    /// The definition that the revision is of.
    pub definition: &'a TaskDefinition,
    /// The pod's controller, that one's controller, and so on, up to and without the definition.
    pub owners: &'a [Owner],
}

/// One object between a pod and its task definition.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `ReplicaSet`, `Deployment`, `Job` or `CronJob`.
    pub kind: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
}

/// Why a claim is refused. For the audit log; a client hears that it was refused, and this text,
/// which names only what the client knows of itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The definition does not adopt this pod.
    #[error("the definition `{definition}` does not select this pod")]
    Adoption {
        /// The definition.
        definition: String,
    },
    /// A link of the owner chain is missing, is another one or has another label.
    #[error("the pod does not belong to the definition `{definition}`: {broken}")]
    Chain {
        /// The definition that the revision is of.
        definition: String,
        /// What is wrong with which link.
        broken: String,
    },
    /// The pod's spec has no such container.
    #[error("the pod has no container `{0}`")]
    Container(String),
    /// The revision's content does not have the digest that its name says.
    #[error("the revision `{0}` is not what its name says")]
    Digest(String),
    /// The pod has ended or is being deleted.
    #[error("the pod has ended or is being deleted")]
    Gone,
    /// The container names no revision.
    #[error("the container `{0}` names no revision in its spec")]
    NoRevision(String),
    /// The container's image or command is not what the revision says.
    #[error("the {what} of the container `{container}` is not the revision's")]
    Program {
        /// The container.
        container: String,
        /// What differs.
        what: &'static str,
    },
    /// The revision is not of the definition.
    #[error("the revision `{0}` does not belong to its definition")]
    Revision(String),
    /// The pod runs under another service account.
    #[error("the pod does not run under the service account of its definition")]
    ServiceAccount,
    /// No task of the revision stands for this container.
    #[error("the revision has no task for the container `{0}`")]
    Task(String),
    /// The pod was replaced by another one of the same name.
    #[error("the pod is not the one that the token was made for")]
    Uid,
}

/// The task whose secrets the claimant may have.
///
/// # Errors
///
/// The first rule of the design's section 4 that does not hold; the space rule is not among them.
pub fn judge<'a>(claim: &Claim, evidence: &Evidence<'a>) -> Result<&'a TaskInfo, Refusal> {
    let Evidence { pod, revision, definition, owners } = *evidence;
    let container = living_container(claim, pod)?;

    let name = revision.metadata.name.as_deref().unwrap_or_default();
    if revision_of(container) != Some(name) {
        return Err(Refusal::NoRevision(claim.container.clone()));
    }
    if !revision::is_genuine(name, &revision.spec) {
        return Err(Refusal::Digest(name.to_owned()));
    }
    if !is_controlled_by(&revision.metadata, definition)
        || definition.metadata.name.as_deref() != Some(&revision.spec.definition)
        || definition.metadata.namespace.as_deref() != Some(&claim.namespace)
        || definition.metadata.deletion_timestamp.is_some()
    {
        return Err(Refusal::Revision(name.to_owned()));
    }
    let account = revision.spec.service_account_name.as_deref().unwrap_or("default");
    if claim.service_account != account {
        return Err(Refusal::ServiceAccount);
    }

    let task = task(&revision.spec.tasks, &claim.container)?;
    if revision.spec.adopt {
        selects(definition, pod)?;
    } else {
        chain(pod, owners, definition)?;
        same_program(container, task)?;
    }
    Ok(task)
}

/// The claimant's container in the live pod.
///
/// # Errors
///
/// The pod is another one, has ended, is being deleted, or has no such container.
pub fn living_container<'a>(claim: &Claim, pod: &'a Pod) -> Result<&'a Container, Refusal> {
    if pod.metadata.uid.as_deref() != Some(&claim.pod_uid) {
        return Err(Refusal::Uid);
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(Refusal::Gone);
    }
    container(pod, &claim.container).ok_or_else(|| Refusal::Container(claim.container.clone()))
}

/// The controlling owner reference, if there is one.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn task<'a>(tasks: &'a [TaskInfo], container: &str) -> Result<&'a TaskInfo, Refusal> {
    let position = container_names(tasks).iter().position(|name| name == container);
    position
        .and_then(|position| tasks.get(position))
        .ok_or_else(|| Refusal::Task(container.to_owned()))
}

fn selects(definition: &TaskDefinition, pod: &Pod) -> Result<(), Refusal> {
    let name = definition.metadata.name.clone().unwrap_or_default();
    let adopt = definition.spec.run.adopt.as_ref();
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    match adopt.map(|adopt| selector::matches(&adopt.selector, labels)) {
        Some(true) => Ok(()),
        Some(false) | None => Err(Refusal::Adoption { definition: name }),
    }
}

fn chain(pod: &Pod, owners: &[Owner], definition: &TaskDefinition) -> Result<(), Refusal> {
    let name = definition.metadata.name.clone().unwrap_or_default();
    let broken = |broken: String| Refusal::Chain { definition: name.clone(), broken };
    let labelled = |metadata: &ObjectMeta| {
        metadata.labels.as_ref().and_then(|labels| labels.get(names::TASK_DEFINITION_LABEL))
            == Some(&name)
    };
    let kinds: Vec<&str> = owners.iter().map(|owner| owner.kind.as_str()).collect();
    if !matches!(kinds.as_slice(), ["ReplicaSet", "Deployment"] | ["Job"] | ["Job", "CronJob"]) {
        return Err(broken(format!("its owners are {kinds:?}")));
    }
    let mut child = &pod.metadata;
    let mut child_kind = "Pod";
    for Owner { kind, metadata } in owners {
        let reference = controller_of(child);
        if !reference.is_some_and(|reference| is_reference_to(reference, kind, metadata)) {
            return Err(broken(format!("the owner of its {child_kind} is another {kind}")));
        }
        if !labelled(child) {
            return Err(broken(format!("its {child_kind} is not labelled so")));
        }
        (child, child_kind) = (metadata, kind);
    }
    if !labelled(child) {
        return Err(broken(format!("its {child_kind} is not labelled so")));
    }
    if !is_controlled_by(child, definition) {
        return Err(broken(format!("its {child_kind} is not the definition's")));
    }
    Ok(())
}

fn is_reference_to(reference: &OwnerReference, kind: &str, metadata: &ObjectMeta) -> bool {
    reference.kind == kind
        && Some(&reference.uid) == metadata.uid.as_ref()
        && Some(&reference.name) == metadata.name.as_ref()
}

fn is_controlled_by(metadata: &ObjectMeta, definition: &TaskDefinition) -> bool {
    controller_of(metadata).is_some_and(|reference| {
        reference.api_version.starts_with("watchword.dev/")
            && is_reference_to(reference, "TaskDefinition", &definition.metadata)
    })
}

fn same_program(container: &Container, task: &TaskInfo) -> Result<(), Refusal> {
    let differs = |what| Err(Refusal::Program { container: container.name.clone(), what });
    let expected = workload::container(task, &container.name);
    let words = |key: &str| -> Vec<&str> {
        let list = expected[key].as_array();
        list.into_iter().flatten().filter_map(|word| word.as_str()).collect()
    };
    if container.image.as_deref() != expected["image"].as_str() {
        return differs("image");
    }
    if unwrap_command(container.command.as_deref().unwrap_or_default()) != words("command") {
        return differs("command");
    }
    if container.args.as_deref().unwrap_or_default() != words("args") {
        return differs("list of arguments");
    }
    Ok(())
}

/// Whether a definition's adoption selects pods with these labels; false when it adopts none.
pub fn adopts(definition: &TaskDefinition, labels: &BTreeMap<String, String>) -> bool {
    let selector: Option<&LabelSelector> =
        definition.spec.run.adopt.as_ref().map(|adopt| &adopt.selector);
    selector.is_some_and(|selector| selector::matches(selector, labels))
}

#[cfg(test)]
mod tests;
