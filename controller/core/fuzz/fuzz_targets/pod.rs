//! Pods that anybody posts to the webhook: injected or denied, and injected again they stay as they
//! are.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Value, json};
use watchword_core::injection::{AgentSource, Delivery, Denial, PodView, Settings, mutate};
use watchword_crds::task_revision::TaskRevisionSpec;

static REVISION: LazyLock<TaskRevisionSpec> = LazyLock::new(|| {
    let secret = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
    let source = json!({"type": "SECRET", "secret": secret});
    serde_json::from_value(json!({
        "definition": "web", "id": "/shop/web", "adopt": true,
        "tasks": [{
            "name": "web",
            "command": {"environment": {"variables": [
                {"name": "DB", "type": "SECRET", "secret": secret},
            ]}},
            "container": {"type": "MESOS", "volumes": [
                {"mode": "RO", "container_path": "tls/key", "source": source},
            ]},
        }],
    }))
    .expect("a revision")
});

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings {
    agent: AgentSource {
        delivery: Delivery::InitContainer,
        image: "agent".to_owned(),
        pull_policy: None,
    },
    ca_bundle: "ca".to_owned(),
    store_url: "https://store".to_owned(),
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(pod) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Some(Ok(once)) = mutated(&pod) {
        let twice = mutated(&once).expect("a pod").expect("what was let in before");
        assert_eq!(once, twice);
    }
});

/// The pod as the API server makes it of the patch; `None` when it is no pod.
fn mutated(pod: &Value) -> Option<Result<Value, Denial>> {
    let view = PodView::deserialize(pod).ok()?;
    Some(mutate(view, "web-1", &REVISION, &SETTINGS).map(|mutation| {
        let patch = serde_json::to_value(&mutation.patch).expect("JSON");
        let patch: json_patch::Patch = serde_json::from_value(patch).expect("a patch");
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).expect("places that are there");
        pod
    }))
}
