//! Mesos' own validation of its messages, in its own words and order.
//!
//! Every function refuses exactly what Mesos refuses, with the text that Mesos gives, and stops at
//! the first violation; `tests/vectors/mesos-validation.json` holds the cases. What Mesos lets pass
//! and should not is `definition`'s matter.
//!
//! Two rules of Mesos are left out on purpose: ids that a framework would give (`task_id`,
//! `slave_id`) may be absent, and `Task uses no resources` is no violation, because a pod without
//! requests is an ordinary one in Kubernetes.

use std::fmt;

mod checks;
mod container;
mod environment;
mod kinds;
mod reading;
mod secret;
mod task;

pub use checks::{validate_check, validate_health_check};
pub use container::{validate_container, validate_volume};
pub use environment::{validate_command, validate_environment};
pub use kinds::{CheckType, ContainerType, SecretType, SourceType, VariableType, VolumeMode};
pub use reading::read_task;
pub use secret::validate_secret;
pub use task::{validate_id, validate_task, validate_task_group};

/// What Mesos refuses, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    path: String,
    message: String,
}

impl Violation {
    fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// The same violation, seen from the message that holds this one in `field`.
    #[must_use]
    fn within(self, field: &str) -> Self {
        let path =
            if self.path.is_empty() { field.to_owned() } else { format!("{field}.{}", self.path) };
        Self { path, ..self }
    }

    /// The same violation with the words that the outer message puts in front.
    #[must_use]
    fn told(self, prefix: &str) -> Self {
        Self { message: format!("{prefix}{}", self.message), ..self }
    }

    /// The field, seen from the validated message: `environment.variables[1].secret`; empty for the
    /// message itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Mesos' text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Violation {}
