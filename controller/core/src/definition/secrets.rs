//! Our own rules for a secret, wherever it stands.

use watchword_crds::mesos::Secret;

use super::{Invalid, Warning, WarningKind};
use crate::mesos::SecretType;
use crate::reference::SecretName;

/// Judges a secret that Mesos accepts; `at` is its field. An inline value gives a warning that the
/// caller turns into a refusal where no Space allows it.
pub(super) fn judge(secret: &Secret, at: &str) -> Result<Option<Warning>, Invalid> {
    match SecretType::read(secret.r#type.as_deref()) {
        SecretType::Reference => {
            let reference = secret.reference.as_ref();
            let name = reference.and_then(|one| one.name.as_deref()).unwrap_or_default();
            name.parse::<SecretName>()
                .map_err(|error| Invalid::new(format!("{at}.reference.name"), error.to_string()))?;
            match reference.and_then(|one| one.key.as_deref()) {
                Some("") => Err(Invalid::new(
                    format!("{at}.reference.key"),
                    "the key is empty; name a member of the secret, or leave it out",
                )),
                _ => Ok(None),
            }
        }
        SecretType::Unknown => Err(Invalid::new(
            format!("{at}.type"),
            match secret.r#type.as_deref() {
                None => "the type is not set; use REFERENCE".to_owned(),
                Some(text) => format!("{text:?} is no type of secret; use REFERENCE"),
            },
        )),
        SecretType::Value => Ok(Some(Warning::new(
            WarningKind::InlineValue,
            at,
            "an inline secret is plain text for readers",
        ))),
    }
}
