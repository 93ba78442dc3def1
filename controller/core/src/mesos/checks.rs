//! `HealthCheck` and `CheckInfo`, by `src/checks/` and `src/common/validation.cpp`.

use watchword_crds::mesos::{CheckInfo, CommandInfo, HealthCheck};

use super::{CheckType, Violation, validate_command};

/// A health check has what its type needs.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_health_check(check: &HealthCheck) -> Result<(), Violation> {
    match CheckType::read(check.r#type.as_deref()) {
        None => return Err(Violation::new("HealthCheck must specify 'type'")),
        Some(CheckType::Command) => {
            let Some(command) = &check.command else {
                return Err(Violation::new(
                    "Expecting 'command' to be set for COMMAND health check",
                ));
            };
            if let Some(missing) = missing_value(command) {
                return Err(Violation::new(format!("Command health check must contain {missing}"))
                    .within("command"));
            }
            validate_command(command).map_err(|violation| {
                violation.within("command").told("Health check's `CommandInfo` is invalid: ")
            })?;
        }
        Some(CheckType::Http) => {
            let Some(http) = &check.http else {
                return Err(Violation::new("Expecting 'http' to be set for HTTP health check"));
            };
            if let Some(scheme) =
                http.scheme.as_deref().filter(|one| !matches!(*one, "http" | "https"))
            {
                return Err(Violation::new(format!(
                    "Unsupported HTTP health check scheme: '{scheme}'"
                ))
                .within("http.scheme"));
            }
            if let Some(path) = http.path.as_deref().filter(|path| !path.starts_with('/')) {
                return Err(Violation::new(format!(
                    "The path '{path}' of HTTP health check must start with '/'"
                ))
                .within("http.path"));
            }
        }
        Some(CheckType::Tcp) => {
            if check.tcp.is_none() {
                return Err(Violation::new("Expecting 'tcp' to be set for TCP health check"));
            }
        }
        Some(CheckType::Unknown) => {
            return Err(Violation::new("'UNKNOWN' is not a valid health check type"));
        }
    }
    non_negative(&[
        ("delay_seconds", check.delay_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

/// A check has what its type needs.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_check(check: &CheckInfo) -> Result<(), Violation> {
    match CheckType::read(check.r#type.as_deref()) {
        None => return Err(Violation::new("CheckInfo must specify 'type'")),
        Some(CheckType::Command) => {
            let Some(outer) = &check.command else {
                return Err(Violation::new("Expecting 'command' to be set for COMMAND check"));
            };
            let command = outer.command.clone().unwrap_or_default();
            if let Some(missing) = missing_value(&command) {
                return Err(Violation::new(format!("Command check must contain {missing}"))
                    .within("command"));
            }
            validate_command(&command).map_err(|violation| {
                violation.within("command.command").told("Check's `CommandInfo` is invalid: ")
            })?;
        }
        Some(CheckType::Http) => {
            let Some(http) = &check.http else {
                return Err(Violation::new("Expecting 'http' to be set for HTTP check"));
            };
            if let Some(path) = http.path.as_deref().filter(|path| !path.starts_with('/')) {
                return Err(Violation::new(format!(
                    "The path '{path}' of HTTP check must start with '/'"
                ))
                .within("http.path"));
            }
        }
        Some(CheckType::Tcp) => {
            if check.tcp.is_none() {
                return Err(Violation::new("Expecting 'tcp' to be set for TCP check"));
            }
        }
        Some(CheckType::Unknown) => {
            return Err(Violation::new("'UNKNOWN' is not a valid check type"));
        }
    }
    non_negative(&[
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

/// What a command without a `value` lacks.
fn missing_value(command: &CommandInfo) -> Option<&'static str> {
    let missing =
        if command.shell.unwrap_or(true) { "'shell command'" } else { "'executable path'" };
    command.value.is_none().then_some(missing)
}

fn non_negative(fields: &[(&str, Option<f64>)]) -> Result<(), Violation> {
    match fields.iter().find(|(_, value)| value.is_some_and(|value| value < 0.0)) {
        None => Ok(()),
        Some((field, _)) => {
            Err(Violation::new(format!("Expecting '{field}' to be non-negative")).within(field))
        }
    }
}
