//! The fields of a pod that a definition may set, and nothing else.
//!
//! `template` is merged over what Watchword renders, so it must never reach a task's container, our
//! volumes, our labels, or the identity that secrets are given to. The list says what is allowed;
//! a field that Kubernetes adds some day is refused until somebody has thought about it.

use serde_json::{Map, Value};
use watchword_crds::mesos::TaskInfo;
use watchword_crds::names;
use watchword_crds::task_definition::PodTemplate;

use super::Invalid;
use crate::container_name::{container_names, is_container_name};

/// Judges a template; `tasks` are the tasks whose containers it may not touch.
pub(super) fn judge(template: &PodTemplate, tasks: &[TaskInfo]) -> Result<(), Invalid> {
    let PodTemplate(fields) = template;
    only(fields, &["metadata", "spec"], "spec.template")?;
    if let Some(metadata) = object(fields, "metadata", "spec.template")? {
        judge_metadata(metadata)?;
    }
    match object(fields, "spec", "spec.template")? {
        None => Ok(()),
        Some(spec) => judge_spec(spec, tasks),
    }
}

fn judge_metadata(metadata: &Map<String, Value>) -> Result<(), Invalid> {
    let at = "spec.template.metadata";
    only(metadata, &["annotations", "labels"], at)?;
    for kind in ["annotations", "labels"] {
        let Some(entries) = object(metadata, kind, at)? else { continue };
        let at = format!("{at}.{kind}");
        for (key, value) in entries {
            if key.starts_with(names::LABEL_PREFIX) {
                return Err(Invalid::new(at, format!("{key:?} is Watchword's; leave it out")));
            }
            let Some(value) = value.as_str() else {
                return Err(Invalid::new(format!("{at}.{key}"), "it is no text; put it in quotes"));
            };
            if !is_qualified_name(key) {
                return Err(Invalid::new(
                    at,
                    format!("{key:?} is no key; use one like \"team\" or \"example.org/team\""),
                ));
            }
            if kind == "labels" && !value.is_empty() && !is_name(value) {
                return Err(Invalid::new(
                    format!("{at}.{key}"),
                    format!(
                        "{value:?} is no label's value; use up to 63 letters, digits, \"-\", \"_\" \
                         and \".\""
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// A key of labels and annotations: a name, and perhaps a domain before it.
fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((domain, name)) => super::is_subdomain(domain) && is_name(name),
    }
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn judge_spec(spec: &Map<String, Value>, tasks: &[TaskInfo]) -> Result<(), Invalid> {
    let at = "spec.template.spec";
    only(spec, &POD_FIELDS, at)?;
    let mut taken = container_names(tasks);
    for kind in ["containers", "initContainers"] {
        for (index, container) in objects(spec, kind, at)?.enumerate() {
            let at = format!("{at}.{kind}[{index}]");
            taken.push(judge_container(container?, &taken, &at)?);
        }
    }
    for (index, volume) in objects(spec, "volumes", at)?.enumerate() {
        judge_volume(volume?, &format!("{at}.volumes[{index}]"))?;
    }
    Ok(())
}

/// A container of the user's own: any field, but under a name of its own and without our volumes.
fn judge_container(
    container: &Map<String, Value>,
    taken: &[String],
    at: &str,
) -> Result<String, Invalid> {
    let name = name(container, at)?;
    if taken.iter().any(|other| other == name) {
        return Err(Invalid::new(
            format!("{at}.name"),
            format!(
                "{name:?} is taken, and a task's container cannot be changed; use another name"
            ),
        ));
    }
    if !is_container_name(name) {
        return Err(Invalid::new(
            format!("{at}.name"),
            format!(
                "{name:?} cannot be the name of a container; names of Watchword's cannot either"
            ),
        ));
    }
    for list in ["volumeMounts", "volumeDevices"] {
        for (index, mount) in objects(container, list, at)?.enumerate() {
            let volume = mount?.get("name").and_then(Value::as_str).unwrap_or_default();
            if is_our_volume(volume) {
                return Err(Invalid::new(
                    format!("{at}.{list}[{index}].name"),
                    format!("{volume:?} is a task's or Watchword's; use a volume of your own"),
                ));
            }
        }
    }
    for (index, variable) in objects(container, "env", at)?.enumerate() {
        let variable = variable?.get("name").and_then(Value::as_str).unwrap_or_default();
        if variable.starts_with(names::ENVIRONMENT_PREFIX) {
            return Err(Invalid::new(
                format!("{at}.env[{index}].name"),
                format!("{variable:?} is the agent's; use another name"),
            ));
        }
    }
    Ok(name.to_owned())
}

/// A volume of the user's own: not under a name of ours, and no token for our store.
fn judge_volume(volume: &Map<String, Value>, at: &str) -> Result<(), Invalid> {
    let name = name(volume, at)?;
    if is_our_volume(name) {
        return Err(Invalid::new(
            format!("{at}.name"),
            format!("{name:?} is a name of Watchword's; use another"),
        ));
    }
    let sources = volume.get("projected").and_then(|projected| projected.get("sources"));
    let audiences = sources
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|source| source.get("serviceAccountToken")?.get("audience")?.as_str());
    match audiences.into_iter().find(|audience| audience.starts_with(names::POD_NAME_PREFIX)) {
        None => Ok(()),
        Some(audience) => Err(Invalid::new(
            format!("{at}.projected.sources"),
            format!("tokens for {audience:?} are projected by Watchword only"),
        )),
    }
}

fn is_our_volume(name: &str) -> bool {
    name.starts_with(names::POD_NAME_PREFIX) || name.starts_with(SANDBOX_PREFIX)
}

fn name<'a>(object: &'a Map<String, Value>, at: &str) -> Result<&'a str, Invalid> {
    match object.get("name").and_then(Value::as_str) {
        Some(name) => Ok(name),
        None => Err(Invalid::new(format!("{at}.name"), "the name is missing")),
    }
}

/// Refuses members that are not on the list.
fn only(object: &Map<String, Value>, allowed: &[&str], at: &str) -> Result<(), Invalid> {
    match object.keys().find(|key| !allowed.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Invalid::new(
            format!("{at}.{key}"),
            format!("it cannot be set here; what can is {}", allowed.join(", ")),
        )),
    }
}

fn object<'a>(
    parent: &'a Map<String, Value>,
    key: &str,
    at: &str,
) -> Result<Option<&'a Map<String, Value>>, Invalid> {
    match parent.get(key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Invalid::new(format!("{at}.{key}"), "it is no object")),
    }
}

type Objects<'a> = Box<dyn Iterator<Item = Result<&'a Map<String, Value>, Invalid>> + 'a>;

fn objects<'a>(
    parent: &'a Map<String, Value>,
    key: &'a str,
    at: &'a str,
) -> Result<Objects<'a>, Invalid> {
    let items = match parent.get(key) {
        None => return Ok(Box::new(std::iter::empty())),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Invalid::new(format!("{at}.{key}"), "it is no list")),
    };
    Ok(Box::new(items.iter().enumerate().map(move |(index, item)| {
        item.as_object()
            .ok_or_else(|| Invalid::new(format!("{at}.{key}[{index}]"), "it is no object"))
    })))
}

/// The pod's fields that may be set: where it runs, how it is confined, and what stands beside the
/// tasks. Not on the list, on purpose: the service account, host namespaces, process sharing, the
/// restart policy and whatever else decides who can see a task's secrets.
const POD_FIELDS: [&str; 10] = [
    "affinity",
    "containers",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

/// What the names of the tasks' sandboxes begin with, see `workload`.
const SANDBOX_PREFIX: &str = "sandbox-";
