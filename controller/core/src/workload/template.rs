//! `spec.template` over our pod template.
//!
//! The allow-list of what may stand in it is checked where definitions are validated; merging
//! relies on that and knows one rule only: objects merge key by key, the lists `containers`,
//! `initContainers` and `volumes` grow, anything else is replaced.

use serde_json::{Map, Value};
use watchword_crds::task_definition::PodTemplate;

/// Merges what a definition's `template` holds (`metadata`, `spec`) over our pod template.
pub(super) fn merge(pod: &mut Value, overlay: &Map<String, Value>) {
    for (key, value) in overlay {
        merge_value(&mut pod[key.as_str()], value, key);
    }
}

/// Whether the pod's security context forbids root, so that tasks may be hardened too.
pub(super) fn runs_as_non_root(template: Option<&PodTemplate>) -> bool {
    template
        .and_then(|PodTemplate(overlay)| {
            overlay.get("spec")?.get("securityContext")?.get("runAsNonRoot")
        })
        .is_some_and(|value| value == true)
}

fn merge_value(ours: &mut Value, theirs: &Value, key: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in theirs {
                merge_value(ours.entry(key.clone()).or_insert(Value::Null), value, key);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if GROWING.contains(&key) => {
            ours.extend(theirs.iter().cloned());
        }
        (ours, theirs) => *ours = theirs.clone(),
    }
}

const GROWING: [&str; 3] = ["containers", "initContainers", "volumes"];
