//! Revisions: immutable snapshots of what the pods of a task definition see.
//!
//! A revision is named `<definition>-<digest>`, where the digest covers its whole content, so that
//! equal content is the same revision and scaling makes none. A pod names its revision in the
//! immutable part of its spec; the store recomputes the digest before it believes one.

use std::fmt;

use serde::Serialize;
use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};
use watchword_crds::task_definition::TaskDefinitionSpec;
use watchword_crds::task_revision::TaskRevisionSpec;

/// The revision that the pods of this definition see today.
///
/// `namespace` and `name` are those of the TaskDefinition object. How many instances run, and when,
/// is left out on purpose: it changes nothing in a pod.
pub fn snapshot(spec: &TaskDefinitionSpec, namespace: &str, name: &str) -> TaskRevisionSpec {
    TaskRevisionSpec {
        id: service_id(spec, namespace, name),
        definition: name.to_owned(),
        tasks: spec.tasks.clone(),
        template: spec.template.clone(),
        service_account_name: match &spec.run.adopt {
            Some(adopt) => Some(adopt.service_account_name.clone()),
            None => spec.service_account_name.clone(),
        },
        resolver: spec.resolver.clone(),
        adopt: spec.run.adopt.is_some(),
    }
}

/// The service id that spaces are judged by: `spec.id`, or `/<namespace>/<name>`.
pub fn service_id(spec: &TaskDefinitionSpec, namespace: &str, name: &str) -> String {
    match &spec.id {
        Some(id) => id.clone(),
        None => format!("/{namespace}/{name}"),
    }
}

/// The name of a revision object: `<definition>-<digest>`.
pub fn name(spec: &TaskRevisionSpec) -> String {
    format!("{}-{}", spec.definition, Digest::of(spec))
}

/// Whether an object called `name` holds what it says, that is, has not been written by hand.
pub fn is_genuine(name: &str, spec: &TaskRevisionSpec) -> bool {
    name == self::name(spec)
}

/// The digest of a revision: the first 80 bits of the SHA-256 of its canonical JSON, as 20
/// lower-case hex digits.
///
/// 80 bits are enough because nobody but the controller may write revisions: a collision would
/// give its author a second text for one name in the author's own namespace, and no more.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Digest(String);

impl Digest {
    /// Digests a revision.
    pub fn of(spec: &TaskRevisionSpec) -> Self {
        let hash = Sha256::digest(canonical_json(spec).as_bytes());
        Self(hash.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// JSON that is equal for equal content, whatever the API server did to it on the way: keys are
/// sorted, and a whole number is written without a fraction (`1.0` comes back from the server as
/// `1`).
pub fn canonical_json(content: &impl Serialize) -> String {
    // Our own types serialise to JSON always: their keys are strings and they hold no map but those.
    let mut value = serde_json::to_value(content).unwrap_or(Value::Null);
    canonicalize(&mut value);
    value.to_string()
}

fn canonicalize(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(canonicalize),
        Value::Number(number) => {
            if let Some(whole) = whole(number) {
                *number = whole;
            }
        }
        Value::Object(map) => {
            map.values_mut().for_each(canonicalize);
            map.sort_keys();
        }
        Value::Bool(_) | Value::Null | Value::String(_) => {}
    }
}

fn whole(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0)?;
    // Beyond 2^53 a float no longer tells which whole number it stands for: leave it alone.
    (float.abs() < 9_007_199_254_740_992.0).then(|| Number::from(float as i64))
}

const DIGEST_BYTES: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn key_order_and_number_form_do_not_change_the_canonical_form() {
        let one: Value = serde_json::from_str(r#"{"b":1.0,"a":[{"y":2,"x":0.5}]}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"a":[{"x":0.5,"y":2.0}],"b":1}"#).unwrap();

        assert_eq!(canonical_json(&one), canonical_json(&two));
        assert_eq!(canonical_json(&one), r#"{"a":[{"x":0.5,"y":2}],"b":1}"#);
    }

    #[test]
    fn a_changed_task_is_another_revision_and_a_changed_scale_is_not() {
        let definition = |value: &str, instances: i32| -> TaskDefinitionSpec {
            serde_json::from_value(json!({
                "tasks": [{"name": "web", "command": {"value": value}}],
                "run": {"service": {"instances": instances}},
            }))
            .unwrap()
        };
        let name_of = |spec: &TaskDefinitionSpec| name(&snapshot(spec, "shop", "web"));

        assert_eq!(name_of(&definition("true", 1)), name_of(&definition("true", 5)));
        assert_ne!(name_of(&definition("true", 1)), name_of(&definition("false", 1)));
    }

    #[test]
    fn a_revision_under_another_name_is_not_genuine() {
        let spec: TaskDefinitionSpec =
            serde_json::from_value(json!({"tasks": [{"name": "web"}]})).unwrap();
        let mut revision = snapshot(&spec, "shop", "web");
        let name = name(&revision);

        assert!(is_genuine(&name, &revision));
        revision.id = "/bank/web".to_owned();
        assert!(!is_genuine(&name, &revision));
    }

    proptest! {
        #[test]
        fn a_round_trip_through_json_keeps_the_digest(value in "\\PC{0,20}", cpus in 0.0..64.0f64) {
            let spec: TaskDefinitionSpec = serde_json::from_value(json!({
                "tasks": [{
                    "name": "web",
                    "command": {"value": value},
                    "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}}],
                }],
            }))
            .unwrap();
            let revision = snapshot(&spec, "shop", "web");
            let text = serde_json::to_string(&revision).unwrap();
            let back: TaskRevisionSpec = serde_json::from_str(&text).unwrap();

            prop_assert_eq!(Digest::of(&revision), Digest::of(&back));
        }
    }
}
