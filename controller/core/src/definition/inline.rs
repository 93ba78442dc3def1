//! Values that stand in a task itself.
//!
//! Mesos has secrets in more places than have an effect here: executors, checks, CSI volumes. Whoever
//! reads the definition reads a value there as well, so all of the task is looked through.

use serde_json::Value;
use watchword_crds::mesos::TaskInfo;

use super::{Warning, WarningKind};

/// Warns of each value, which the caller turns into a refusal where no Space allows it; `at` is the
/// task's field.
pub(super) fn warn(task: &TaskInfo, at: &str) -> Vec<Warning> {
    let mut warnings = Vec::new();
    // A task is what it was parsed from.
    look_through(&serde_json::to_value(task).unwrap_or_default(), at, &mut warnings);
    warnings
}

fn look_through(value: &Value, at: &str, warnings: &mut Vec<Warning>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look_through(item, &format!("{at}[{index}]"), warnings);
            }
        }
        Value::Object(members) => {
            // Of Mesos' messages only a `Secret` has such a `value`.
            if members.get("value").is_some_and(|value| value.get("data").is_some()) {
                let message = "an inline secret is plain text for readers";
                warnings.push(Warning::new(WarningKind::InlineValue, at, message));
            }
            for (name, member) in members {
                look_through(member, &format!("{at}.{name}"), warnings);
            }
        }
        _ => {}
    }
}
