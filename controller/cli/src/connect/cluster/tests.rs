//! Which pod of a cluster's store is asked, and what is said when none can be.

use rstest::rstest;
use serde_json::{Value, from_value, json};

use super::*;

fn pod(name: &str, ready: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [
            {"name": "store", "ports": [{"name": "tls", "containerPort": 9443}]},
        ]},
        "status": {"conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": ready},
        ]},
    })
}

fn service(target_port: &Value) -> Service {
    let spec = json!({
        "selector": {"app": "watchword", "role": "store"},
        "ports": [{"port": 80, "targetPort": 1}, {"port": 443, "targetPort": target_port}],
    });
    from_value(json!({"spec": spec})).unwrap()
}

fn chosen(target_port: &Value, pods: &[Value]) -> Option<(String, u16)> {
    let pods: Vec<Pod> = pods.iter().map(|pod| from_value(pod.clone()).unwrap()).collect();
    choose(&service(target_port), &pods, Pods::Ready).map(|chosen| (chosen.pod, chosen.port))
}

#[rstest]
#[case(json!(8443), 8443)]
#[case(json!("tls"), 9443)]
#[case(json!("other"), 8443)]
#[case(Value::Null, 8443)]
fn the_port_is_the_one_that_the_service_leads_to(#[case] target: Value, #[case] expected: u16) {
    assert_eq!(chosen(&target, &[pod("a", "True")]), Some(("a".to_owned(), expected)));
}

#[test]
fn only_a_ready_pod_is_asked() {
    let mut ending = pod("ending", "True");
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-23T21:00:00Z");
    let pods = [pod("starting", "False"), ending, pod("ready", "True")];

    assert_eq!(chosen(&json!(8443), &pods), Some(("ready".to_owned(), 8443)));
    assert_eq!(chosen(&json!(8443), &pods[..2]), None);
}

#[test]
fn who_runs_the_store_asks_a_pod_that_only_runs_where_none_is_ready() {
    let with_state = |name: &str, ready: &str, state: Value| {
        let mut pod = pod(name, ready);
        pod["status"]["containerStatuses"] = json!([
            {"name": "store", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state},
        ]);
        from_value::<Pod>(pod).unwrap()
    };
    let crashed =
        with_state("crashed", "False", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    let running = with_state("running", "False", json!({"running": {}}));
    let ready = with_state("ready", "True", json!({"running": {}}));
    let service = service(&json!(8443));
    let asked = |pods: &[Pod], which| {
        choose(&service, pods, which).map(|chosen| (chosen.pod, chosen.is_ready))
    };

    let without = asked(&[crashed.clone(), running.clone()], Pods::Running);
    let with = asked(&[crashed.clone(), running.clone(), ready], Pods::Running);

    assert_eq!(without, Some(("running".to_owned(), false)));
    assert_eq!(with, Some(("ready".to_owned(), true)));
    assert_eq!(asked(std::slice::from_ref(&crashed), Pods::Running), None);
    assert_eq!(asked(&[crashed, running], Pods::Ready), None);
}

#[test]
fn a_selector_is_what_kubectl_takes() {
    assert_eq!(selector(&service(&json!(1))).as_deref(), Some("app=watchword,role=store"));
    assert_eq!(selector(&from_value(json!({"spec": {"selector": {}}})).unwrap()), None);
}

#[test]
fn an_answer_of_the_api_server_is_said_in_its_words() {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
        "reason": "Forbidden", "message": "configmaps \"watchword-ca\" is forbidden",
    });
    let error = kube::Error::Api(Box::new(from_value(status).unwrap()));

    let error = refused("read ConfigMap `watchword-ca`", "ns", &error);

    assert_eq!(
        error.to_string(),
        "cannot read ConfigMap `watchword-ca` in namespace `ns`: \
         configmaps \"watchword-ca\" is forbidden"
    );
    assert!(error.hint().unwrap().contains("--address"));
}

#[test]
fn a_pod_that_only_runs_is_named_with_the_ways_to_its_reasons() {
    assert_eq!(
        unready("ns", "store-1"),
        "no pod of the store is ready: `store-1` answers, which only runs\n\
         see why with `kubectl -n ns logs store-1`, or with `kubectl -n ns port-forward store-1 \
         8080` and `curl localhost:8080/readyz`"
    );
}

#[test]
fn a_store_that_is_not_ready_can_be_looked_at() {
    let error = ClusterError::NotReady {
        namespace: "ns".to_owned(),
        pods: 2,
        selector: "role=store".to_owned(),
    };

    assert_eq!(error.to_string(), "none of the store's 2 pods in namespace `ns` is ready");
    assert_eq!(
        error.hint().as_deref(),
        Some(
            "see why with `kubectl -n ns describe pods -l role=store` and \
             `kubectl -n ns logs -l role=store`; `watchword store status` asks a pod that only runs"
        )
    );
}
