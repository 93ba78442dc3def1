//! Applying: carries a plan out, write by write, in its order.
//!
//! All of it is server-side apply or deletion with a uid, so that whatever was observed too early
//! is refused rather than overwritten.

use std::collections::HashMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::error::Status;
use serde_json::Value;
use tracing::info;
use watchword_core::reconciliation::{Outcome, Plan, Write, clean};
use watchword_core::revision::canonical_json;
use watchword_core::workload::WorkloadKind;
use watchword_crds::{TaskRevision, names};

use super::context::{Applied, Context, Error, Key};
use super::observe::{fingerprint, workload_api};

/// What applying a plan did.
#[derive(Debug, Default)]
pub(super) struct Result {
    /// What happened, for Events: a reason in CamelCase and a note.
    pub(super) happened: Vec<(&'static str, String)>,
    pub(super) outcome: Outcome,
}

/// Carries out the writes that come before the status.
pub(super) async fn write(
    plan: &Plan,
    fingerprints: &HashMap<String, String>,
    key: &Key,
    context: &Context,
    now: Timestamp,
) -> std::result::Result<Result, Error> {
    let mut result = Result::default();
    for write in &plan.writes {
        match write {
            Write::ApplyRevision { manifest, name } => {
                // Without its revision a workload's pods would get nothing: the rest is left.
                if let Some(refused) = apply_revision(manifest, name, key, context).await? {
                    result.outcome = refused;
                    return Ok(result);
                }
            }
            Write::ApplyWorkload { kind, manifest, name, replace, uid } => {
                let uid = uid.as_deref();
                let before = uid.and_then(|uid| fingerprints.get(uid)).map(String::as_str);
                let workload =
                    Workload { before, kind: *kind, manifest, name, replace: *replace, uid };
                result.outcome = workload.apply(key, context, now, &mut result.happened).await?;
            }
            Write::DeleteRevision { name, uid } => {
                delete_revision(name, uid, key, context).await?;
            }
            Write::DeleteWorkload { kind, name, uid } => {
                delete_workload(*kind, name, uid, key, context).await?;
                let note = format!("Deleted the {} `{name}`.", kind.kind());
                result.happened.push(("WorkloadDeleted", note));
            }
        }
    }
    Ok(result)
}

/// Carries out what comes after the status.
pub(super) async fn tidy(
    plan: &Plan,
    key: &Key,
    context: &Context,
) -> std::result::Result<(), Error> {
    for write in &plan.tidying {
        if let Write::DeleteRevision { name, uid } = write {
            delete_revision(name, uid, key, context).await?;
        }
    }
    Ok(())
}

/// Applies a revision; the outcome if the API server, or a policy of the cluster, refuses it.
async fn apply_revision(
    manifest: &Value,
    name: &str,
    key: &Key,
    context: &Context,
) -> std::result::Result<Option<Outcome>, Error> {
    let api: Api<TaskRevision> = Api::namespaced(context.client.clone(), &key.namespace);
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    match api.patch(name, &parameters, &Patch::Apply(manifest)).await {
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            Ok(Some(Outcome::Refused(clean(&status.message))))
        }
        Err(error) => Err(Error::api(format!("write the revision `{name}`"))(error)),
        Ok(_) => {
            info!(revision = name, "wrote a revision");
            Ok(None)
        }
    }
}

async fn delete_revision(
    name: &str,
    uid: &str,
    key: &Key,
    context: &Context,
) -> std::result::Result<(), Error> {
    let api: Api<TaskRevision> = Api::namespaced(context.client.clone(), &key.namespace);
    let deleted = api.delete(name, &only(uid)).await.map(drop);
    gone(deleted).map_err(Error::api(format!("delete the revision `{name}`")))?;
    info!(revision = name, "deleted a revision");
    Ok(())
}

async fn delete_workload(
    kind: WorkloadKind,
    name: &str,
    uid: &str,
    key: &Key,
    context: &Context,
) -> std::result::Result<(), Error> {
    let api = workload_api(&context.client, &key.namespace, kind);
    let deleted = api.delete(name, &only(uid)).await.map(drop);
    gone(deleted).map_err(Error::api(format!("delete the {} `{name}`", kind.kind())))?;
    info!(kind = kind.kind(), name, "deleted a workload");
    Ok(())
}

struct Workload<'a> {
    /// Its fingerprint, if it exists.
    before: Option<&'a str>,
    kind: WorkloadKind,
    manifest: &'a Value,
    name: &'a str,
    replace: bool,
    uid: Option<&'a str>,
}

impl Workload<'_> {
    async fn apply(
        &self,
        key: &Key,
        context: &Context,
        now: Timestamp,
        happened: &mut Vec<(&'static str, String)>,
    ) -> std::result::Result<Outcome, Error> {
        let digest = canonical_json(self.manifest);
        if let Some(last) = context.memory.applied(key)
            && last.digest == digest
            && !(self.replace && last.outcome == Outcome::Kept)
            && Some(last.fingerprint.as_str()) == self.before
            && now.duration_since(last.at) < RESYNC
        {
            return Ok(last.outcome);
        }

        let api = workload_api(&context.client, &key.namespace, self.kind);
        let mut parameters = PatchParams::apply(names::FIELD_MANAGER);
        // What does not exist yet is not taken by force: should another one have been quicker, the
        // fields are theirs, and the next reconcile sees the object.
        parameters.force = self.uid.is_some();
        let (outcome, after) =
            match api.patch(self.name, &parameters, &Patch::Apply(self.manifest)).await {
                Err(kube::Error::Api(status)) if is_immutable(&status) && self.uid.is_some() => {
                    (self.immutable(key, context, happened).await?, self.before.map(str::to_owned))
                }
                Err(kube::Error::Api(status)) if is_refusal(&status) => {
                    return Ok(Outcome::Refused(clean(&status.message)));
                }
                Err(error) => {
                    let what = format!("apply the {} `{}`", self.kind.kind(), self.name);
                    return Err(Error::api(what)(error));
                }
                Ok(object) => {
                    let after = fingerprint(&object.metadata);
                    self.tell(&object, &after, happened);
                    (Outcome::Applied, Some(after))
                }
            };
        if let Some(fingerprint) = after.filter(|_| outcome != Outcome::Replaced) {
            let applied = Applied { at: now, digest, fingerprint, outcome: outcome.clone() };
            context.memory.remember_applied(key, applied);
        }
        Ok(outcome)
    }

    /// The API server lets nobody change the template of a Job.
    async fn immutable(
        &self,
        key: &Key,
        context: &Context,
        happened: &mut Vec<(&'static str, String)>,
    ) -> std::result::Result<Outcome, Error> {
        if !self.replace {
            return Ok(Outcome::Kept);
        }
        delete_workload(self.kind, self.name, self.uid.unwrap_or_default(), key, context).await?;
        let note = format!("Deleted the {} `{}` to run it anew.", self.kind.kind(), self.name);
        happened.push(("WorkloadReplaced", note));
        Ok(Outcome::Replaced)
    }

    fn tell(
        &self,
        object: &DynamicObject,
        after: &str,
        happened: &mut Vec<(&'static str, String)>,
    ) {
        let (reason, verb) = match self.before {
            None => ("WorkloadCreated", "Created"),
            Some(before) if before != after => ("WorkloadUpdated", "Updated"),
            Some(_) => return,
        };
        let kind = self.kind.kind();
        let generation = object.metadata.generation;
        info!(kind, name = self.name, generation, reason, "applied a workload");
        happened.push((reason, format!("{verb} the {kind} `{}`.", self.name)));
    }
}

fn only(uid: &str) -> DeleteParams {
    let uid = Some(uid.to_owned());
    DeleteParams::background().preconditions(Preconditions { resource_version: None, uid })
}

/// What is gone already, or is another object of that name by now, needs no deletion.
fn gone(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        result => result,
    }
}

/// Whether the API server refuses to change what cannot be changed; the uid of an object that was
/// replaced meanwhile is not meant.
fn is_immutable(status: &Status) -> bool {
    status.code == 422
        && status.message.contains("field is immutable")
        && !status.message.contains("metadata.uid")
}

/// Whether the API server, or a policy of the cluster, refuses what the manifest says.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422) && !status.message.contains("metadata.uid")
}

/// After this time a workload is applied again, whatever it looks like.
const RESYNC: SignedDuration = SignedDuration::from_mins(10);
