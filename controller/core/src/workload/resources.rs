//! Resources of a task as Kubernetes counts them: `cpus` in cores, `mem` in MiB.
//!
//! Mesos enforces `mem` and, unless told otherwise, only weighs `cpus`; so `mem` becomes request
//! and limit, `cpus` a request. `limits` overrides, where an infinite value means no limit
//! (`mesos.proto`, `TaskInfo.limits`).

use serde_json::{Map, Value, json};
use watchword_crds::mesos::TaskInfo;

/// The `resources` of the task's container; `None` when the task names neither.
pub(super) fn of(task: &TaskInfo) -> Option<Value> {
    let mut requests = Map::new();
    let mut limits = Map::new();
    if let Some(cpus) = scalar(task, "cpus") {
        requests.insert("cpu".to_owned(), cpu(cpus));
    }
    if let Some(mem) = scalar(task, "mem") {
        requests.insert("memory".to_owned(), memory(mem));
        limits.insert("memory".to_owned(), memory(mem));
    }
    for (name, limit) in task.limits.iter().flatten() {
        let Some(limit) = limit.value else { continue };
        let (key, quantity) = match name.as_str() {
            "cpus" => ("cpu", cpu(limit)),
            "mem" => ("memory", memory(limit)),
            _ => continue,
        };
        if limit.is_finite() {
            limits.insert(key.to_owned(), quantity);
        } else {
            limits.remove(key);
        }
    }
    (!requests.is_empty() || !limits.is_empty())
        .then(|| json!({"requests": requests, "limits": limits}))
}

fn scalar(task: &TaskInfo, name: &str) -> Option<f64> {
    let resources = task.resources.iter().filter(|one| one.name.as_deref() == Some(name));
    // Several entries of one name add up, as in Mesos (they may be of different roles).
    let values: Vec<f64> = resources
        .filter_map(|one| one.scalar.as_ref()?.value)
        .filter(|one| one.is_finite())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn cpu(cores: f64) -> Value {
    format!("{}m", (cores * 1000.0).round().max(1.0) as u64).into()
}

fn memory(mebibytes: f64) -> Value {
    format!("{}Ki", (mebibytes * 1024.0).round().max(1.0) as u64).into()
}
