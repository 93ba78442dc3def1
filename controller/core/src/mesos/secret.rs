//! `Secret`, by `validateSecret` of `src/common/validation.cpp`.

use watchword_crds::mesos::Secret;

use super::{SecretType, Violation};

/// A secret has what its type needs and nothing else; one of unknown type passes, as in Mesos.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_secret(secret: &Secret) -> Result<(), Violation> {
    match SecretType::read(secret.r#type.as_deref()) {
        SecretType::Reference => match (&secret.reference, &secret.value) {
            (None, _) => {
                Err(Violation::new("Secret of type REFERENCE must have the 'reference' field set"))
            }
            (Some(reference), Some(_)) => Err(Violation::new(format!(
                "Secret '{}' of type REFERENCE must not have the 'value' field set",
                reference.name.as_deref().unwrap_or_default()
            ))),
            (Some(_), None) => Ok(()),
        },
        SecretType::Unknown => Ok(()),
        SecretType::Value => match (&secret.value, &secret.reference) {
            (None, _) => {
                Err(Violation::new("Secret of type VALUE must have the 'value' field set"))
            }
            (Some(_), Some(_)) => {
                Err(Violation::new("Secret of type VALUE must not have the 'reference' field set"))
            }
            (Some(_), None) => Ok(()),
        },
    }
}
