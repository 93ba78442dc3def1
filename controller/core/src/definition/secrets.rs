//! Our own rules for a secret, wherever it stands.

use watchword_crds::mesos::Secret;

use super::Invalid;
use crate::mesos::SecretType;
use crate::reference::SecretName;

/// Judges a secret that Mesos accepts; `at` is its field.
pub(super) fn judge(secret: &Secret, at: &str) -> Result<(), Invalid> {
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
                _ => Ok(()),
            }
        }
        SecretType::Unknown => Err(Invalid::new(
            format!("{at}.type"),
            match secret.r#type.as_deref() {
                None => "the type is not set; use REFERENCE".to_owned(),
                Some(text) => format!("{text:?} is no type of secret; use REFERENCE"),
            },
        )),
        SecretType::Value => Ok(()),
    }
}
