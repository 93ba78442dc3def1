//! Our own rules for environment variables.

use std::collections::BTreeMap;

use watchword_crds::mesos::Variable;
use watchword_crds::names;

use super::{Invalid, Warning, WarningKind, secrets, task};
use crate::mesos::VariableType;

/// Judges variables that Mesos accepts; `at` is the field of the environment.
pub(super) fn judge(
    variables: &[Variable],
    at: &str,
    is_adopted: bool,
) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    // By name, whether the first variable of that name is a secret.
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for (index, variable) in variables.iter().enumerate() {
        let at = format!("{at}.variables[{index}]");
        let name = variable.name.as_deref().unwrap_or_default();
        judge_name(name, &format!("{at}.name"))?;
        if let Some(is_earlier_secret) = seen.get(name) {
            if *is_earlier_secret || is_secret(variable) {
                return Err(Invalid::new(
                    format!("{at}.name"),
                    format!("{name:?} is set twice, and one is a secret; leave one out"),
                ));
            }
            warnings.push(Warning::new(
                WarningKind::Surprise,
                format!("{at}.name"),
                format!("{name:?} is set twice; the last one counts"),
            ));
        } else {
            seen.insert(name, is_secret(variable));
        }
        task::judge_no_nul(variable.value.as_deref(), &format!("{at}.value"))?;
        match &variable.secret {
            Some(secret) => secrets::judge(secret, &format!("{at}.secret"))?,
            None if is_adopted => warnings.push(Warning::new(
                WarningKind::NoEffect,
                at,
                "no effect: set plain variables in your own pod",
            )),
            None => {}
        }
    }
    Ok(warnings)
}

/// A name is printable ASCII without `=`, which is what the API server takes, and not the agent's.
fn judge_name(name: &str, field: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::new(field, "the name is empty; name the variable"));
    }
    if name.starts_with(names::ENVIRONMENT_PREFIX) {
        return Err(Invalid::new(
            field,
            format!("{name:?} begins with \"WATCHWORD_\", which is the agent's; use another name"),
        ));
    }
    if name.contains('=') || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Invalid::new(
            field,
            format!("{name:?} is no variable's name; use letters, digits and \"_\""),
        ));
    }
    Ok(())
}

fn is_secret(variable: &Variable) -> bool {
    VariableType::read(variable.r#type.as_deref()) == VariableType::Secret
}
