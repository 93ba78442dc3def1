//! The environment that the application gets. Pure.
//!
//! Everything here is bytes: what the pod's spec or a value holds passes unchanged, UTF-8 or not.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use watchword_protocol::env_names::PREFIX;
use watchword_protocol::{EnvSecret, MAX_VARIABLE_BYTES};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// One `NAME=VALUE` as `execve` takes it, wiped when dropped.
///
/// Like every type that may hold a value it can be neither printed nor cloned nor compared.
pub(crate) struct Variable {
    text: Zeroizing<CString>,
    name_bytes: usize,
}

impl Variable {
    /// A variable that the store has given.
    pub(crate) fn secret(secret: &EnvSecret) -> Result<Self, Failure> {
        Self::new(secret.name.as_bytes(), secret.value.expose_secret())
    }

    /// A variable from its parts. The failure names the variable and not its value.
    pub(crate) fn new(name: &[u8], value: &[u8]) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            let name = String::from_utf8_lossy(name);
            Err(Failure::launch(format!("the environment variable `{name}` {why}")))
        };
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return refuse("has no possible name");
        }
        if value.contains(&0) {
            return refuse("would hold a NUL byte, which an environment cannot; use a file");
        }
        let bytes = name.len() + 1 + value.len();
        if bytes > MAX_VARIABLE_BYTES {
            return refuse(&format!(
                "would have {bytes} bytes with its name, {MAX_VARIABLE_BYTES} are possible; use a file"
            ));
        }
        // Sized in advance: a vector that grows leaves copies behind that nobody wipes.
        let mut text = Vec::with_capacity(bytes + 1);
        text.extend_from_slice(name);
        text.push(b'=');
        text.extend_from_slice(value);
        text.push(0);
        match CString::from_vec_with_nul(text) {
            Ok(text) => Ok(Self { text: Zeroizing::new(text), name_bytes: name.len() }),
            // Not reached: both parts have been searched.
            Err(_) => refuse("holds a NUL byte"),
        }
    }

    /// The name.
    pub(crate) fn name(&self) -> &[u8] {
        &self.text.as_bytes()[..self.name_bytes]
    }

    /// The value.
    pub(crate) fn expose_value(&self) -> &[u8] {
        &self.text.as_bytes()[self.name_bytes + 1..]
    }

    /// `NAME=VALUE` with the NUL behind it.
    pub(crate) fn expose_text(&self) -> &CStr {
        &self.text
    }
}

impl AsRef<CStr> for Variable {
    fn as_ref(&self) -> &CStr {
        self.expose_text()
    }
}

/// The application's environment.
pub(crate) struct Environment {
    variables: Vec<Variable>,
}

impl Environment {
    /// What the container was given, in its order and without the agent's own variables, and the
    /// secret ones behind it. A plain variable never overrides a secret one; of two secret ones
    /// with one name the last counts. A secret variable may have any name.
    pub(crate) fn merge(
        inherited: impl IntoIterator<Item = (OsString, OsString)>,
        secrets: Vec<Variable>,
    ) -> Result<Self, Failure> {
        let mut variables = Vec::new();
        for (name, value) in inherited {
            let (name, value) = (name.into_vec(), value.into_vec());
            let is_ours = name.starts_with(PREFIX.as_bytes());
            if !is_ours && secrets.iter().all(|secret| secret.name() != name) {
                variables.push(Variable::new(&name, &value)?);
            }
        }
        for secret in secrets {
            variables.retain(|variable| variable.name() != secret.name());
            variables.push(secret);
        }
        Ok(Self { variables })
    }

    /// The value of `PATH`, if there is one.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        let path = self.variables.iter().find(|variable| variable.name() == b"PATH")?;
        Some(OsStr::from_bytes(path.expose_value()))
    }

    /// For `execve`.
    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::{Environment, MAX_VARIABLE_BYTES, Variable};

    #[test]
    fn a_plain_variable_never_overrides_a_secret_one() {
        let merged = merge(&[("A", "plain"), ("B", "2"), ("A", "again")], &[("A", "secret")]);

        assert_eq!(merged, ["B=2", "A=secret"]);
    }

    #[test]
    fn our_own_variables_are_gone_and_a_secret_of_such_a_name_stays() {
        let merged = merge(
            &[("WATCHWORD_STORE", "x"), ("WATCHWORD_", "y"), ("WATCHWORDS", "z")],
            &[("WATCHWORD_TOKEN", "secret")],
        );

        assert_eq!(merged, ["WATCHWORDS=z", "WATCHWORD_TOKEN=secret"]);
    }

    #[test]
    fn the_last_of_two_secrets_of_one_name_counts() {
        assert_eq!(merge(&[], &[("A", "1"), ("B", "2"), ("A", "3")]), ["B=2", "A=3"]);
    }

    #[test]
    fn a_secret_path_is_the_path() {
        let secrets = vec![Variable::new(b"PATH", b"/opt/bin").ok().unwrap()];

        let merged = Environment::merge([("PATH".into(), "/bin".into())], secrets).ok().unwrap();

        assert_eq!(merged.path().unwrap(), "/opt/bin");
    }

    #[rstest]
    #[case::empty("", "x", "the environment variable `` has no possible name")]
    #[case::equals("A=B", "x", "the environment variable `A=B` has no possible name")]
    #[case::nul(
        "A",
        "s3cret\0",
        "the environment variable `A` would hold a NUL byte, which an environment cannot; use a file"
    )]
    fn what_an_environment_cannot_hold_is_refused_without_its_value(
        #[case] name: &str,
        #[case] value: &str,
        #[case] message: &str,
    ) {
        let failure = Variable::new(name.as_bytes(), value.as_bytes()).err().unwrap();

        assert_eq!(failure.message(), message);
    }

    #[rstest]
    #[case(MAX_VARIABLE_BYTES, true)]
    #[case(MAX_VARIABLE_BYTES + 1, false)]
    fn a_variable_has_as_many_bytes_as_linux_takes(#[case] bytes: usize, #[case] fits: bool) {
        let variable = Variable::new(b"NAME", &vec![b'x'; bytes - "NAME=".len()]);

        assert_eq!(variable.is_ok(), fits);
    }

    proptest! {
        #[test]
        fn without_secrets_nothing_changes(
            plain in proptest::collection::vec(("[A-V_]{1,8}", proptest::collection::vec(1_u8.., 0..20)), 0..8),
        ) {
            let inherited = plain.iter().map(|(name, value)| {
                (OsString::from(name), OsString::from_vec(value.clone()))
            });

            let merged = Environment::merge(inherited, Vec::new()).ok().unwrap();

            let parts: Vec<_> = merged.variables().iter().map(|v| (v.name(), v.expose_value())).collect();
            let expected: Vec<_> = plain.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
            prop_assert_eq!(parts, expected);
        }
    }

    fn merge(inherited: &[(&str, &str)], secrets: &[(&str, &str)]) -> Vec<String> {
        let inherited = inherited.iter().map(|&(name, value)| (name.into(), value.into()));
        let secrets = secrets
            .iter()
            .map(|(name, value)| Variable::new(name.as_bytes(), value.as_bytes()).ok().unwrap())
            .collect();
        let merged = Environment::merge(inherited, secrets).ok().unwrap();
        merged
            .variables()
            .iter()
            .map(|variable| variable.expose_text().to_str().unwrap().to_owned())
            .collect()
    }
}
