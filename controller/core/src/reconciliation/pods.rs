//! Pods that wait: for the store, or for their next attempt.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use watchword_crds::names;

use super::stage::{Cause, Failure, Stage, is_live, is_ready, running, stage};
use crate::claim::controller_of;

/// Whether an agent in this pod waits for a store that has not answered since `since`.
///
/// Either the pod is not Ready although a container has run for longer than an answer takes, or a
/// container was started when the store was away already: without a readiness probe a container
/// that waits counts as Ready.
pub fn is_waiting_for_secrets(pod: &Pod, since: Timestamp, now: Timestamp) -> bool {
    is_injected(pod)
        && is_live(pod)
        && running(pod)
            .any(|start| now.duration_since(start) > PATIENCE && (!is_ready(pod) || start >= since))
}

/// The latest moment at which an agent of this pod asked the store or gave up, as far as the pod's
/// status tells. What is known of the references should be newer.
pub fn latest(pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let failed = match stage(pod, now) {
        Stage::Failed(Failure { at, cause: Cause::Agent, .. }) => at,
        _ => None,
    };
    let started = running(pod).max().filter(|_| is_live(pod));
    failed.max(started).filter(|_| is_injected(pod))
}

/// Whether a pod of a Deployment backs off after its agent failed, and may be replaced by a fresh one
/// because its secrets can be read since `since`.
///
/// A failure after that moment is another one: nobody would be helped by a pod that fails the same
/// way at once, so each pod gets at most one such retry.
pub fn retry(pod: &Pod, since: Timestamp, now: Timestamp) -> bool {
    let owner = controller_of(&pod.metadata);
    owner.is_some_and(|owner| owner.kind == "ReplicaSet")
        && pod.metadata.deletion_timestamp.is_none()
        && matches!(
            stage(pod, now),
            Stage::Failed(Failure { cause: Cause::Agent, backs_off: true, at: Some(at), .. })
                if at <= since
        )
}

fn is_injected(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(names::INJECT_LABEL))
        .is_some_and(|it| it == names::INJECT_VALUE)
}

/// How long an agent may wait before anybody is told.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const EARLIER: &str = "2026-11-23T11:59:00Z";
    const NOW: &str = "2026-11-23T12:00:00Z";

    #[rstest]
    #[case::not_ready_before_the_store_went("False", "2026-11-23T11:58:00Z", true)]
    #[case::started_while_the_store_was_away("True", "2026-11-23T11:59:30Z", true)]
    #[case::started_and_served_before("True", "2026-11-23T11:58:00Z", false)]
    #[case::just_started("False", "2026-11-23T11:59:55Z", false)]
    fn a_pod_that_waits_is_told_from_one_that_works(
        #[case] ready: &str,
        #[case] started: &str,
        #[case] expected: bool,
    ) {
        let pod = pod(json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [container(json!({"running": {"startedAt": started}}), json!({}))],
        }));

        let waits = is_waiting_for_secrets(&pod, EARLIER.parse().unwrap(), NOW.parse().unwrap());

        assert_eq!(waits, expected);
    }

    #[test]
    fn a_pod_whose_files_are_not_written_yet_waits() {
        let writes = json!({"running": {"startedAt": "2026-11-23T11:58:00Z"}});
        let pod = pod(json!({
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "initContainerStatuses": [container(writes, json!({}))],
        }));

        assert!(is_waiting_for_secrets(&pod, EARLIER.parse().unwrap(), NOW.parse().unwrap()));
    }

    #[rstest]
    #[case::failed_before("CrashLoopBackOff", 78, "2026-11-23T11:58:00Z", true)]
    #[case::failed_after("CrashLoopBackOff", 78, "2026-11-23T11:59:30Z", false)]
    #[case::not_backing_off("PodInitializing", 78, "2026-11-23T11:58:00Z", false)]
    #[case::the_applications_failure("CrashLoopBackOff", 1, "2026-11-23T11:58:00Z", false)]
    fn a_pod_is_retried_once_for_what_has_been_mended(
        #[case] waiting: &str,
        #[case] code: i32,
        #[case] finished: &str,
        #[case] expected: bool,
    ) {
        let last = json!({"terminated": {
            "exitCode": code, "message": "Failed to launch container: no", "finishedAt": finished,
        }});
        let pod = pod(json!({
            "phase": "Running",
            "containerStatuses": [container(json!({"waiting": {"reason": waiting}}), last)],
        }));

        assert_eq!(retry(&pod, EARLIER.parse().unwrap(), NOW.parse().unwrap()), expected);
    }

    fn container(state: Value, last: Value) -> Value {
        json!({
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last,
        })
    }

    fn pod(status: Value) -> Pod {
        let metadata = json!({
            "name": "web-1",
            "labels": {names::INJECT_LABEL: "true"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true,
            }],
        });
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }
}
