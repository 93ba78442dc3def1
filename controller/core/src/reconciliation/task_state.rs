//! The state of a whole definition in Mesos' words, from the stages of its pods.
//!
//! Mesos has a state per task and none for a set of them. Here one task that fails makes the set
//! fail, as long as it runs what the definition says today; and a set runs when it has as many
//! Ready pods as are wanted.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::stage::{Cause, Failure, Stage, clean, is_live, stage};
use super::{Observed, Progress};
use crate::injection;
use crate::workload::WorkloadKind;

/// State, reason and message as Mesos' `TaskStatus` has them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TaskState {
    pub(super) message: Option<String>,
    pub(super) reason: Option<&'static str>,
    /// Absent where no task is wanted.
    pub(super) state: Option<&'static str>,
}

/// How many pods there are, are Ready and are wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) live: i32,
    pub(super) ready: i32,
    pub(super) wanted: i32,
}

/// Counts the live pods; as many are wanted as `run` says, or the Deployment where it is scaled by
/// somebody else, or all that there are.
pub(super) fn counts(observed: &Observed) -> Counts {
    let live: Vec<&Pod> = observed.pods.iter().filter(|pod| is_live(pod)).collect();
    let ready = live.iter().filter(|pod| super::is_ready(pod)).count();
    let (live, ready) = (count(live.len()), count(ready));
    let run = &observed.definition.spec.run;
    let wanted = match WorkloadKind::of(run) {
        None => live,
        Some(WorkloadKind::CronJob) => 0,
        Some(WorkloadKind::Deployment) => {
            let instances = run.service.as_ref().map_or(Some(1), |service| service.instances);
            instances.or_else(|| progress(observed)?.replicas).unwrap_or(1)
        }
        Some(WorkloadKind::Job) => 1,
    };
    Counts { live, ready, wanted }
}

/// What the workload says of itself.
pub(super) fn progress(observed: &Observed) -> Option<&Progress> {
    let kind = WorkloadKind::of(&observed.definition.spec.run)?;
    let owner = super::owner(&observed.definition)?;
    let ours = |one: &&super::Existing| one.kind == kind && one.is_controlled_by(&owner);
    observed.workloads.iter().find(ours).map(|one| &one.progress)
}

/// The state of the definition, whose pods should be of revision `current`.
pub(super) fn task_state(observed: &Observed, current: Option<&str>, now: Timestamp) -> TaskState {
    match WorkloadKind::of(&observed.definition.spec.run) {
        None => of_service(observed, current, now),
        Some(WorkloadKind::CronJob) => of_runs(observed, now, "No run has been started yet."),
        Some(WorkloadKind::Deployment) => of_service(observed, current, now),
        Some(WorkloadKind::Job) => of_job(observed, now),
    }
}

fn of_service(observed: &Observed, current: Option<&str>, now: Timestamp) -> TaskState {
    let Counts { live, ready, wanted } = counts(observed);
    let is_adoption = observed.definition.spec.run.adopt.is_some();
    if live == 0 && wanted == 0 {
        return TaskState {
            message: Some(if is_adoption {
                "No pod with the label `watchword.dev/inject: \"true\"` matches the selector."
                    .to_owned()
            } else {
                "No instance is wanted.".to_owned()
            }),
            state: is_adoption.then_some("TASK_STAGING"),
            ..TaskState::default()
        };
    }
    let stages: Vec<(bool, Stage)> = observed
        .pods
        .iter()
        // A pod that has ended is replaced by another one.
        .filter(|pod| is_live(pod))
        .map(|pod| {
            // Pods without secrets name no revision.
            let is_current = injection::named_revision(pod)
                .is_none_or(|named| current.is_none_or(|current| named == current));
            (is_current, stage(pod, now))
        })
        .collect();
    let failed = |only_current: bool| {
        stages.iter().find_map(|(is_current, stage)| match stage {
            Stage::Failed(failure) if *is_current || !only_current => Some(failure),
            _ => None,
        })
    };
    if let Some(failure) = failed(true) {
        return of_failure(failure);
    }
    if ready >= wanted && ready > 0 {
        return plain("TASK_RUNNING");
    }
    if let Some(failure) = failed(false) {
        return of_failure(failure);
    }
    if ready > 0 {
        return plain("TASK_RUNNING");
    }
    let started = stages.iter().any(|(_, stage)| *stage == Stage::Starting);
    let mut state = plain(if started { "TASK_STARTING" } else { "TASK_STAGING" });
    // What keeps Kubernetes from making pods, such as a quota or a webhook that is away.
    state.message = progress(observed)
        .and_then(|progress| progress.replica_failure.as_deref())
        .filter(|_| live < wanted)
        .map(clean);
    state
}

fn of_job(observed: &Observed, now: Timestamp) -> TaskState {
    let progress = progress(observed);
    if progress.is_some_and(|progress| progress.complete) {
        return plain("TASK_FINISHED");
    }
    let Some((reason, message)) = progress.and_then(|progress| progress.failed.as_ref()) else {
        return match of_runs(observed, now, "") {
            // One pod ended well; the Job may want more, and says itself when it is complete.
            TaskState { state: Some("TASK_FINISHED"), .. } => plain("TASK_RUNNING"),
            state => state,
        };
    };
    let newest = newest(observed).map(|pod| stage(pod, now));
    match newest {
        // What the task itself said is more than what the Job says of it.
        Some(Stage::Failed(failure)) if reason != "DeadlineExceeded" => of_failure(&failure),
        _ => {
            let cause = if reason == "DeadlineExceeded" { Cause::Deadline } else { Cause::Exit };
            TaskState {
                message: Some(clean(message)),
                reason: Some(cause.reason()),
                state: Some("TASK_FAILED"),
            }
        }
    }
}

/// The state of the newest pod; of several that run at once, of the one that is furthest.
fn of_runs(observed: &Observed, now: Timestamp, idle: &str) -> TaskState {
    let stages = || observed.pods.iter().filter(|pod| is_live(pod)).map(|pod| stage(pod, now));
    if stages().any(|stage| stage == Stage::Running) {
        return plain("TASK_RUNNING");
    }
    let failed = stages().find_map(|stage| match stage {
        Stage::Failed(failure) => Some(failure),
        _ => None,
    });
    if let Some(failure) = failed {
        return of_failure(&failure);
    }
    match newest(observed).map(|pod| stage(pod, now)) {
        None => TaskState {
            message: (!idle.is_empty()).then(|| idle.to_owned()),
            ..plain("TASK_STAGING")
        },
        Some(Stage::Failed(failure)) => of_failure(&failure),
        Some(Stage::Finished) => plain("TASK_FINISHED"),
        Some(Stage::Running) => plain("TASK_RUNNING"),
        Some(Stage::Staging) => plain("TASK_STAGING"),
        Some(Stage::Starting) => plain("TASK_STARTING"),
    }
}

fn newest(observed: &Observed) -> Option<&Pod> {
    let pods = observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.max_by_key(|pod| {
        (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone())
    })
}

fn of_failure(failure: &Failure) -> TaskState {
    TaskState {
        message: Some(failure.message.clone()),
        reason: Some(failure.cause.reason()),
        state: Some("TASK_FAILED"),
    }
}

fn plain(state: &'static str) -> TaskState {
    TaskState { message: None, reason: None, state: Some(state) }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
