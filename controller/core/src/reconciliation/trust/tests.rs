//! Who does not know the authority, and what becomes of them when.

use rstest::rstest;
use serde_json::{Value, json};

use super::super::tests::{adopt, existing, now, observed, resolved, service};
use super::super::{Progress, accept};
use super::*;
use crate::space::Ownership;

const OLD: &str = "-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----\n";
const NEW: &str = "-----BEGIN CERTIFICATE-----\nbmV3\nbmV3\n-----END CERTIFICATE-----\n";

#[rstest]
#[case::both(&format!("{NEW}{OLD}"), true)]
#[case::the_new_one(NEW, true)]
#[case::lines_broken_elsewhere(
    "-----BEGIN CERTIFICATE-----\r\nbmV3bmV3\r\n-----END CERTIFICATE-----",
    true
)]
#[case::the_old_one(OLD, false)]
#[case::nothing("", false)]
fn a_pod_knows_the_authorities_of_its_bundle(#[case] bundle: &str, #[case] knows: bool) {
    let mut observed = rolled(service(1));
    observed.pods = vec![pod("web-1", bundle)];

    assert_eq!(strangers(&observed, now()).is_none(), knows);
}

#[test]
fn only_live_pods_that_ask_the_store_can_be_strangers_and_their_init_containers_count() {
    let mut observed = rolled(service(1));
    let mut ended = pod("ended", OLD);
    ended.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    let mut plain = pod("plain", OLD);
    plain.spec.as_mut().unwrap().containers[0].env = None;
    let mut files = pod("files", OLD);
    let spec = files.spec.as_mut().unwrap();
    spec.init_containers = Some(std::mem::take(&mut spec.containers));
    observed.pods = vec![ended, plain, files];

    assert_eq!(strangers(&observed, now()).unwrap().pods, ["files"]);
}

#[rstest]
#[case::service(service(1), Course::Roll)]
#[case::once(json!({"once": {}}), Course::End)]
#[case::schedule(json!({"schedule": {"cron": "@daily"}}), Course::End)]
#[case::adopted(adopt(), Course::Foreign)]
fn only_what_is_ours_and_never_ends_is_rolled(#[case] run: Value, #[case] expected: Course) {
    let mut observed = rolled(run);
    observed.pods = vec![pod("web-1", OLD)];

    assert_eq!(strangers(&observed, now()).unwrap().course, expected);
    assert_eq!(to_roll(&observed, &resolved(), now()).is_some(), expected == Course::Roll);
}

/// Hours after the authority was made, and hours that pods are left alone.
#[rstest]
#[case::vouched_for_and_young(1, true, 720, false)]
#[case::vouched_for_until_its_time(719, true, 720, false)]
#[case::vouched_for_when_its_time_has_come(720, true, 720, true)]
#[case::at_once_where_that_is_wanted(0, true, 0, true)]
#[case::nobody_vouches(1, false, 720, true)]
#[case::nobody_vouches_and_the_webhook_may_not_know(0, false, 720, false)]
fn a_deployment_is_rolled_when_its_time_has_come(
    #[case] age: i64,
    #[case] vouched_for: bool,
    #[case] patience: i64,
    #[case] is_rolled: bool,
) {
    let issued = now() - SignedDuration::from_hours(age);
    let ends = vouched_for.then(|| issued + SignedDuration::from_hours(1440));
    let mut observed = rolled(service(1));
    observed.trust = Some(Trust::new(NEW, issued, ends, SignedDuration::from_hours(patience)));
    observed.pods = vec![pod("web-1", OLD)];

    assert_eq!(to_roll(&observed, &resolved(), now()).is_some(), is_rolled);
    let later = matches!(strangers(&observed, now()).unwrap().course, Course::Later(_));
    assert_eq!(later, !is_rolled);
}

#[test]
fn nothing_is_rolled_that_could_not_start_again_or_is_being_rolled_already() {
    let mut observed = rolled(service(1));
    observed.pods = vec![pod("web-1", OLD)];
    let roll = |observed: &Observed, check: &Check| to_roll(observed, check, now()).is_some();
    assert!(roll(&observed, &resolved()));
    let sealed = Check::Unknown { message: "sealed".to_owned(), reason: "Sealed", since: now() };

    assert!(!roll(&observed, &sealed));
    let mut refused = observed.clone();
    refused.definition.spec.id = Some("/bank/web".to_owned());
    refused.refusal = accept(&refused.definition, &Ownership::default());
    assert!(!roll(&refused, &resolved()));
    observed.workloads[0].progress.rolled_out = false;
    assert!(!roll(&observed, &resolved()));
    assert_eq!(strangers(&observed, now()).unwrap().course, Course::Rolling);
}

#[test]
fn while_the_authority_has_not_been_read_nobody_is_a_stranger() {
    let mut observed = rolled(service(1));
    observed.pods = vec![pod("web-1", OLD)];
    observed.trust = None;

    assert_eq!(strangers(&observed, now()), None);
}

#[test]
fn a_message_names_the_first_pods_the_end_and_the_mend() {
    let mut observed = rolled(adopt());
    observed.pods = (1..=7).map(|number| pod(&format!("web-{number}"), OLD)).collect();

    let message = strangers(&observed, now()).unwrap().message();

    for part in ["2027-01-22T11:00:00Z", "`web-1`", "`web-5`, 2 more.", "`kubectl rollout restart`"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// A definition whose workload is as it should be; the new authority is an hour old, and pods were
/// left alone for a minute.
fn rolled(run: Value) -> Observed {
    let issued = now() - SignedDuration::from_hours(1);
    let ends = issued + SignedDuration::from_hours(60 * 24);
    let mut observed = observed(run);
    observed.trust = Some(Trust::new(NEW, issued, Some(ends), SignedDuration::from_mins(1)));
    let progress = Progress { rolled_out: true, ..Progress::default() };
    let ours = existing(WorkloadKind::Deployment, Some("definition"));
    observed.workloads = vec![Existing { progress, ..ours }];
    observed
}

fn pod(name: &str, bundle: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "env": [{"name": "WATCHWORD_CA", "value": bundle}]}]},
        "status": {"phase": "Running"},
    }))
    .unwrap()
}
