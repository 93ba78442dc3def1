//! Tables of what is planned and reported; the laws are in `model`.

use k8s_openapi::jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use watchword_protocol::{CheckedReference, ErrorAnswer, ErrorCode};

use super::*;

mod model;

const NOW: &str = "2026-11-23T12:00:00Z";

#[test]
fn the_revision_comes_before_the_workload_that_names_it() {
    let plan = plan(&observed(service(1)));

    assert!(
        matches!(
            plan.writes.as_slice(),
            [
                Write::ApplyRevision { .. },
                Write::ApplyWorkload { kind: WorkloadKind::Deployment, uid: None, .. },
            ]
        ),
        "{plan:?}"
    );
    assert!(plan.tidying.is_empty());
}

#[test]
fn what_is_made_is_controlled_by_the_definition_and_keeps_it_from_vanishing_first() {
    let plan = plan(&observed(service(1)));

    for write in &plan.writes {
        let (Write::ApplyRevision { manifest, .. } | Write::ApplyWorkload { manifest, .. }) = write
        else {
            panic!("{write:?}");
        };
        assert_eq!(
            manifest["metadata"]["ownerReferences"],
            json!([{
                "apiVersion": "watchword.dev/v1alpha1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "TaskDefinition",
                "name": "web",
                "uid": "definition",
            }])
        );
    }
}

#[test]
fn replicas_are_left_alone_where_no_instances_are_wanted() {
    let plan = plan(&observed(json!({"service": {}})));

    let Some(Write::ApplyWorkload { manifest, .. }) = plan.writes.last() else {
        panic!("{plan:?}")
    };
    assert_eq!(manifest["spec"].get("replicas"), None);
}

#[test]
fn adoption_makes_nothing_but_the_revision() {
    let plan = plan(&observed(adopt()));

    assert!(matches!(plan.writes.as_slice(), [Write::ApplyRevision { .. }]), "{plan:?}");
}

#[test]
fn a_deleted_definition_is_left_to_the_garbage_collector() {
    let mut observed = observed(service(1));
    observed.definition.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));

    assert!(plan(&observed).writes.is_empty());
}

#[test]
fn a_refused_definition_changes_nothing() {
    let mut observed = observed(service(1));
    observed.definition.spec.id = Some("/bank/web".to_owned());
    observed.refusal = accept(&observed.definition, &crate::space::Ownership::default());
    observed.workloads.push(existing(WorkloadKind::Job, Some("definition")));

    let plan = plan(&observed);

    assert_eq!((plan.writes, plan.tidying), (Vec::new(), Vec::new()));
}

#[rstest]
#[case::nobodys(None, "not Watchword's")]
#[case::anothers(Some("other"), "controls")]
fn a_workload_that_is_not_ours_is_never_touched(#[case] owner: Option<&str>, #[case] says: &str) {
    let mut observed = observed(service(1));
    observed.workloads.push(existing(WorkloadKind::Deployment, owner));

    let plan = plan(&observed);

    assert!(matches!(plan.writes.as_slice(), [Write::ApplyRevision { .. }]), "{plan:?}");
    let conflict = plan.conflict.unwrap();
    assert_eq!(conflict.reason, "WorkloadExists");
    assert!(conflict.message.contains(says), "{}", conflict.message);
}

#[test]
fn another_kind_of_run_deletes_what_the_former_one_made_and_nothing_else() {
    let mut observed = observed(json!({"once": {}}));
    observed.workloads = vec![
        existing(WorkloadKind::Deployment, Some("definition")),
        Existing { uid: "foreign".to_owned(), ..existing(WorkloadKind::CronJob, Some("other")) },
    ];

    let plan = plan(&observed);

    let deletions: Vec<&Write> =
        plan.writes.iter().filter(|one| matches!(one, Write::DeleteWorkload { .. })).collect();
    assert_eq!(
        deletions,
        [&Write::DeleteWorkload {
            kind: WorkloadKind::Deployment,
            name: "web".to_owned(),
            uid: "workload".to_owned(),
        }]
    );
    assert_eq!(plan.applies(), Some(WorkloadKind::Job));
}

#[test]
fn an_existing_workload_is_written_by_its_uid_and_one_that_goes_is_waited_for() {
    let mut observed = observed(service(1));
    observed.workloads.push(existing(WorkloadKind::Deployment, Some("definition")));

    let by_uid = plan(&observed);
    observed.workloads[0].terminating = true;
    let waits = plan(&observed);

    let Some(Write::ApplyWorkload { manifest, uid, .. }) = by_uid.writes.last() else {
        panic!("{by_uid:?}");
    };
    assert_eq!(
        (uid.as_deref(), &manifest["metadata"]["uid"]),
        (Some("workload"), &json!("workload"))
    );
    assert_eq!(waits.applies(), None);
}

#[rstest]
#[case::forged(Some("definition"), "/bank/web")]
#[case::of_a_predecessor(Some("older"), "/shop/web")]
#[case::orphaned(None, "/shop/web")]
fn a_revision_that_is_not_ours_is_made_anew(#[case] owner: Option<&str>, #[case] id: &str) {
    let mut observed = observed(service(1));
    let mut there = revision_of(&observed, owner, 0);
    there.spec.id = id.to_owned();
    observed.revisions.push(there);

    let plan = plan(&observed);

    assert!(
        matches!(
            plan.writes.as_slice(),
            [
                Write::DeleteRevision { .. },
                Write::ApplyRevision { .. },
                Write::ApplyWorkload { .. }
            ]
        ),
        "{plan:?}"
    );
}

#[test]
fn the_last_ten_revisions_are_kept_and_those_that_pods_name() {
    let mut observed = observed(service(1));
    let current = plan(&observed).revision.unwrap();
    observed.revisions.push(revision_of(&observed, Some("definition"), 0));
    for age in 1..=14 {
        let mut old = revision_of(&observed, Some("definition"), age);
        old.metadata.name = Some(format!("web-{age:02}"));
        observed.revisions.push(old);
    }
    observed.named = BTreeSet::from(["web-12".to_owned()]);

    let removed: Vec<String> = plan(&observed)
        .tidying
        .into_iter()
        .map(|write| match write {
            Write::DeleteRevision { name, .. } => name,
            other => panic!("{other:?}"),
        })
        .collect();

    assert!(!removed.contains(&current));
    assert_eq!(removed, ["web-10", "web-11", "web-13", "web-14"]);
}

#[rstest]
#[case::staging(vec![], Check::Answered(vec![]), "staging")]
#[case::running(vec![pod("Running", "True", json!({}), json!({}))], resolved(), "running")]
#[case::launch_failed(
    vec![pod("Pending", "False", json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {
        "exitCode": 78,
        "finishedAt": "2026-11-23T11:59:00Z",
        "message": "Failed to launch container: cannot resolve `shop/db`: there is no such secret\n",
    }}))],
    missing(),
    "launch-failed"
)]
#[case::sealed(
    vec![pod("Running", "True", json!({"running": {"startedAt": "2026-11-23T11:59:00Z"}}), json!({}))],
    Check::Unknown {
        message: "waiting for the secret store: sealed".to_owned(),
        reason: "Sealed",
        since: "2026-11-23T11:50:00Z".parse().unwrap(),
    },
    "sealed"
)]
fn a_status_says_what_there_is_in_the_words_of_mesos(
    #[case] pods: Vec<Pod>,
    #[case] check: Check,
    #[case] golden: &str,
) {
    let mut observed = observed(service(1));
    observed.definition.metadata.generation = Some(3);
    observed.pods = pods;
    let plan = plan(&observed);

    let status = status(&Report {
        check: &check,
        now: now(),
        observed: &observed,
        outcome: &Outcome::Applied,
        plan: &plan,
    });

    insta::assert_json_snapshot!(golden, status);
}

#[rstest]
#[case::not_complete(false, "TASK_RUNNING")]
#[case::complete(true, "TASK_FINISHED")]
fn a_job_is_finished_when_it_says_so_and_not_when_its_first_pod_is(
    #[case] complete: bool,
    #[case] state: &str,
) {
    let mut observed = observed(json!({"once": {"completions": 2}}));
    observed.pods = vec![pod("Succeeded", "False", json!({}), json!({}))];
    let job = existing(WorkloadKind::Job, Some("definition"));
    let progress = Progress { complete, ..Progress::default() };
    observed.workloads = vec![Existing { progress, ..job }];

    let status = status(&Report {
        check: &resolved(),
        now: now(),
        outcome: &Outcome::Applied,
        plan: &plan(&observed),
        observed: &observed,
    });

    assert_eq!(status.state.as_deref(), Some(state));
}

#[rstest]
#[case::none(None)]
#[case::of_an_earlier_release(Some(json!({"rules": [
    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [78]}},
]})))]
fn a_job_keeps_the_failure_policy_that_it_was_made_with(#[case] made_with: Option<Value>) {
    let mut observed = observed(json!({"once": {"replace": true}}));
    let progress = Progress { failure_policy: made_with.clone(), ..Progress::default() };
    let job = existing(WorkloadKind::Job, Some("definition"));
    observed.workloads = vec![Existing { progress, ..job }];

    let writes = plan(&observed).writes;

    let manifest = writes.iter().find_map(|write| match write {
        Write::ApplyWorkload { manifest, .. } => Some(manifest),
        _ => None,
    });
    assert_eq!(manifest.unwrap()["spec"]["podFailurePolicy"], json!(made_with));
}

#[test]
fn a_refusal_is_told_as_mesos_tells_it() {
    let mut observed = observed(service(1));
    observed.definition.spec.id = Some("/bank/web".to_owned());
    observed.refusal = accept(&observed.definition, &crate::space::Ownership::default());
    let plan = plan(&observed);

    let status = status(&Report {
        check: &Check::NotAsked,
        now: now(),
        observed: &observed,
        outcome: &Outcome::Nothing,
        plan: &plan,
    });

    assert_eq!(status.state.as_deref(), Some("TASK_ERROR"));
    assert_eq!(status.reason.as_deref(), Some("REASON_TASK_UNAUTHORIZED"));
    let accepted = status.conditions.iter().find(|one| one.type_ == "Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "IdNotOwned"));
}

#[rstest]
#[case::task(json!([task("web"), {}]), "REASON_TASK_GROUP_INVALID")]
#[case::group(json!([{"name": "web", "command": {"value": "true", "environment": {"variables": [
    {"name": "X", "type": "SECRET"},
]}}}]), "REASON_TASK_INVALID")]
fn an_invalid_definition_is_refused_with_mesos_reason(#[case] tasks: Value, #[case] reason: &str) {
    let definition = definition(service(1), tasks);

    let refusal = accept(&definition, &crate::space::Ownership::default()).unwrap();

    assert_eq!((refusal.reason, refusal.task_reason()), ("Invalid", reason));
}

#[test]
fn inline_values_need_a_space_that_allows_them() {
    let mut task = task("web");
    task["command"]["environment"] = json!({"variables": [{
        "name": "X", "type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "Y2FuYXJ5"}},
    }]});
    let definition = definition(service(1), json!([task]));
    let space = |inline: &str| -> watchword_crds::Space {
        serde_json::from_value(json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "Space", "metadata": {"name": "shop"},
            "spec": {"namespaces": ["shop"], "prefixes": ["/shop"], "inlineValues": inline},
        }))
        .unwrap()
    };
    let accept = |spaces: &[watchword_crds::Space]| {
        accept(&definition, &crate::space::Ownership::of(spaces)).map(|refusal| refusal.reason)
    };

    assert_eq!(accept(&[]), Some("InlineValues"));
    assert_eq!(accept(&[space("Deny")]), Some("InlineValues"));
    assert_eq!(accept(&[space("Allow")]), None);
}

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(super) fn service(instances: i32) -> Value {
    json!({"service": {"instances": instances}})
}

pub(super) fn adopt() -> Value {
    json!({"adopt": {"serviceAccountName": "legacy", "selector": {"matchLabels": {"app": "legacy"}}}})
}

fn task(value: &str) -> Value {
    json!({
        "name": "web",
        "command": {"value": value, "environment": {"variables": [{
            "name": "DB", "type": "SECRET",
            "secret": {"type": "REFERENCE", "reference": {"name": "shop/db"}},
        }]}},
        "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "web:1"}}}},
    })
}

fn definition(run: Value, tasks: Value) -> TaskDefinition {
    serde_json::from_value(json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "TaskDefinition",
        "metadata": {"name": "web", "namespace": "shop", "uid": "definition", "generation": 1},
        "spec": {"run": run, "tasks": tasks},
    }))
    .unwrap()
}

pub(super) fn observed(run: Value) -> Observed {
    Observed {
        definition: definition(run, json!([task("true")])),
        named: BTreeSet::new(),
        pods: Vec::new(),
        refusal: None,
        revisions: Vec::new(),
        rivals: Vec::new(),
        trust: Some(Trust::new("", now(), None, k8s_openapi::jiff::SignedDuration::ZERO)),
        workloads: Vec::new(),
    }
}

pub(super) fn existing(kind: WorkloadKind, owner: Option<&str>) -> Existing {
    Existing {
        controller: owner.map(|uid| OwnerReference {
            kind: "Something".to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }),
        kind,
        name: "web".to_owned(),
        progress: Progress::default(),
        terminating: false,
        uid: "workload".to_owned(),
    }
}

/// The current revision, `age` hours old.
fn revision_of(observed: &Observed, owner: Option<&str>, age: i64) -> TaskRevision {
    let spec = revision::snapshot(&observed.definition.spec, "shop", "web");
    let created = now() - k8s_openapi::jiff::SignedDuration::from_hours(age);
    let owners: Vec<Value> = owner
        .iter()
        .map(|uid| {
            json!({
                "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition", "name": "web",
                "uid": uid, "controller": true,
            })
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "TaskRevision",
        "metadata": {
            "name": revision::name(&spec), "namespace": "shop", "uid": format!("revision-{age}"),
            "creationTimestamp": created.to_string(), "ownerReferences": owners,
        },
        "spec": spec,
    }))
    .unwrap()
}

fn pod(phase: &str, ready: &str, state: Value, last: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web-1", "namespace": "shop",
            "labels": {names::TASK_DEFINITION_LABEL: "web", names::INJECT_LABEL: "true"},
        },
        "spec": {"containers": [{"name": "web"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last,
            }],
        },
    }))
    .unwrap()
}

fn checked(error: Option<ErrorAnswer>) -> CheckedReference {
    CheckedReference {
        name: "shop/db".to_owned(),
        key: None,
        resolver: "store".to_owned(),
        version: error.is_none().then_some(2),
        error,
    }
}

pub(super) fn resolved() -> Check {
    Check::Answered(vec![checked(None)])
}

fn missing() -> Check {
    Check::Answered(vec![checked(Some(ErrorAnswer {
        code: ErrorCode::NotFound,
        message: "there is no such secret".to_owned(),
        reference: Some("shop/db".to_owned()),
    }))])
}
