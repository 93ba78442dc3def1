//! Acceptance: whether a definition is carried out at all.
//!
//! The webhook judges the same at admission; the controller judges again, because Spaces change and
//! because a webhook can be away. The order is that of the mends: what the author can mend first.

use watchword_crds::task_definition::TaskDefinition;

use crate::definition::{self, WarningKind};
use crate::revision::service_id;
use crate::space::Ownership;

/// Why a definition is not accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// In full, for people: Mesos' words where it has some.
    pub message: String,
    /// In CamelCase, for conditions and Events.
    pub reason: &'static str,
    is_group: bool,
}

impl Refusal {
    /// The reason as Mesos names it (`TaskStatus.Reason` of `mesos.proto`).
    pub fn task_reason(&self) -> &'static str {
        match (self.reason, self.is_group) {
            (INVALID, false) => "REASON_TASK_INVALID",
            (INVALID, true) => "REASON_TASK_GROUP_INVALID",
            (_, false) => "REASON_TASK_UNAUTHORIZED",
            (_, true) => "REASON_TASK_GROUP_UNAUTHORIZED",
        }
    }
}

/// Why the definition is not accepted; `None` when it is.
pub fn accept(definition: &TaskDefinition, ownership: &Ownership) -> Option<Refusal> {
    let spec = &definition.spec;
    let namespace = definition.metadata.namespace.as_deref().unwrap_or_default();
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let refusal = |reason: &'static str, message: String| {
        Some(Refusal { message, reason, is_group: spec.tasks.len() > 1 })
    };

    let warnings = match definition::validate(spec, namespace, name) {
        Ok(warnings) => warnings,
        Err(invalid) => return refusal(INVALID, invalid.to_string()),
    };
    let id = service_id(spec, namespace, name);
    if let Err(error) = ownership.check(namespace, &id) {
        return refusal("IdNotOwned", error.to_string());
    }
    let has_inline_values = warnings.iter().any(|one| one.kind == WarningKind::InlineValue);
    if has_inline_values && !ownership.allows_inline_values(namespace) {
        let message = format!(
            "secrets of type `VALUE` stand in the clear in the definition, and no Space allows \
             that to the namespace `{namespace}`; store the value with `watchword secret create` \
             and refer to it"
        );
        return refusal("InlineValues", message);
    }
    None
}

const INVALID: &str = "Invalid";
