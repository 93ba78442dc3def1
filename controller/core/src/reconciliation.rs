//! Reconciliation: what the controller does about one task definition, and what it says of it.
//!
//! ```text
//! observe ─► Observed ─► plan ─► writes ─► ask the store ─► status ─► report ─► tidying
//! ```
//!
//! Everything here is a pure function of what was observed: no clock, no client. The order of the
//! writes is part of the plan, and is such that a controller that dies between any two of them, or
//! is followed by another one with an older view, converges: the revision stands before anything
//! names it, and is removed only when nothing does.
//!
//! Nothing that exists is taken over: a workload of our name that another object controls is a
//! conflict, and every write of an existing object carries the uid that was observed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_crds::task_definition::TaskDefinition;
use watchword_crds::task_revision::{TaskRevision, TaskRevisionSpec};

use crate::claim::controller_of;
use crate::revision;
use crate::workload::{self, WorkloadKind};

pub use self::acceptance::{Refusal, accept};
pub use self::budget::Budget;
pub use self::pods::{is_waiting_for_secrets, latest, retry};
pub use self::stage::{Cause, Failure, Hindrance, Stage, clean, is_live, is_ready, stage};
pub use self::status::{Check, Outcome, Report, status};
pub use self::trust::{Course, Strangers, Trust, strangers, to_roll};

mod acceptance;
mod budget;
mod condition;
mod pods;
mod stage;
mod status;
mod task_state;
mod trust;

/// Everything that a reconcile decides from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The definition, as the API server has it.
    pub definition: TaskDefinition,
    /// The revisions that pods of the namespace name in their spec, whatever their phase.
    pub named: BTreeSet<String>,
    /// Pods of the definition's workload, or pods that it adopts.
    pub pods: Vec<Pod>,
    /// Why the definition is not accepted, see [`accept`].
    pub refusal: Option<Refusal>,
    /// The revisions of the namespace that bear the definition's name.
    pub revisions: Vec<TaskRevision>,
    /// Other definitions that adopt a pod which this one adopts.
    pub rivals: Vec<String>,
    /// How the store is known; absent while that has not been read.
    pub trust: Option<Trust>,
    /// Workloads that have the definition's name, or that it controls.
    pub workloads: Vec<Existing>,
}

/// A workload that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Existing {
    /// Who controls it, if anybody does.
    pub controller: Option<OwnerReference>,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// How far it says that it has come.
    pub progress: Progress,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Its uid.
    pub uid: String,
}

/// What a workload says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// A Job that completed.
    pub complete: bool,
    /// Why a Job failed: reason and message.
    pub failed: Option<(String, String)>,
    /// The `podFailurePolicy` that a Job was made with, which nobody can change.
    pub failure_policy: Option<Value>,
    /// How many pods a Deployment wants.
    pub replicas: Option<i32>,
    /// Why no pods can be created, where Kubernetes says so.
    pub replica_failure: Option<String>,
    /// Whether all pods of a Deployment that exist are of its newest template.
    pub rolled_out: bool,
}

/// What is to be done, in this order: the writes, the status, the tidying.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Why the workload is left alone.
    pub conflict: Option<Conflict>,
    /// The revision that new pods get; absent when the definition is not accepted.
    pub revision: Option<String>,
    /// What can wait until the status is written.
    pub tidying: Vec<Write>,
    /// What brings the cluster to what the definition says.
    pub writes: Vec<Write>,
}

/// Two things that claim the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// In full, for people.
    pub message: String,
    /// In CamelCase.
    pub reason: &'static str,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Apply a revision server-side.
    ApplyRevision {
        /// The whole object.
        manifest: Value,
        /// Its name.
        name: String,
    },
    /// Apply the workload server-side.
    ApplyWorkload {
        /// Its kind.
        kind: WorkloadKind,
        /// The whole object, with owner reference, and with the uid of the object that exists.
        manifest: Value,
        /// Its name.
        name: String,
        /// Whether a Job that cannot be changed is deleted, so that the next reconcile makes it
        /// anew.
        replace: bool,
        /// The uid of the object that exists; absent when none does, and none is then taken over.
        uid: Option<String>,
    },
    /// Delete a revision.
    DeleteRevision {
        /// Its name.
        name: String,
        /// The uid that it must have.
        uid: String,
    },
    /// Delete a workload, and in the background its pods.
    DeleteWorkload {
        /// Its kind.
        kind: WorkloadKind,
        /// Its name.
        name: String,
        /// The uid that it must have.
        uid: String,
    },
}

/// Plans one reconcile.
pub fn plan(observed: &Observed) -> Plan {
    let Observed { definition, refusal, .. } = observed;
    let metadata = &definition.metadata;
    let (Some(name), Some(namespace)) = (&metadata.name, &metadata.namespace) else {
        return Plan::default();
    };
    // What a deleted definition owned is the garbage collector's; and where the definition is not
    // accepted, what runs goes on as it is.
    if metadata.deletion_timestamp.is_some() || refusal.is_some() {
        return Plan { conflict: adoption_conflict(observed), ..Plan::default() };
    }
    let revision = revision::snapshot(&definition.spec, namespace, name);
    let revision_name = revision::name(&revision);
    let mut plan = Plan {
        conflict: adoption_conflict(observed),
        revision: Some(revision_name.clone()),
        ..Plan::default()
    };
    let Some(owner) = owner(definition) else { return plan };

    plan.writes.extend(revision_writes(observed, &revision_name, &owner, &revision));
    plan.writes.extend(superfluous(observed, &owner));
    match workload_write(observed, name, &owner, &revision) {
        Err(conflict) => plan.conflict = Some(conflict),
        Ok(write) => plan.writes.extend(write),
    }
    plan.tidying = old_revisions(observed, &revision_name, &owner);
    plan
}

/// The owner reference that everything made for this definition carries.
pub fn owner(definition: &TaskDefinition) -> Option<OwnerReference> {
    let reference = definition.controller_owner_ref(&())?;
    Some(OwnerReference { block_owner_deletion: Some(true), ..reference })
}

/// The revision, unless it stands already. One that is not ours, or not what its name says, goes
/// first: it can only be a predecessor's that the garbage collector has not reached, or a forgery.
fn revision_writes(
    observed: &Observed,
    name: &str,
    owner: &OwnerReference,
    spec: &TaskRevisionSpec,
) -> Vec<Write> {
    let existing = observed.revisions.iter().find(|one| one.metadata.name.as_deref() == Some(name));
    let mut writes = Vec::new();
    if let Some(existing) = existing {
        let is_ours = controller_of(&existing.metadata).is_some_and(|one| one.uid == owner.uid);
        if is_ours && revision::is_genuine(name, &existing.spec) {
            return writes;
        }
        let uid = existing.metadata.uid.clone().unwrap_or_default();
        writes.push(Write::DeleteRevision { name: name.to_owned(), uid });
    }
    let metadata = &observed.definition.metadata;
    let manifest = json!({
        "apiVersion": TaskRevision::api_version(&()),
        "kind": TaskRevision::kind(&()),
        "metadata": {
            "name": name,
            "namespace": metadata.namespace,
            "labels": {names::TASK_DEFINITION_LABEL: spec.definition},
            "ownerReferences": [owner],
        },
        "spec": spec,
    });
    writes.push(Write::ApplyRevision { manifest, name: name.to_owned() });
    writes
}

/// Workloads of kinds that `run` no longer asks for.
fn superfluous(observed: &Observed, owner: &OwnerReference) -> Vec<Write> {
    let wanted = WorkloadKind::of(&observed.definition.spec.run);
    let name = observed.definition.metadata.name.as_deref();
    observed
        .workloads
        .iter()
        .filter(|one| one.is_controlled_by(owner) && !one.terminating)
        .filter(|one| Some(one.kind) != wanted || Some(one.name.as_str()) != name)
        .map(|one| Write::DeleteWorkload {
            kind: one.kind,
            name: one.name.clone(),
            uid: one.uid.clone(),
        })
        .collect()
}

/// The workload that `run` asks for; none while an older one of its name is being deleted, and for
/// adopted pods.
fn workload_write(
    observed: &Observed,
    name: &str,
    owner: &OwnerReference,
    revision: &TaskRevisionSpec,
) -> Result<Option<Write>, Conflict> {
    let Observed { definition, workloads, .. } = observed;
    let run = &definition.spec.run;
    let namespace = definition.metadata.namespace.as_deref().unwrap_or_default();
    let Some(rendered) = workload::render(name, namespace, run, revision) else { return Ok(None) };

    let existing = workloads.iter().find(|one| one.kind == rendered.kind && one.name == name);
    if let Some(existing) = existing
        && !existing.is_controlled_by(owner)
    {
        return Err(existing.conflict(definition));
    }
    if existing.is_some_and(|one| one.terminating) {
        return Ok(None);
    }
    let uid = existing.map(|one| one.uid.clone());
    let mut manifest = rendered.manifest;
    manifest["metadata"]["ownerReferences"] = json!([owner]);
    if let Some(uid) = &uid {
        // The API server refuses the write when the name stands for another object by now.
        manifest["metadata"]["uid"] = uid.clone().into();
    }
    if let Some(job) = existing.filter(|one| one.kind == WorkloadKind::Job) {
        // It is ours to choose, and no part of the definition: a Job keeps the one that it has, or a
        // release that chooses another would look like a changed definition, and run it anew.
        manifest["spec"]["podFailurePolicy"] = json!(job.progress.failure_policy);
    }
    Ok(Some(Write::ApplyWorkload {
        kind: rendered.kind,
        manifest,
        name: name.to_owned(),
        replace: run.once.as_ref().is_some_and(|once| once.replace == Some(true)),
        uid,
    }))
}

/// Revisions beyond the last [`KEPT_REVISIONS`] that no pod names.
fn old_revisions(observed: &Observed, current: &str, owner: &OwnerReference) -> Vec<Write> {
    let mut revisions: Vec<&TaskRevision> = observed
        .revisions
        .iter()
        .filter(|one| controller_of(&one.metadata).is_some_and(|it| it.uid == owner.uid))
        .collect();
    revisions.sort_by_key(|one| {
        let created = one.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), one.metadata.name.clone())
    });
    revisions
        .into_iter()
        .filter(|one| one.metadata.deletion_timestamp.is_none())
        .filter_map(|one| Some((one.metadata.name.as_deref()?, one.metadata.uid.as_deref()?)))
        .filter(|(name, _)| *name != current)
        // The current one may be older than those: after a roll-back.
        .skip(KEPT_REVISIONS - 1)
        .filter(|(name, _)| !observed.named.contains(*name))
        .map(|(name, uid)| Write::DeleteRevision { name: name.to_owned(), uid: uid.to_owned() })
        .collect()
}

fn adoption_conflict(observed: &Observed) -> Option<Conflict> {
    let rivals: Vec<String> = observed.rivals.iter().map(|name| format!("`{name}`")).collect();
    (!rivals.is_empty()).then(|| Conflict {
        message: format!(
            "The selector matches a pod that {} also adopts; such pods get no secrets. Let each \
             pod match one definition.",
            rivals.join(" and ")
        ),
        reason: "AdoptedTwice",
    })
}

impl Observed {
    /// The definition's own Deployment, unless it is being deleted.
    pub fn deployment(&self) -> Option<&Existing> {
        let owner = owner(&self.definition)?;
        self.workloads.iter().find(|one| {
            one.kind == WorkloadKind::Deployment && one.is_controlled_by(&owner) && !one.terminating
        })
    }
}

impl Existing {
    /// Whether `owner` controls it.
    pub fn is_controlled_by(&self, owner: &OwnerReference) -> bool {
        self.controller.as_ref().is_some_and(|controller| controller.uid == owner.uid)
    }

    fn conflict(&self, definition: &TaskDefinition) -> Conflict {
        let kind = self.kind.kind();
        let name = &self.name;
        let message = match &self.controller {
            // A definition of the same name, deleted a moment ago.
            Some(owner)
                if owner.kind == "TaskDefinition"
                    && Some(&owner.name) == definition.metadata.name.as_ref() =>
            {
                format!("The {kind} `{name}` of an earlier definition is still being deleted.")
            }
            Some(owner) => format!(
                "There is a {kind} `{name}` already, which the {} `{}` controls. Rename this \
                 definition, or delete that {kind}.",
                owner.kind, owner.name
            ),
            None => format!(
                "There is a {kind} `{name}` already, which is not Watchword's. Rename this \
                 definition, delete that {kind}, or adopt its pods with `run.adopt`."
            ),
        };
        Conflict { message, reason: "WorkloadExists" }
    }
}

impl Plan {
    /// The kind of workload that this plan applies.
    pub fn applies(&self) -> Option<WorkloadKind> {
        self.writes.iter().find_map(|write| match write {
            Write::ApplyWorkload { kind, .. } => Some(*kind),
            _ => None,
        })
    }
}

/// When the pods need to be looked at again although nothing happens to them.
pub fn settles_at(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    observed.pods.iter().filter_map(|pod| stage::settles_at(pod, now)).min()
}

/// How many revisions are kept, the current one among them.
const KEPT_REVISIONS: usize = 10;

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests;
