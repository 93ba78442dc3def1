//! `CommandInfo` and `Environment`, by `src/common/validation.cpp`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use watchword_crds::mesos::{CommandInfo, Environment, Secret, Variable};
use zeroize::Zeroizing;

use super::{VariableType, Violation, validate_secret};

/// A command's environment is valid; Mesos looks at nothing else in it.
///
/// # Errors
///
/// Mesos' text for the first variable that breaks a rule.
pub fn validate_command(command: &CommandInfo) -> Result<(), Violation> {
    match &command.environment {
        None => Ok(()),
        Some(environment) => {
            validate_environment(environment).map_err(|violation| violation.within("environment"))
        }
    }
}

/// Every variable has what its type needs and nothing else.
///
/// # Errors
///
/// Mesos' text for the first variable that breaks a rule.
pub fn validate_environment(environment: &Environment) -> Result<(), Violation> {
    environment.variables.iter().enumerate().try_for_each(|(index, variable)| {
        validate_variable(variable)
            .map_err(|violation| violation.within(&format!("variables[{index}]")))
    })
}

fn validate_variable(variable: &Variable) -> Result<(), Violation> {
    let name = variable.name.as_deref().unwrap_or_default();
    match VariableType::read(variable.r#type.as_deref()) {
        VariableType::Secret => {
            let Some(secret) = &variable.secret else {
                return Err(Violation::new(format!(
                    "Environment variable '{name}' of type 'SECRET' must have a secret set"
                )));
            };
            if variable.value.is_some() {
                return Err(Violation::new(format!(
                    "Environment variable '{name}' of type 'SECRET' must not have a value set"
                )));
            }
            validate_secret(secret).map_err(|violation| {
                violation
                    .within("secret")
                    .told(&format!("Environment variable '{name}' specifies an invalid secret: "))
            })?;
            if holds_nul(secret) {
                return Err(Violation::new(format!(
                    "Environment variable '{name}' specifies a secret containing null bytes, \
                     which is not allowed in the environment"
                ))
                .within("secret"));
            }
            Ok(())
        }
        VariableType::Unknown => {
            Err(Violation::new("Environment variable of type 'UNKNOWN' is not allowed"))
        }
        VariableType::Value => {
            if variable.value.is_none() {
                return Err(Violation::new(format!(
                    "Environment variable '{name}' of type 'VALUE' must have a value set"
                )));
            }
            if variable.secret.is_some() {
                return Err(Violation::new(format!(
                    "Environment variable '{name}' of type 'VALUE' must not have a secret set"
                )));
            }
            Ok(())
        }
    }
}

/// Whether the inline data holds a NUL byte, whatever the secret's type.
fn holds_nul(secret: &Secret) -> bool {
    let data = secret.value.as_ref().and_then(|value| value.data.as_deref()).unwrap_or_default();
    STANDARD.decode(data).map(Zeroizing::new).is_ok_and(|bytes| bytes.contains(&0))
}
