//! Stages: how far one pod has come, and in Mesos' words why it failed.
//!
//! Read from a pod's status, hence for people only: a pod's owner could write anything there.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::workload::AGENT_REFUSED;

/// How far a pod has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stage {
    /// It ended, or a container of it does not start or does not stay.
    Failed(Failure),
    /// It ended well.
    Finished,
    /// It is Ready.
    Running,
    /// It has no container yet that runs.
    Staging,
    /// A container of it runs, and it is not Ready.
    Starting,
}

/// Why a pod failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// When it failed, as the node's clock has it.
    pub at: Option<Timestamp>,
    /// Whether the kubelet waits before it tries again.
    pub backs_off: bool,
    /// What kind of failure it is.
    pub cause: Cause,
    /// The reason in full: at most 1,024 characters, none of them a control character.
    pub message: String,
}

/// What keeps containers from being launched.
///
/// It is told from the failure alone. What the store says of the references at that moment is known
/// sooner or later than the failure, and may be about another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hindrance {
    /// The kubelet could not start a container.
    Kubelet,
    /// A secret cannot be had.
    Secrets,
}

impl Hindrance {
    /// All that there are.
    pub const ALL: [Self; 2] = [Self::Kubelet, Self::Secrets];

    /// As Events and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Secrets => "secrets",
        }
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Watchword's agent gave up: a secret cannot be had.
    Agent,
    /// A deadline passed.
    Deadline,
    /// The node was short of something and evicted the pod.
    Eviction,
    /// The program ended with an exit code other than 0, or by a signal.
    Exit,
    /// The kubelet could not start a container.
    Kubelet,
    /// A container used more memory than its limit.
    Memory,
}

impl Cause {
    /// What kept containers from being launched; none where a program had been started.
    pub fn hindrance(self) -> Option<Hindrance> {
        match self {
            Self::Agent => Some(Hindrance::Secrets),
            Self::Deadline | Self::Eviction | Self::Exit | Self::Memory => None,
            Self::Kubelet => Some(Hindrance::Kubelet),
        }
    }

    /// The reason as Mesos names it (`TaskStatus.Reason` of `mesos.proto`).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Agent | Self::Kubelet => "REASON_CONTAINER_LAUNCH_FAILED",
            Self::Deadline => "REASON_MAX_COMPLETION_TIME_REACHED",
            Self::Eviction => "REASON_CONTAINER_LIMITATION",
            Self::Exit => "REASON_COMMAND_EXECUTOR_FAILED",
            Self::Memory => "REASON_CONTAINER_LIMITATION_MEMORY",
        }
    }
}

/// How far `pod` has come at `now`.
pub fn stage(pod: &Pod, now: Timestamp) -> Stage {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if phase == Some("Succeeded") {
        return Stage::Finished;
    }
    if let Some(failure) = failure(pod, now) {
        return Stage::Failed(failure);
    }
    if is_ready(pod) {
        Stage::Running
    } else if container_statuses(pod).any(|container| running_since(container).is_some()) {
        Stage::Starting
    } else {
        Stage::Staging
    }
}

/// Whether the pod is Ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the pod still stands for a task: it has not ended and is not being deleted.
pub fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The moments since which the running containers of a pod run.
pub(super) fn running(pod: &Pod) -> impl Iterator<Item = Timestamp> {
    container_statuses(pod).filter_map(running_since)
}

/// When the pod needs to be looked at again although nothing happens to it: a container that failed
/// for want of a secret runs again and has not yet run long enough to be believed.
pub(super) fn settles_at(pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    container_statuses(pod)
        .filter(|container| last_termination(container).is_some_and(is_agents))
        .filter_map(running_since)
        .map(|since| since + SETTLING)
        .filter(|settled| *settled > now)
        .min()
}

/// Why the pod fails or failed; agents' failures before all others, since they come first.
fn failure(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let of_containers =
        || container_statuses(pod).filter_map(|container| of_container(container, now));
    of_containers()
        .find(|failure| failure.cause == Cause::Agent)
        .or_else(|| of_pod(pod))
        .or_else(|| of_containers().next())
        .or_else(|| {
            let status = pod.status.as_ref()?;
            let message = status.message.as_deref().or(status.reason.as_deref());
            (status.phase.as_deref() == Some("Failed")).then(|| Failure {
                at: None,
                backs_off: false,
                cause: Cause::Exit,
                message: clean(message.unwrap_or("the pod failed")),
            })
        })
}

/// Failures that Kubernetes says of the pod as a whole.
fn of_pod(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let cause = match status.reason.as_deref()? {
        "DeadlineExceeded" => Cause::Deadline,
        "Evicted" => Cause::Eviction,
        _ => return None,
    };
    let message = status.message.as_deref().or(status.reason.as_deref()).unwrap_or_default();
    Some(Failure { at: None, backs_off: false, cause, message: clean(message) })
}

fn of_container(container: &ContainerStatus, now: Timestamp) -> Option<Failure> {
    let state = container.state.as_ref();
    if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
        return of_termination(terminated, false);
    }
    let last = last_termination(container);
    if let Some(since) = running_since(container) {
        // The agent asks the store first thing: who has run for this long got an answer. Without
        // this the state would flap with every attempt.
        let last = last.filter(|last| is_agents(last) && now.duration_since(since) < SETTLING)?;
        return of_termination(last, false);
    }
    let waiting = state?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if START_FAILURES.contains(&reason) {
        let why = waiting.message.as_deref().unwrap_or_default();
        return Some(Failure {
            at: None,
            backs_off: true,
            cause: Cause::Kubelet,
            message: clean(&format!("{LAUNCH_FAILED} {reason}: {why}")),
        });
    }
    of_termination(last?, reason == "CrashLoopBackOff")
}

fn of_termination(terminated: &ContainerStateTerminated, backs_off: bool) -> Option<Failure> {
    if terminated.exit_code == 0 {
        return None;
    }
    let own = terminated.message.as_deref().unwrap_or_default();
    let (cause, message) = if is_agents(terminated) {
        (Cause::Agent, own.to_owned())
    } else {
        match (terminated.reason.as_deref(), terminated.signal, terminated.exit_code) {
            (Some("OOMKilled"), _, _) => (Cause::Memory, "Memory limit exceeded".to_owned()),
            (Some("StartError" | "ContainerCannotRun"), _, _) => {
                (Cause::Kubelet, format!("{LAUNCH_FAILED} {own}"))
            }
            (_, Some(signal), _) if signal > 0 => {
                (Cause::Exit, format!("Command terminated with signal {signal}"))
            }
            (_, _, code) => (Cause::Exit, format!("Command exited with status {code}")),
        }
    };
    let at = terminated.finished_at.as_ref().map(|time| time.0);
    Some(Failure { at, backs_off, cause, message: clean(&message) })
}

/// Whether it was our agent that gave up, and not an application that uses its exit code.
fn is_agents(terminated: &ContainerStateTerminated) -> bool {
    let message = terminated.message.as_deref().unwrap_or_default();
    terminated.exit_code == AGENT_REFUSED && message.starts_with(LAUNCH_FAILED)
}

fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

fn running_since(container: &ContainerStatus) -> Option<Timestamp> {
    let running = container.state.as_ref()?.running.as_ref()?;
    Some(running.started_at.as_ref()?.0)
}

fn last_termination(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.last_state.as_ref().and_then(|state: &ContainerState| state.terminated.as_ref())
}

/// Text from elsewhere as it may stand in a status: without control characters, and not longer
/// than an Event's note may be.
pub fn clean(text: &str) -> String {
    text.trim().chars().filter(|char| !char.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

/// How Mesos begins the message of a launch failure (`src/slave/slave.cpp`), and our agent too.
const LAUNCH_FAILED: &str = "Failed to launch container:";

/// As long as an Event's note.
const MAX_MESSAGE_CHARS: usize = 1024;

/// How long a container must run after a failure of its agent until it counts as started.
const SETTLING: SignedDuration = SignedDuration::from_secs(5);

/// The reasons of the kubelet for a container that it cannot start.
const START_FAILURES: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";
    const REFUSED: &str = "Failed to launch container: no secret `shop/db`";

    #[rstest]
    #[case::nothing_yet(json!({"phase": "Pending"}), Stage::Staging)]
    #[case::agent_waits(
        json!({"phase": "Pending", "initContainerStatuses": [status(json!({"running": {"startedAt": NOW}}), json!({}))]}),
        Stage::Starting
    )]
    #[case::ready(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}), Stage::Running)]
    #[case::ended_well(json!({"phase": "Succeeded"}), Stage::Finished)]
    fn a_pod_passes_the_stages_of_mesos(#[case] status: Value, #[case] expected: Stage) {
        assert_eq!(stage(&pod(status), NOW.parse().unwrap()), expected);
    }

    #[rstest]
    #[case(Cause::Agent, Some("secrets"))]
    #[case(Cause::Kubelet, Some("kubelet"))]
    #[case(Cause::Exit, None)]
    fn what_keeps_containers_from_starting_is_told_from_the_failure(
        #[case] cause: Cause,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(cause.hindrance().map(Hindrance::as_str), expected);
    }

    #[rstest]
    #[case::agent(json!({"terminated": ended(78, REFUSED)}), json!({}), Cause::Agent, REFUSED)]
    #[case::agent_backing_off(
        json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": ended(78, REFUSED)}), Cause::Agent, REFUSED
    )]
    #[case::agent_that_has_just_started_again(
        json!({"running": {"startedAt": "2026-11-23T11:59:57Z"}}), json!({"terminated": ended(78, REFUSED)}), Cause::Agent, REFUSED
    )]
    #[case::application_with_the_agents_exit_code(
        json!({"terminated": ended(78, "bad configuration")}), json!({}), Cause::Exit, "Command exited with status 78"
    )]
    #[case::memory(
        json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), json!({}), Cause::Memory, "Memory limit exceeded"
    )]
    #[case::image(
        json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}), json!({}), Cause::Kubelet,
        "Failed to launch container: ErrImagePull: no such image"
    )]
    #[case::crash(
        json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": ended(1, "")}), Cause::Exit,
        "Command exited with status 1"
    )]
    fn failures_have_the_words_of_mesos(
        #[case] state: Value,
        #[case] last: Value,
        #[case] cause: Cause,
        #[case] message: &str,
    ) {
        let pod = pod(json!({"phase": "Running", "containerStatuses": [status(state, last)]}));

        let Stage::Failed(failure) = stage(&pod, NOW.parse().unwrap()) else {
            panic!("{pod:?}");
        };

        assert_eq!((failure.cause, failure.message.as_str()), (cause, message));
    }

    #[test]
    fn a_container_that_has_run_for_a_while_is_forgiven_its_first_attempts() {
        let last = json!({"terminated": ended(78, REFUSED)});
        let pod = pod(json!({"phase": "Running", "containerStatuses": [
            status(json!({"running": {"startedAt": "2026-11-23T11:59:50Z"}}), last),
        ]}));

        assert_eq!(stage(&pod, NOW.parse().unwrap()), Stage::Starting);
        assert_eq!(settles_at(&pod, NOW.parse().unwrap()), None);
    }

    #[test]
    fn a_message_is_cut_and_stripped_of_control_characters() {
        let text = format!("a\u{1b}[31m\nb{}", "x".repeat(5000));

        let clean = clean(&text);

        assert!(clean.starts_with("a[31mb"));
        assert_eq!(clean.chars().count(), 1024);
    }

    fn ended(code: i32, message: &str) -> Value {
        json!({"exitCode": code, "message": message, "finishedAt": "2026-11-23T11:59:00Z"})
    }

    fn status(state: Value, last: Value) -> Value {
        json!({
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last,
        })
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-1"}, "status": status})).unwrap()
    }
}
