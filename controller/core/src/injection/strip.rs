//! Taking out of a pod what Watchword puts into pods.

use serde_json::Value;
use watchword_crds::names;

use super::is_ours;
use crate::pod;

/// Removes our volumes, mounts, init containers and variables, and unwraps commands, exec probes
/// and exec hooks. A pod that has nothing of ours stays as it is.
pub fn strip(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    retain(spec.get_mut("volumes"), |volume| !is_ours(text(volume, "name")));
    retain(spec.get_mut("initContainers"), |container| !is_ours(text(container, "name")));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(strip_container);
    }
}

/// The command behind `[/watchword/agent, exec, …, --]`; the same list when it is not wrapped.
pub fn unwrap_command<S: AsRef<str>>(command: &[S]) -> &[S] {
    match command {
        [agent, exec, rest @ ..] if agent.as_ref() == pod::AGENT && exec.as_ref() == "exec" => {
            let end = rest.iter().position(|word| word.as_ref() == "--");
            end.map_or(&[], |end| &rest[end + 1..])
        }
        _ => command,
    }
}

fn strip_container(container: &mut Value) {
    retain(container.get_mut("volumeMounts"), |mount| !is_ours(text(mount, "name")));
    retain(container.get_mut("env"), |variable| {
        !text(variable, "name").starts_with(names::ENVIRONMENT_PREFIX)
    });
    unwrap(container.get_mut("command"));
    for path in super::edit::EXEC_PATHS {
        unwrap(container.pointer_mut(path));
    }
}

fn unwrap(command: Option<&mut Value>) {
    let Some(list) = command.and_then(Value::as_array_mut) else { return };
    let words: Vec<&str> = list.iter().map(|word| word.as_str().unwrap_or_default()).collect();
    let wrapping = words.len() - unwrap_command(&words).len();
    list.drain(..wrapping);
}

fn retain(list: Option<&mut Value>, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.retain(keep);
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
