//! Our own rules for volumes: one secret is one file, at a path of its own.

use std::collections::BTreeMap;

use watchword_crds::mesos::Volume;

use super::{Invalid, Warning, WarningKind, secrets};
use crate::container_path::ContainerPath;
use crate::mesos::{SourceType, validate_secret};

/// Judges volumes that Mesos accepts; `at` is their field.
pub(super) fn judge(volumes: &[Volume], at: &str) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    let mut taken = Taken::default();
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
        secrets::judge(secret, &format!("{at}.source.secret"))?;
        let field = format!("{at}.container_path");
        let path = ContainerPath::parse(volume.container_path.as_deref().unwrap_or_default())
            .map_err(|error| Invalid::new(&field, error.to_string()))?;
        let path = path.absolute();
        if let Some(other) = taken.in_the_way_of(&path) {
            return Err(Invalid::new(field, in_the_way(&path, other)));
        }
        taken.add(path);
    }
    Ok(warnings)
}

/// The absolute paths of earlier volumes, none of which is in another's way.
///
/// Each stands with NUL, which no path has, for its slashes and at its end. So what lies below a
/// path comes right after it, and begins with it.
#[derive(Default)]
struct Taken(BTreeMap<String, (usize, String)>);

impl Taken {
    /// The first of the paths that is `path`, lies below it or has it below itself.
    fn in_the_way_of(&self, path: &str) -> Option<&str> {
        let key = Self::key(path);
        // Nothing stands between a path and the only one above it: it would be below that one too.
        if let Some((above, (_, other))) = self.0.range(..=key.clone()).next_back()
            && key.starts_with(above.as_str())
        {
            return Some(other);
        }
        self.0
            .range(key.clone()..)
            .take_while(|(below, _)| below.starts_with(&key))
            .map(|(_, (order, other))| (order, other.as_str()))
            .min()
            .map(|(_, other)| other)
    }

    fn add(&mut self, path: String) {
        let order = self.0.len();
        self.0.insert(Self::key(&path), (order, path));
    }

    fn key(path: &str) -> String {
        path.replace('/', "\0") + "\0"
    }
}

fn in_the_way(path: &str, other: &str) -> String {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_path_in_the_way_is_the_first_that_comparing_with_each_finds(
            texts in prop::collection::vec("/[ab](/[ab !]){0,3}", 1..20),
        ) {
            let mut taken = Taken::default();
            let mut earlier: Vec<ContainerPath> = Vec::new();
            for text in texts {
                let path = ContainerPath::parse(&text).unwrap();
                let other = earlier.iter().find(|other| other.is_in_the_way_of(&path));
                let other = other.map(ContainerPath::absolute);
                prop_assert_eq!(taken.in_the_way_of(&path.absolute()), other.as_deref());
                if other.is_none() {
                    taken.add(path.absolute());
                    earlier.push(path);
                }
            }
        }
    }
}
