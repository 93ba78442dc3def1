//! Definitions that tenants write: read and judged without a panic; what passes has names that
//! Kubernetes takes, and a revision whose digest survives writing and reading.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_core::container_name::{container_names, is_container_name};
use watchword_core::wanted::secrets_of;
use watchword_core::{definition, revision};
use watchword_crds::task_definition::TaskDefinitionSpec;
use watchword_crds::task_revision::TaskRevisionSpec;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<TaskDefinitionSpec>(bytes) else { return };
    for task in &spec.tasks {
        secrets_of(task).sources().for_each(drop);
    }
    if definition::validate(&spec, "shop", "web").is_err() {
        return;
    }
    assert!(container_names(&spec.tasks).iter().all(|name| is_container_name(name)));
    let snapshot = revision::snapshot(&spec, "shop", "web");
    let written = serde_json::to_vec(&snapshot).expect("a revision is JSON");
    let read: TaskRevisionSpec = serde_json::from_slice(&written).expect("our own form is read");
    assert_eq!(revision::name(&read), revision::name(&snapshot));
});
