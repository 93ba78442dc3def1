//! Observing: everything that one reconcile decides from, mostly from caches.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde_json::json;
use watchword_core::claim::{adopts, controller_of};
use watchword_core::injection;
use watchword_core::reconciliation::{Existing, Observed, Progress, accept};
use watchword_core::revision::canonical_json;
use watchword_core::space::Ownership;
use watchword_core::workload::WorkloadKind;
use watchword_crds::{TaskDefinition, TaskRevision, names};

use super::caches::adopters;
use super::context::{Context, Error, Key};

/// What was observed, and what the workloads looked like exactly.
pub(super) struct Observation {
    /// By uid: what an application of ours would change.
    pub(super) fingerprints: HashMap<String, String>,
    pub(super) observed: Observed,
}

/// Observes the surroundings of a definition.
pub(super) async fn observe(
    definition: &TaskDefinition,
    key: &Key,
    context: &Context,
) -> Result<Observation, Error> {
    let caches = &context.caches;
    let uid = definition.uid().ok_or(Error::Incomplete("uid"))?;
    let mut definition = definition.clone();
    if let Some(reported) = context.memory.reported(key, &uid) {
        // The cache may not have seen our last write yet.
        definition.status = Some(reported);
    }

    let in_namespace =
        |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(&key.namespace);
    let revisions: Vec<TaskRevision> = caches
        .revisions
        .state_filter(|one| in_namespace(&one.metadata) && one.spec.definition == key.name)
        .iter()
        .map(|one| TaskRevision::clone(one))
        .collect();
    let spaces = caches.spaces.state();
    let ownership = Ownership::of(spaces.iter().map(AsRef::as_ref));
    let all_pods = caches.pods(&key.namespace);
    let pods: Vec<Pod> = all_pods
        .iter()
        .filter(|pod| concerns(&definition, pod))
        .map(|pod| Pod::clone(pod))
        .collect();

    let mut fingerprints = HashMap::new();
    let mut workloads = Vec::new();
    let ours = |metadata: &ObjectMeta| {
        in_namespace(metadata)
            && (metadata.name.as_deref() == Some(&key.name)
                || controller_of(metadata).is_some_and(|owner| owner.uid == uid))
    };
    let mut add = |existing: Existing, metadata: &ObjectMeta| {
        fingerprints.insert(existing.uid.clone(), fingerprint(metadata));
        workloads.push(existing);
    };
    for one in caches.deployments.state_filter(|one| ours(&one.metadata)) {
        add(existing(WorkloadKind::Deployment, &one.metadata, of_deployment(&one)), &one.metadata);
    }
    for one in caches.jobs.state_filter(|one| ours(&one.metadata)) {
        add(existing(WorkloadKind::Job, &one.metadata, of_job(&one)), &one.metadata);
    }
    for one in caches.cron_jobs.state_filter(|one: &CronJob| ours(&one.metadata)) {
        add(existing(WorkloadKind::CronJob, &one.metadata, Progress::default()), &one.metadata);
    }
    let known = |kind| move |one: &Existing| one.kind == kind && one.name == key.name;
    if let Some(kind) = WorkloadKind::of(&definition.spec.run)
        && !workloads.iter().any(known(kind))
        // The caches hold labelled objects only, and may be behind.
        && let Some(found) = workload_api(&context.client, &key.namespace, kind)
            .get_opt(&key.name)
            .await
            .map_err(Error::api(format!("read the {}", kind.kind())))?
    {
        fingerprints.insert(found.uid().unwrap_or_default(), fingerprint(&found.metadata));
        workloads.push(existing(kind, &found.metadata, Progress::default()));
    }

    let observed = Observed {
        named: all_pods
            .iter()
            .flat_map(|pod| injection::containers(pod))
            .filter_map(injection::revision_of)
            .map(str::to_owned)
            .collect(),
        refusal: accept(&definition, &ownership),
        revisions,
        rivals: rivals(&definition, &pods, context),
        trust: context.bundle.trust(),
        pods,
        workloads,
        definition,
    };
    Ok(Observation { fingerprints, observed })
}

/// The API of the workloads of a kind.
pub(super) fn workload_api(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
) -> Api<DynamicObject> {
    let resource = match kind {
        WorkloadKind::CronJob => ApiResource::erase::<CronJob>(&()),
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::Job => ApiResource::erase::<Job>(&()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// What of an object an application of ours could change, as text; two equal ones need no second
/// application. The spec counts by its generation.
pub(super) fn fingerprint(metadata: &ObjectMeta) -> String {
    #[derive(Serialize)]
    struct Parts<'a> {
        generation: Option<i64>,
        labels: &'a Option<std::collections::BTreeMap<String, String>>,
        owners: serde_json::Value,
        uid: &'a Option<String>,
    }
    canonical_json(&Parts {
        generation: metadata.generation,
        labels: &metadata.labels,
        owners: json!(metadata.owner_references),
        uid: &metadata.uid,
    })
}

/// Whether a pod is one of the definition's: by label, or by its selector.
fn concerns(definition: &TaskDefinition, pod: &Pod) -> bool {
    let labels = pod.labels();
    let named = labels.get(names::TASK_DEFINITION_LABEL);
    let is_named = named == definition.metadata.name.as_ref();
    match definition.spec.run.adopt {
        None => is_named,
        Some(_) => {
            labels.get(names::INJECT_LABEL).map(String::as_str) == Some(names::INJECT_VALUE)
                && (named.is_none() || is_named)
                && adopts(definition, labels)
        }
    }
}

/// The other definitions that adopt one of these pods.
fn rivals(definition: &TaskDefinition, pods: &[Pod], context: &Context) -> Vec<String> {
    if definition.spec.run.adopt.is_none() {
        return Vec::new();
    }
    let rivals: BTreeSet<String> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .flat_map(|pod| adopters(&context.caches.definitions, pod))
        .filter(|name| Some(name) != definition.metadata.name.as_ref())
        .collect();
    rivals.into_iter().collect()
}

fn existing(kind: WorkloadKind, metadata: &ObjectMeta, progress: Progress) -> Existing {
    Existing {
        controller: controller_of(metadata).cloned(),
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        progress,
        terminating: metadata.deletion_timestamp.is_some(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// What a Deployment says of itself.
pub(super) fn of_deployment(deployment: &Deployment) -> Progress {
    let status = deployment.status.clone().unwrap_or_default();
    let conditions = status.conditions.iter().flatten();
    let failure = conditions
        .filter(|one| one.type_ == "ReplicaFailure" && one.status == "True")
        .find_map(|one| one.message.clone());
    Progress {
        replica_failure: failure,
        replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas),
        rolled_out: status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or_default() == status.replicas.unwrap_or_default(),
        ..Progress::default()
    }
}

fn of_job(job: &Job) -> Progress {
    let conditions = || job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let holds = |kind: &'static str| {
        conditions().find(move |one| one.type_ == kind && one.status == "True")
    };
    Progress {
        complete: holds("Complete").is_some(),
        failed: holds("Failed").map(|one| {
            (one.reason.clone().unwrap_or_default(), one.message.clone().unwrap_or_default())
        }),
        failure_policy: job.spec.as_ref().and_then(|spec| {
            spec.pod_failure_policy.as_ref().and_then(|policy| serde_json::to_value(policy).ok())
        }),
        ..Progress::default()
    }
}
