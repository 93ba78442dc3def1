//! Our own rules for volumes: one secret is one file, at a path of its own.

use watchword_crds::mesos::Volume;

use super::{Invalid, Warning, WarningKind, secrets};
use crate::container_path::ContainerPath;
use crate::mesos::{SourceType, validate_secret};

/// Judges volumes that Mesos accepts; `at` is their field.
pub(super) fn judge(volumes: &[Volume], at: &str) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    let mut paths: Vec<ContainerPath> = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let source = volume.source.as_ref();
        let kind = source.map(|source| SourceType::read(source.r#type.as_deref()));
        let Some(secret) = source.and_then(|source| source.secret.as_ref()) else {
            warnings.push(not_mounted(&at));
            continue;
        };
        if kind != Some(SourceType::Secret) {
            return Err(Invalid::new(
                format!("{at}.source.secret"),
                "the volume has a secret and another type; set `type` to SECRET",
            ));
        }
        // Mesos looks at this only when the container starts, in these words.
        validate_secret(secret).map_err(|violation| {
            Invalid::new(
                format!("{at}.source.secret"),
                format!("Invalid secret specified in volume: {violation}"),
            )
        })?;
        warnings.extend(secrets::judge(secret, &format!("{at}.source.secret"))?);
        let field = format!("{at}.container_path");
        let path = ContainerPath::parse(volume.container_path.as_deref().unwrap_or_default())
            .map_err(|error| Invalid::new(&field, error.to_string()))?;
        if let Some(other) = paths.iter().find(|other| other.is_in_the_way_of(&path)) {
            return Err(Invalid::new(field, in_the_way(&path, other)));
        }
        paths.push(path);
    }
    Ok(warnings)
}

fn in_the_way(path: &ContainerPath, other: &ContainerPath) -> String {
    let (path, other) = (path.absolute(), other.absolute());
    match path == other {
        true => format!("{path:?} is the path of an earlier volume too; give each its own"),
        false => format!(
            "{path:?} and {other:?} of an earlier volume lie in each other; a secret is a file"
        ),
    }
}

fn not_mounted(at: &str) -> Warning {
    Warning::new(WarningKind::NoEffect, at, "no effect: only secrets are mounted here")
}
