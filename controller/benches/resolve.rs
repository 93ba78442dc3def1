//! What the store computes for one `/v1/resolve` of a container with two secrets: judging the
//! claim, the revision and its digest, the space rule, two hot reads from a sealed store, and the
//! answer as JSON. Left out is what it asks the API server, six requests that take some 20 ms.
//!
//! `cargo bench -p watchword-controller --bench resolve`.

#![allow(clippy::unwrap_used, missing_docs)] // a bench: what fails here fails loudly

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use watchword_core::claim::{Claim, Evidence, Owner, judge};
use watchword_core::reference::pick;
use watchword_core::space::Ownership;
use watchword_core::wanted::{SecretSource, secrets_of};
use watchword_core::{definition, revision, workload};
use watchword_crds::TaskDefinition;
use watchword_crds::task_revision::TaskRevision;
use watchword_protocol::{EnvSecret, ResolveAnswer, SecretBytes};
use watchword_store::backend::file::FileBackend;
use watchword_store::{
    Config, ContentType, Custody, Meta, Precondition, RootKey, SecretPath, Store,
    Value as SecretValue,
};

fn benchmark(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime.block_on(opened(folder.path()));
    let world = World::new();
    criterion.bench_function("resolve, two secrets of 256 bytes", |bencher| {
        bencher.iter(|| runtime.block_on(resolve(black_box(&world), &store)));
    });
}

async fn resolve(world: &World, store: &Store<FileBackend>) -> Vec<u8> {
    let evidence = Evidence {
        pod: &world.pod,
        revision: &world.revision,
        definition: &world.definition,
        owners: &world.owners,
    };
    let task = judge(&world.claim, &evidence).unwrap();
    definition::validate_revision(&world.revision.spec).unwrap();
    Ownership::of([]).check("shop", &world.revision.spec.id).unwrap();
    let mut answer = ResolveAnswer { env: Vec::new(), files: Vec::new() };
    for wanted in secrets_of(task).env {
        let SecretSource::Reference { name, key } = wanted.secret else { unreachable!() };
        let path: SecretPath = name.as_str().parse().unwrap();
        let value = store.read(&path, None).await.unwrap().value.into_exposed();
        let value = pick(&value, key.as_deref()).unwrap();
        answer.env.push(EnvSecret { name: wanted.name, value: SecretBytes::from(value) });
    }
    serde_json::to_vec(&answer).unwrap()
}

async fn opened(folder: &std::path::Path) -> Store<FileBackend> {
    let store = Store::new(FileBackend::open(&folder.join("store")).unwrap(), Config::default());
    let root_key = RootKey::generate().unwrap();
    store.initialize(&root_key, &Custody::default(), 0).await.unwrap();
    store.unseal(root_key).await.unwrap();
    let meta = Meta {
        author: "bench".to_owned(),
        content_type: ContentType::Text,
        created: 0,
        about: None,
    };
    for path in ["shop/db", "shop/api"] {
        let value = SecretValue::new(vec![b'x'; 256]);
        store.write(&path.parse().unwrap(), &value, &meta, Precondition::Any).await.unwrap();
    }
    store
}

/// A pod of a Deployment of a definition, as the API server would show them.
struct World {
    claim: Claim,
    definition: TaskDefinition,
    owners: Vec<Owner>,
    pod: Pod,
    revision: TaskRevision,
}

impl World {
    fn new() -> Self {
        let variable = |name: &str, secret: &str| {
            let reference = json!({"type": "REFERENCE", "reference": {"name": secret}});
            json!({"name": name, "type": "SECRET", "secret": reference})
        };
        let definition: TaskDefinition = serde_json::from_value(json!({
            "apiVersion": "watchword.dev/v1alpha1",
            "kind": "TaskDefinition",
            "metadata": {"name": "web", "namespace": "shop", "uid": "definition"},
            "spec": {"tasks": [{
                "name": "web",
                "command": {"value": "exec serve", "environment": {"variables": [
                    variable("DB", "shop/db"), variable("API", "shop/api"),
                ]}},
                "container": {"type": "MESOS", "mesos": {
                    "image": {"type": "DOCKER", "docker": {"name": "app:1"}},
                }},
            }]},
        }))
        .unwrap();
        let snapshot = revision::snapshot(&definition.spec, "shop", "web");
        let manifest =
            workload::render("web", "shop", &definition.spec.run, &snapshot).unwrap().manifest;
        let mut revision = TaskRevision::new(&revision::name(&snapshot), snapshot);
        revision.metadata.owner_references =
            definition.controller_owner_ref(&()).map(|one| vec![one]);
        let owned = |kind: &str, name: &str, owner: &Value| {
            let labels = json!({"watchword.dev/task-definition": "web"});
            let metadata =
                json!({"name": name, "uid": kind, "labels": labels, "ownerReferences": [owner]});
            Owner { kind: kind.to_owned(), metadata: serde_json::from_value(metadata).unwrap() }
        };
        let reference = |kind: &str, name: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": kind, "controller": true});
        let of_definition = serde_json::to_value(definition.controller_owner_ref(&())).unwrap();
        let mut pod = manifest["spec"]["template"].clone();
        pod["metadata"]["name"] = "web-1".into();
        pod["metadata"]["uid"] = "pod".into();
        pod["metadata"]["ownerReferences"] = json!([reference("ReplicaSet", "web-0")]);
        Self {
            claim: Claim {
                namespace: "shop".to_owned(),
                pod: "web-1".to_owned(),
                pod_uid: "pod".to_owned(),
                service_account: "default".to_owned(),
                container: "web".to_owned(),
            },
            owners: vec![
                owned("ReplicaSet", "web-0", &reference("Deployment", "web")),
                owned("Deployment", "web", &of_definition),
            ],
            definition,
            pod: serde_json::from_value(pod).unwrap(),
            revision,
        }
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
