//! Which calls a reconcile makes, and in which order, against a mock of the API server that knows
//! nothing but the script of the test.

use std::path::PathBuf;

use http::{Method, Request, Response};
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tower_test::mock;
use watchword_core::reconciliation::Trust;
use watchword_core::revision;
use watchword_crds::TaskRevision;

use super::caches::{Caches, Held};
use super::*;
use crate::args::{RollArgs, TrustArgs};
use crate::metrics::Metrics;

const REVISIONS: &str = "/apis/watchword.dev/v1alpha1/namespaces/shop/taskrevisions";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const JOB: &str = "/apis/batch/v1/namespaces/shop/jobs/web";
const STATUS: &str = "/apis/watchword.dev/v1alpha1/namespaces/shop/taskdefinitions/web/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

#[tokio::test]
async fn a_new_definition_gets_its_revision_then_its_workload_then_its_status() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let (context, server) = context(
        Held::default(),
        vec![
            call(Method::GET, DEPLOYMENT, 404, json!({"reason": "NotFound"})),
            call(Method::PATCH, &revision_path(&definition), 200, json!(revision_of(&definition))),
            call(Method::PATCH, DEPLOYMENT, 200, deployment()),
            call(Method::PATCH, STATUS, 200, json!(definition)),
            call(Method::POST, EVENTS, 201, json!({})),
        ],
    );

    bring(&definition, &key_of(), &context).await.unwrap();

    let requests = finish(context, server).await;
    let (_, workload) = &requests[2];
    assert!(requests[1].0.contains("force=true"), "{}", requests[1].0);
    // What does not exist is not taken by force, and has no uid to name.
    assert!(!requests[2].0.contains("force=true"), "{}", requests[2].0);
    assert_eq!(workload["metadata"].get("uid"), None);
    assert_eq!(requests[3].1["status"]["state"], "TASK_STAGING");
    assert_eq!(requests[4].1["reason"], "WorkloadCreated");
}

#[tokio::test]
async fn what_is_as_it_should_be_costs_no_call() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let held = Held {
        deployments: vec![typed(deployment())],
        revisions: vec![revision_of(&definition)],
        ..Held::default()
    };
    let (context, server) = context(
        held,
        vec![
            call(Method::PATCH, DEPLOYMENT, 200, deployment()),
            call(Method::PATCH, STATUS, 200, json!(definition)),
        ],
    );

    for _ in 0..3 {
        bring(&definition, &key_of(), &context).await.unwrap();
    }

    let requests = finish(context, server).await;
    assert!(requests[0].0.contains("force=true"));
    assert_eq!(requests[0].1["metadata"]["uid"], "workload");
}

#[tokio::test]
async fn nothing_follows_a_revision_that_could_not_be_written() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let (context, server) = context(
        Held::default(),
        vec![
            call(Method::GET, DEPLOYMENT, 404, json!({"reason": "NotFound"})),
            call(
                Method::PATCH,
                &revision_path(&definition),
                500,
                json!({"reason": "InternalError"}),
            ),
        ],
    );

    let error = bring(&definition, &key_of(), &context).await.unwrap_err();

    assert!(error.to_string().starts_with("cannot write the revision `web-"), "{error}");
    finish(context, server).await;
}

#[tokio::test]
async fn a_revision_that_a_policy_refuses_is_reported_and_nothing_follows_it() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let (context, server) = context(
        Held::default(),
        vec![
            call(Method::GET, DEPLOYMENT, 404, json!({"reason": "NotFound"})),
            call(Method::PATCH, &revision_path(&definition), 403, json!({"message": "not here"})),
            call(Method::PATCH, STATUS, 200, json!(definition)),
            call(Method::POST, EVENTS, 201, json!({})),
        ],
    );

    bring(&definition, &key_of(), &context).await.unwrap();

    let requests = finish(context, server).await;
    assert_eq!(requests[2].1["status"]["message"], "not here");
}

#[rstest]
#[case::kept(json!({"once": {}}), "JobKept", vec![])]
#[case::replaced(json!({"once": {"replace": true}}), "Accepted", vec![
    call(Method::DELETE, JOB, 200, json!({"kind": "Status"})),
])]
#[tokio::test]
async fn a_job_that_cannot_be_changed_is_kept_or_replaced(
    #[case] run: Value,
    #[case] reason: &str,
    #[case] deletion: Vec<Call>,
) {
    let definition = definition(run);
    let held = Held {
        jobs: vec![typed::<Job>(workload("batch/v1", "Job"))],
        revisions: vec![revision_of(&definition)],
        ..Held::default()
    };
    let immutable =
        json!({"message": "Job.batch \"web\" is invalid: spec.template: field is immutable"});
    let is_replaced = !deletion.is_empty();
    let mut script = vec![call(Method::PATCH, JOB, 422, immutable)];
    script.extend(deletion);
    script.push(call(Method::PATCH, STATUS, 200, json!(definition)));
    if is_replaced {
        script.push(call(Method::POST, EVENTS, 201, json!({})));
    }
    let (context, server) = context(held, script);

    bring(&definition, &key_of(), &context).await.unwrap();

    let requests = finish(context, server).await;
    let status = requests.iter().find(|(uri, _)| uri.contains("/status")).unwrap();
    assert_eq!(status.1["status"]["conditions"][0]["reason"], reason);
    if is_replaced {
        assert_eq!(requests[1].1["preconditions"]["uid"], "workload");
    }
}

#[tokio::test]
async fn an_invalid_definition_is_reported_and_nothing_else() {
    let mut definition = definition(json!({"service": {"instances": 1}}));
    definition.spec.tasks[0].name = None;
    let held = Held { deployments: vec![typed(deployment())], ..Held::default() };
    let (context, server) = context(
        held,
        vec![
            call(Method::PATCH, STATUS, 200, json!(definition)),
            call(Method::POST, EVENTS, 201, json!({})),
        ],
    );

    let action = bring(&definition, &key_of(), &context).await.unwrap();

    assert_eq!(action, Action::await_change());
    let requests = finish(context, server).await;
    assert_eq!(requests[0].1["status"]["reason"], "REASON_TASK_INVALID");
    assert_eq!(requests[1].1["type"], "Warning");
}

#[tokio::test]
async fn a_workload_that_a_policy_refuses_is_reported_with_the_policys_words() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let held = Held { revisions: vec![revision_of(&definition)], ..Held::default() };
    let (context, server) = context(
        held,
        vec![
            call(Method::GET, DEPLOYMENT, 404, json!({"reason": "NotFound"})),
            call(Method::PATCH, DEPLOYMENT, 403, json!({"message": "no Deployments on Mondays"})),
            call(Method::PATCH, STATUS, 200, json!(definition)),
            call(Method::POST, EVENTS, 201, json!({})),
        ],
    );

    bring(&definition, &key_of(), &context).await.unwrap();

    let requests = finish(context, server).await;
    let status = &requests[2].1["status"];
    assert_eq!(
        (&status["state"], &status["message"]),
        (&json!("TASK_ERROR"), &json!("no Deployments on Mondays"))
    );
}

#[tokio::test]
async fn anothers_workload_is_only_looked_at() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let mut foreign = deployment();
    foreign["metadata"]["ownerReferences"] = json!([]);
    let held = Held { revisions: vec![revision_of(&definition)], ..Held::default() };
    let (context, server) = context(
        held,
        vec![
            call(Method::GET, DEPLOYMENT, 200, foreign),
            call(Method::PATCH, STATUS, 200, json!(definition)),
            call(Method::POST, EVENTS, 201, json!({})),
        ],
    );

    bring(&definition, &key_of(), &context).await.unwrap();

    finish(context, server).await;
}

#[rstest]
#[case::of_the_definitions_deployment("workload", true)]
#[case::of_another_deployment("other", false)]
#[tokio::test]
async fn a_pod_is_deleted_only_if_its_owners_lead_to_the_definition(
    #[case] deployment_uid: &str,
    #[case] is_deleted: bool,
) {
    let definition = definition(json!({"service": {"instances": 1}}));
    let current = revision::name(&revision_of(&definition).spec);
    let replica_set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "uid": "set", "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": deployment_uid, "controller": true,
        }]},
        "spec": {"selector": {}},
    });
    let mut script = vec![call(
        Method::GET,
        "/apis/apps/v1/namespaces/shop/replicasets/web-1",
        200,
        replica_set,
    )];
    if is_deleted {
        let pod = "/api/v1/namespaces/shop/pods/web-1-x";
        script.push(call(Method::DELETE, pod, 200, json!({"kind": "Status"})));
    }
    let held = Held {
        deployments: vec![typed(deployment())],
        pods: vec![refused_pod(&current)],
        revisions: vec![revision_of(&definition)],
        ..Held::default()
    };
    let (context, server) = context(held, script);
    let observed = observe(&definition, &key_of(), &context).await.unwrap().observed;
    let now = Timestamp::now();

    let retried = context.poker.retry_pods(&observed, &current, &key_of(), now, now).await.unwrap();

    assert_eq!(retried, usize::from(is_deleted));
    let requests = finish(context, server).await;
    if is_deleted {
        assert_eq!(requests[1].1["preconditions"]["uid"], "pod");
    }
}

#[tokio::test]
async fn a_deployment_is_poked_once_the_webhook_is_back_and_not_again_at_once() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let mut refused = deployment();
    refused["status"] = json!({"conditions": [{
        "type": "ReplicaFailure", "status": "True",
        "message": "failed calling webhook \"pods.watchword.dev\"",
    }]});
    let webhook = |ready: i32| json!({"metadata": {"name": "watchword-webhook"}, "status": {"readyReplicas": ready}});
    let held = Held { deployments: vec![typed(refused)], ..Held::default() };
    let path = "/apis/apps/v1/namespaces/watchword-system/deployments/watchword-webhook";
    let (context, server) = context(
        held,
        vec![
            call(Method::GET, path, 200, webhook(0)),
            call(Method::GET, path, 200, webhook(1)),
            call(Method::PATCH, DEPLOYMENT, 200, deployment()),
        ],
    );
    let observed = observe(&definition, &key_of(), &context).await.unwrap().observed;
    let now = Timestamp::now();

    for seconds in [0, 5, 10] {
        let now = now + SignedDuration::from_secs(seconds);
        context.poker.poke(&observed, &key_of(), now).await.unwrap();
    }

    let requests = finish(context, server).await;
    let poke = &requests[2];
    assert!(poke.0.contains("fieldManager=watchword-poke"), "{}", poke.0);
    assert!(poke.1["metadata"]["annotations"]["watchword.dev/poked-at"].is_string());
    assert_eq!(poke.1.get("spec"), None);
}

#[tokio::test]
async fn an_adopted_deployment_is_poked_when_the_definition_is_new_or_another_one() {
    let mut definition = definition(json!({"adopt": {
        "serviceAccountName": "legacy", "selector": {"matchLabels": {"app": "legacy"}},
    }}));
    let secret = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
    let variable = json!({"name": "DB", "type": "SECRET", "secret": secret});
    definition.spec.tasks[0].command = typed(json!({"environment": {"variables": [variable]}}));
    let labels = json!({"app": "legacy", "watchword.dev/inject": "true"});
    let refused = adopted("refused", labels.clone(), "denied by pods.watchword.dev");
    let others = [
        adopted("other", json!({"app": "other", "watchword.dev/inject": "true"}), "watchword"),
        adopted("plain", json!({"app": "legacy"}), "watchword"),
        adopted("quota", labels.clone(), "exceeded quota"),
    ];
    let all = |first: &Value| {
        let items: Vec<&Value> = std::iter::once(first).chain(&others).collect();
        json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": items})
    };
    let mended = adopted("refused", labels, "");
    let list = "/apis/apps/v1/namespaces/shop/deployments";
    let webhook = "/apis/apps/v1/namespaces/watchword-system/deployments/watchword-webhook";
    let ready = json!({"metadata": {"name": "watchword-webhook"}, "status": {"readyReplicas": 1}});
    let (context, server) = context(
        Held::default(),
        vec![
            call(Method::GET, list, 200, all(&refused)),
            call(Method::GET, webhook, 200, ready),
            call(Method::PATCH, &format!("{list}/refused"), 200, refused),
            call(Method::GET, list, 200, all(&mended)),
            // Then nothing until there is a reason to look again.
            call(Method::GET, list, 200, all(&mended)),
        ],
    );
    let mut observed = observe(&definition, &key_of(), &context).await.unwrap().observed;
    let now = Timestamp::now();

    let mut looks = Vec::new();
    for seconds in [0, 5, 10] {
        let now = now + SignedDuration::from_secs(seconds);
        looks.push(context.poker.poke_adopted(&observed, &key_of(), now).await.unwrap());
    }
    observed.definition.metadata.generation = Some(2);
    looks.push(context.poker.poke_adopted(&observed, &key_of(), now).await.unwrap());
    observed.definition.metadata.generation = Some(3);
    observed.rivals = vec!["other".to_owned()];
    looks.push(context.poker.poke_adopted(&observed, &key_of(), now).await.unwrap());

    assert_eq!(
        looks.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, false, false, false]
    );
    let requests = finish(context, server).await;
    let poke = &requests[2];
    assert!(poke.0.contains("fieldManager=watchword-poke"), "{}", poke.0);
    assert_eq!(poke.1["metadata"]["uid"], "uid of refused");
    assert_eq!(poke.1.get("spec"), None);
}

#[rstest]
#[case::just_started("False", 0, true)]
#[case::has_waited_long("False", 600, true)]
#[case::started_while_the_store_was_away("True", 60, true)]
#[case::was_served_before_the_store_went("True", 600, false)]
fn a_definition_is_looked_at_for_pods_that_wait_and_not_for_those_that_work(
    #[case] ready: &str,
    #[case] seconds: i64,
    #[case] expected: bool,
) {
    let now = Timestamp::now();
    let started = now - SignedDuration::from_secs(seconds);
    let pod: Pod = typed(json!({
        "metadata": {"name": "web-1", "labels": {names::INJECT_LABEL: "true"}},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "web", "image": "", "imageID": "", "ready": ready == "True",
                "restartCount": 0, "state": {"running": {"startedAt": started.to_string()}},
            }],
        },
    }));
    let since = now - SignedDuration::from_mins(2);
    let away = Check::Unknown { message: String::new(), reason: "StoreUnavailable", since };

    assert_eq!(waits(std::slice::from_ref(&pod), &away, now), expected);
    assert!(!waits(&[pod], &Check::Answered(Vec::new()), now));
}

#[tokio::test]
async fn a_deployment_is_rolled_once_by_an_annotation_of_its_template_alone() {
    let definition = definition(json!({"service": {"instances": 1}}));
    let mut stranger = refused_pod(&revision::name(&revision_of(&definition).spec));
    stranger.spec.as_mut().unwrap().containers[0].env = typed(
        json!([{"name": "WATCHWORD_CA", "value": "-----BEGIN CERTIFICATE-----\nb2xk\n-----END"}]),
    );
    let mut rolled_out = deployment();
    rolled_out["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1});
    let held =
        Held { deployments: vec![typed(rolled_out)], pods: vec![stranger], ..Held::default() };
    let (context, server) = context(held, vec![call(Method::PATCH, DEPLOYMENT, 200, deployment())]);
    let mut observed = observe(&definition, &key_of(), &context).await.unwrap().observed;
    let now = Timestamp::now();
    observed.trust = Some(Trust::new(
        "-----BEGIN CERTIFICATE-----\nbmV3\n-----END",
        now,
        None,
        SignedDuration::ZERO,
    ));
    let check = Check::Answered(Vec::new());

    let first = context.roller.roll(&observed, &check, &key_of(), now).await.unwrap();
    // The cache may not show yet that it is being rolled.
    let second = context.roller.roll(&observed, &check, &key_of(), now).await.unwrap();

    assert_eq!(first.happened.map(|(reason, _)| reason), Some("WorkloadRolled"));
    assert_eq!((second.happened, second.again.is_some()), (None, true));
    let requests = finish(context, server).await;
    let (uri, body) = &requests[0];
    assert!(uri.contains("fieldManager=watchword-roll"), "{uri}");
    let template = &body["spec"]["template"];
    assert!(template["metadata"]["annotations"]["watchword.dev/rolled-at"].is_string(), "{body}");
    assert_eq!((template.get("spec"), &body["metadata"]["uid"]), (None, &json!("workload")));
}

/// One call that a test expects, and what it is answered with.
#[derive(Clone, Debug)]
struct Call {
    answer: Value,
    method: Method,
    path: String,
    status: u16,
}

fn call(method: Method, path: &str, status: u16, answer: Value) -> Call {
    Call { answer, method, path: path.to_owned(), status }
}

/// What was asked: URI and body.
type Asked = Vec<(String, Value)>;

/// A context whose API server follows the script and takes no further call.
fn context(held: Held, script: Vec<Call>) -> (Context, JoinHandle<Asked>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for Call { answer, method, path, status } in script {
            let (request, send) =
                handle.next_request().await.unwrap_or_else(|| panic!("no {method} {path}"));
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            assert_eq!((&parts.method, parts.uri.path()), (&method, path.as_str()));
            requests
                .push((parts.uri.to_string(), serde_json::from_slice(&body).unwrap_or_default()));
            let mut answer = answer;
            if status >= 400 {
                answer["kind"] = json!("Status");
                answer["code"] = json!(status);
                answer["status"] = json!("Failure");
            }
            let response = Response::builder().status(status);
            let body = Body::from(serde_json::to_vec(&answer).unwrap());
            send.send_response(response.body(body).unwrap());
        }
        if let Some((request, _)) = handle.next_request().await {
            panic!("one call too many: {} {}", request.method(), request.uri());
        }
        requests
    });
    let nowhere = PathBuf::from("/nowhere");
    let trust = TrustArgs { ca_dir: nowhere.clone(), store_url: "https://store".to_owned() };
    let (again, _) = mpsc::unbounded_channel();
    let context = Context {
        again,
        bundle: Bundle::new(&trust, RollArgs { roll_after: SignedDuration::ZERO }),
        caches: Caches::holding(held),
        checks: Checks::new(&trust, nowhere),
        client: client.clone(),
        failures: Backoff::new(FIRST_RETRY, LAST_RETRY),
        memory: Memory::default(),
        metrics: ReconcileMetrics::new(&Metrics::new()),
        poker: Poker::new(client.clone(), "watchword-system".to_owned()),
        reporter: Reporter { controller: names::CONTROLLER.to_owned(), instance: None },
        roller: Roller::new(client),
    };
    (context, server)
}

/// Closes the mock and gives what was asked, once the whole script has been followed.
async fn finish(context: Context, server: JoinHandle<Asked>) -> Asked {
    drop(context);
    tokio::time::timeout(Duration::from_secs(30), server).await.expect("calls are missing").unwrap()
}

fn key_of() -> Key {
    Key { name: "web".to_owned(), namespace: "shop".to_owned() }
}

fn definition(run: Value) -> TaskDefinition {
    typed(json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "TaskDefinition",
        "metadata": {"name": "web", "namespace": "shop", "uid": "definition", "generation": 1},
        "spec": {"run": run, "tasks": [{
            "name": "web",
            "command": {"value": "true"},
            "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "web:1"}}}},
        }]},
    }))
}

fn revision_of(definition: &TaskDefinition) -> TaskRevision {
    let spec = revision::snapshot(&definition.spec, "shop", "web");
    typed(json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "TaskRevision",
        "metadata": {
            "name": revision::name(&spec), "namespace": "shop", "uid": "revision",
            "ownerReferences": owners(),
        },
        "spec": spec,
    }))
}

fn revision_path(definition: &TaskDefinition) -> String {
    format!("{REVISIONS}/{}", revision::name(&revision_of(definition).spec))
}

fn deployment() -> Value {
    workload("apps/v1", "Deployment")
}

/// Somebody else's Deployment, whose pods were refused with these words, if any.
fn adopted(name: &str, labels: Value, refusal: &str) -> Value {
    let failure = json!({"type": "ReplicaFailure", "status": "True", "message": refusal});
    let conditions = if refusal.is_empty() { json!([]) } else { json!([failure]) };
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid of {name}")},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": []}},
        },
        "status": {"conditions": conditions},
    })
}

fn workload(version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "workload", "generation": 1,
            "ownerReferences": owners(),
        },
    })
}

fn owners() -> Value {
    json!([{
        "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition", "name": "web",
        "uid": "definition", "controller": true, "blockOwnerDeletion": true,
    }])
}

/// A pod whose agent gave up a minute ago.
fn refused_pod(revision: &str) -> Pod {
    let finished = Timestamp::now() - SignedDuration::from_mins(1);
    typed(json!({
        "metadata": {
            "name": "web-1-x", "namespace": "shop", "uid": "pod",
            "labels": {names::TASK_DEFINITION_LABEL: "web", names::INJECT_LABEL: "true"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "set", "controller": true,
            }],
        },
        "spec": {"containers": [{"name": "web", "env": [{"name": "WATCHWORD_REVISION", "value": revision}]}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {
                "exitCode": 78, "message": "Failed to launch container: no such secret",
                "finishedAt": finished.to_string(),
            }},
        }]},
    }))
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
