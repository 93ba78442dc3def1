use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

/// The limit of the design: `kubectl apply` keeps a copy of the object in an annotation, and all
/// annotations together have 256 KiB.
const MAX_RENDERED_BYTES: usize = 200 * 1024;

#[test]
fn the_checked_in_yaml_is_what_crdgen_writes() {
    for (file, yaml) in rendered().unwrap() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        let checked_in = fs::read_to_string(path).unwrap_or_default();

        assert!(
            checked_in == yaml,
            "{file} is stale: run `cargo run -p watchword-crds --bin crdgen`"
        );
    }
}

#[test]
fn the_yaml_says_what_the_definitions_say() {
    for (definition, (file, yaml)) in definitions().iter().zip(rendered().unwrap()) {
        let read: Value = serde_yaml::from_str(&yaml).unwrap();

        assert_eq!(whole(read), whole(serde_json::to_value(definition).unwrap()), "{file}");
    }
}

/// The same JSON with `1.0` as `1`, since YAML makes no difference.
fn whole(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Number(number) => {
            number.as_f64().filter(|float| float.fract() == 0.0).map_or(Value::Null, Value::from)
        }
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (key, whole(value))).collect::<Value>()
        }
        other => other,
    }
}

#[test]
fn a_rendered_definition_has_200_kib_at_most() {
    for (definition, (file, yaml)) in definitions().iter().zip(rendered().unwrap()) {
        let json = serde_json::to_string(definition).unwrap();

        assert!(yaml.len() <= MAX_RENDERED_BYTES, "{file} has {} bytes", yaml.len());
        assert!(json.len() <= MAX_RENDERED_BYTES, "{file} has {} bytes as JSON", json.len());
    }
}

#[test]
fn kubectl_can_explain_every_field() {
    for definition in definitions() {
        let kind = definition.spec.names.kind.clone();
        let mut silent = Vec::new();

        walk(&schema(&definition), &kind, &mut |path, field| {
            if field["description"].as_str().is_none_or(str::is_empty) {
                silent.push(path.to_owned());
            }
        });

        assert!(silent.is_empty(), "no description: {silent:#?}");
    }
}

#[test]
fn the_schema_of_tasks_stays_silent_where_mesos_has_a_text() {
    for definition in [TaskDefinition::crd(), TaskRevision::crd()] {
        let tasks = schema(&definition)["properties"]["spec"]["properties"]["tasks"].clone();

        walk(&tasks["items"], "tasks[]", &mut |path, field| {
            for keyword in ["enum", "maximum", "minimum", "oneOf", "pattern", "required"] {
                assert!(field.get(keyword).is_none(), "{path} has `{keyword}`");
            }
        });
        assert!(tasks["items"].get("required").is_none());
    }
}

#[test]
fn every_field_of_a_task_may_be_null() {
    let definition = TaskDefinition::crd();
    let tasks = &schema(&definition)["properties"]["spec"]["properties"]["tasks"];

    walk(&tasks["items"], "tasks[]", &mut |path, field| {
        assert_eq!(field["nullable"], true, "{path}");
    });
}

#[test]
fn every_field_of_task_info_is_named() {
    let definition = TaskDefinition::crd();
    let task = &schema(&definition)["properties"]["spec"]["properties"]["tasks"]["items"];

    let mut names: Vec<&str> =
        task["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();

    // `mesos.proto`, `TaskInfo`; `agent_id` is what the v1 API calls `slave_id`.
    assert_eq!(
        names,
        [
            "agent_id",
            "check",
            "command",
            "container",
            "data",
            "discovery",
            "executor",
            "health_check",
            "kill_policy",
            "labels",
            "limits",
            "max_completion_time",
            "name",
            "resources",
            "slave_id",
            "task_id",
        ]
    );
}

#[test]
fn equal_messages_have_equal_json_whatever_was_left_out() {
    let sparse: mesos::TaskInfo = serde_json::from_str(r#"{"name": "web"}"#).unwrap();
    let explicit: mesos::TaskInfo = serde_json::from_str(
        r#"{"name": "web", "resources": [], "command": null, "data": null, "labels": null}"#,
    )
    .unwrap();
    let nulls: mesos::TaskInfo =
        serde_json::from_str(r#"{"name": "web", "resources": null}"#).unwrap();

    assert_eq!(serde_json::to_string(&sparse).unwrap(), r#"{"name":"web"}"#);
    assert_eq!(sparse, explicit);
    assert_eq!(sparse, nulls);
}

#[test]
fn short_names_do_not_clash() {
    let mut names: Vec<String> = definitions()
        .into_iter()
        .flat_map(|definition| definition.spec.names.short_names.unwrap_or_default())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();

    assert_eq!((names.len(), count), (6, 6));
}

fn schema(definition: &CustomResourceDefinition) -> Value {
    let version = definition.spec.versions.first().unwrap();
    serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref()).unwrap()
}

/// Visits every property below a schema, with its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, property);
        walk(property, &path, visit);
    }
    for inner in ["additionalProperties", "items"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}[]"), visit);
        }
    }
}
