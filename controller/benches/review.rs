//! The webhook's answer to one review: from the bytes that the API server sends to the bytes that
//! it gets, without TLS. The pod has 7 KB, as many have; its definition two secrets.
//!
//! `cargo bench -p watchword-controller --bench review`. For instructions instead of time:
//! `valgrind --tool=callgrind BENCH --bench --profile-time 1`, see docs/benchmarks.md.

#![allow(clippy::unwrap_used, missing_docs)] // a bench: what fails here fails loudly

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use watchword_controller::admission::caches::Caches;
use watchword_controller::admission::{Reviewer, pods, review};
use watchword_core::injection::{AgentSource, Delivery, Settings};
use watchword_core::{revision, workload};
use watchword_crds::task_definition::TaskDefinitionSpec;
use watchword_crds::task_revision::TaskRevision;

fn benchmark(criterion: &mut Criterion) {
    let (reviewer, body) = world();
    let mut group = criterion.benchmark_group("review");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("pod of 7 KB, two secrets", |bencher| {
        bencher
            .iter(|| review::respond(black_box(&body), |request| pods::answer(&reviewer, request)));
    });
    group.finish();
}

fn world() -> (Reviewer, Vec<u8>) {
    let reference = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
    let spec: TaskDefinitionSpec = serde_json::from_value(json!({"tasks": [{
        "name": "web",
        "command": {"value": "exec serve", "environment": {"variables": [
            {"name": "DB", "type": "SECRET", "secret": reference},
        ]}},
        "container": {
            "type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": "app:1"}}},
            "volumes": [{
                "mode": "RO",
                "container_path": "key",
                "source": {"type": "SECRET", "secret": reference},
            }],
        },
    }]}))
    .unwrap();
    let snapshot = revision::snapshot(&spec, "shop", "web");
    let mut pod =
        workload::render("web", "shop", &spec.run, &snapshot).unwrap().manifest["spec"]["template"]
            .take();
    fatten(&mut pod);
    let mut object = TaskRevision::new(&revision::name(&snapshot), snapshot);
    object.metadata.namespace = Some("shop".to_owned());
    let settings = Settings {
        agent: AgentSource {
            delivery: Delivery::InitContainer,
            image: "watchword:1".to_owned(),
            pull_policy: None,
        },
        ca_bundle: "M".repeat(1200),
        store_url: "https://watchword-store.watchword-system.svc".to_owned(),
    };
    let caches = Caches { definitions: store([]), revisions: store([object]), spaces: store([]) };
    let reviewer = Reviewer { caches, settings: ArcSwapOption::from(Some(Arc::new(settings))) };
    let body = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
        },
    });
    (reviewer, body.to_string().into_bytes())
}

/// Brings the pod to 7 KB with what pods usually have: variables, mounts, managed fields.
fn fatten(pod: &mut Value) {
    for number in 0..40 {
        let variable = json!({"name": format!("SETTING_{number}"), "value": "x".repeat(40)});
        pod["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(variable);
    }
    let managed: Value = (0..30)
        .map(|number| (format!("f:field-{number}"), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    pod["metadata"]["managedFields"] = json!([{"manager": "kcm", "fieldsV1": {"f:spec": managed}}]);
    while pod.to_string().len() < 7_000 {
        let tolerations = &mut pod["spec"]["tolerations"];
        if tolerations.is_null() {
            *tolerations = json!([]);
        }
        let toleration = json!({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"});
        tolerations.as_array_mut().unwrap().push(toleration);
    }
}

fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    reader
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
