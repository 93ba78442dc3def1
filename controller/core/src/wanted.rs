//! What a task wants: its secret variables and its secret files, in the order of the definition.
//!
//! This is the one reading of a task that webhook and store share: the webhook plans a file for each
//! entry, the store answers with a value for each, and both count alike. Nothing that looks like a
//! wish is left out: one that `definition::validate` would have refused is [`SecretSource::Invalid`],
//! so that a container never starts without what it asked for.

use watchword_crds::mesos::{Environment, Secret, SecretValue, TaskInfo, Variable, Volume};

use crate::container_path::ContainerPath;
use crate::mesos::{SecretType, SourceType, VariableType, VolumeMode, validate_secret};
use crate::reference::SecretName;

/// The secrets of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The secret variables.
    pub env: Vec<EnvWant>,
    /// The secret files; a file is known by its place in this list.
    pub files: Vec<FileWant>,
}

impl Wanted {
    /// Whether the task wants nothing.
    pub fn is_empty(&self) -> bool {
        self.env.is_empty() && self.files.is_empty()
    }

    /// Where all the secrets come from, variables first.
    pub fn sources(&self) -> impl Iterator<Item = &SecretSource> {
        let env = self.env.iter().map(|want| &want.secret);
        env.chain(self.files.iter().map(|want| &want.secret))
    }
}

/// A secret variable.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvWant {
    /// The variable's name.
    pub name: String,
    /// Where its value comes from.
    pub secret: SecretSource,
}

/// A secret file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileWant {
    /// Where the file appears.
    pub path: ContainerPath,
    /// Whether it can be read only (mode `RO`).
    pub read_only: bool,
    /// Where its content comes from.
    pub secret: SecretSource,
}

/// Where a secret's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// From the definition itself.
    Inline(SecretValue),
    /// From nowhere: the definition is wrong. What wants it must not start.
    Invalid {
        /// What is wrong, in Mesos' words where it has some.
        message: String,
    },
    /// From a store.
    Reference {
        /// The secret's name.
        name: SecretName,
        /// The member to take out of it.
        key: Option<String>,
    },
}

/// What a task wants.
pub fn secrets_of(task: &TaskInfo) -> Wanted {
    let environment = task.command.as_ref().and_then(|command| command.environment.as_ref());
    let volumes = task.container.iter().flat_map(|container| &container.volumes);
    Wanted {
        env: environment.map(env_wants).unwrap_or_default(),
        files: volumes.filter_map(file_want).collect(),
    }
}

/// Whether any of the tasks wants anything.
pub fn asks_for_secrets(tasks: &[TaskInfo]) -> bool {
    tasks.iter().any(|task| !secrets_of(task).is_empty())
}

fn env_wants(environment: &Environment) -> Vec<EnvWant> {
    environment.variables.iter().filter_map(env_want).collect()
}

fn env_want(variable: &Variable) -> Option<EnvWant> {
    let secret = match (VariableType::read(variable.r#type.as_deref()), &variable.secret) {
        (VariableType::Secret, Some(secret)) => source(secret),
        (VariableType::Secret, None) | (_, Some(_)) => SecretSource::Invalid {
            message: "the variable is not a secret and not plain".to_owned(),
        },
        (_, None) => return None,
    };
    Some(EnvWant { name: variable.name.clone().unwrap_or_default(), secret })
}

fn file_want(volume: &Volume) -> Option<FileWant> {
    let from = volume.source.as_ref()?;
    let secret = match (SourceType::read(from.r#type.as_deref()), &from.secret) {
        (SourceType::Secret, Some(secret)) => source(secret),
        (SourceType::Secret, None) | (_, Some(_)) => {
            SecretSource::Invalid { message: "the volume is of another type".to_owned() }
        }
        (_, None) => return None,
    };
    let text = volume.container_path.as_deref().unwrap_or_default();
    let (path, secret) = match ContainerPath::parse(text) {
        Ok(path) => (path, secret),
        Err(error) => {
            (ContainerPath::nearest(text), SecretSource::Invalid { message: error.to_string() })
        }
    };
    let read_only = VolumeMode::read(volume.mode.as_deref()) != Some(VolumeMode::Rw);
    Some(FileWant { path, read_only, secret })
}

/// Where a secret comes from.
pub fn source(secret: &Secret) -> SecretSource {
    if let Err(violation) = validate_secret(secret) {
        return SecretSource::Invalid { message: violation.to_string() };
    }
    match (SecretType::read(secret.r#type.as_deref()), &secret.reference, &secret.value) {
        (SecretType::Reference, Some(reference), _) => {
            match reference.name.as_deref().unwrap_or_default().parse() {
                Ok(name) => SecretSource::Reference { name, key: reference.key.clone() },
                Err(error) => SecretSource::Invalid { message: format!("{error}") },
            }
        }
        (SecretType::Value, _, Some(value)) => SecretSource::Inline(value.clone()),
        _ => SecretSource::Invalid {
            message: "the secret's type is unknown; set it to REFERENCE".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    // Builders take JSON as literals, which are values.
    #![allow(clippy::needless_pass_by_value)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn wanted(task: serde_json::Value) -> Wanted {
        secrets_of(&serde_json::from_value(task).unwrap())
    }

    fn reference(name: &str, key: Option<&str>) -> SecretSource {
        SecretSource::Reference { name: name.parse().unwrap(), key: key.map(str::to_owned) }
    }

    #[test]
    fn the_examples_of_the_secrets_page_are_one_variable_and_one_file() {
        let secret = json!({
            "type": "REFERENCE", "reference": {"name": "/my/secret", "key": "username"}
        });

        let wanted = wanted(json!({
            "command": {"environment": {"variables": [
                {"name": "MY_SECRET_ENV", "type": "SECRET", "secret": secret},
                {"name": "MY_NORMAL_ENV", "value": "foo"},
            ]}},
            "container": {"volumes": [{
                "mode": "RW", "container_path": "path/to/secret/file",
                "source": {"type": "SECRET", "secret": secret},
            }]},
        }));

        assert_eq!(
            wanted.env,
            [EnvWant {
                name: "MY_SECRET_ENV".to_owned(),
                secret: reference("my/secret", Some("username")),
            }]
        );
        assert_eq!(
            wanted.files,
            [FileWant {
                path: ContainerPath::parse("path/to/secret/file").unwrap(),
                read_only: false,
                secret: reference("my/secret", Some("username")),
            }]
        );
    }

    #[test]
    fn a_task_without_secrets_wants_nothing() {
        let wanted = wanted(json!({
            "command": {"value": "true", "environment": {"variables": [{"name": "A", "value": "a"}]}},
            "container": {"volumes": [{"mode": "RW", "container_path": "a", "host_path": "/a"}]},
        }));

        assert!(wanted.is_empty());
    }

    #[test]
    fn what_is_wrong_is_wanted_all_the_same() {
        let good = json!({"type": "REFERENCE", "reference": {"name": "a"}});

        let wanted = wanted(json!({
            "command": {"environment": {"variables": [
                {"name": "NO_SECRET", "type": "SECRET"},
                {"name": "PLAIN_WITH_SECRET", "value": "a", "secret": good},
                {"name": "NO_TYPE", "type": "SECRET", "secret": {"reference": {"name": "a"}}},
                {"name": "BAD_NAME", "type": "SECRET",
                 "secret": {"type": "REFERENCE", "reference": {"name": "a/../b"}}},
            ]}},
            "container": {"volumes": [
                {"mode": "RO", "container_path": "../a", "source": {"type": "SECRET", "secret": good}},
                {"mode": "RO", "container_path": "b", "source": {"type": "SECRET"}},
            ]},
        }));

        assert_eq!((wanted.env.len(), wanted.files.len()), (4, 2));
        assert!(
            wanted.sources().all(|one| matches!(one, SecretSource::Invalid { .. })),
            "{wanted:?}"
        );
        assert_eq!(wanted.files[0].path.in_sandbox(), Some("a"));
    }

    #[test]
    fn a_file_can_be_written_only_where_the_mode_says_so() {
        let secret = json!({"type": "REFERENCE", "reference": {"name": "a"}});
        let volume = |mode: Option<&str>| json!({"mode": mode, "container_path": "a", "source": {"type": "SECRET", "secret": secret}});

        let wanted = wanted(json!({"container": {"volumes": [
            volume(Some("RW")), volume(Some("RO")), volume(None), volume(Some("rw")),
        ]}}));

        let read_only: Vec<bool> = wanted.files.iter().map(|file| file.read_only).collect();
        assert_eq!(read_only, [false, true, true, true]);
    }

    proptest! {
        #[test]
        fn every_secret_is_wanted_once_and_in_order(kinds: Vec<bool>) {
            let variables: Vec<_> = kinds
                .iter()
                .enumerate()
                .map(|(index, secret)| match secret {
                    true => json!({"name": format!("V{index}"), "type": "SECRET", "secret":
                        {"type": "REFERENCE", "reference": {"name": format!("a/{index}")}}}),
                    false => json!({"name": format!("V{index}"), "value": "plain"}),
                })
                .collect();

            let wanted = wanted(json!({"command": {"environment": {"variables": variables}}}));

            let expected: Vec<EnvWant> = kinds
                .iter()
                .enumerate()
                .filter(|(_, secret)| **secret)
                .map(|(index, _)| EnvWant {
                    name: format!("V{index}"),
                    secret: reference(&format!("a/{index}"), None),
                })
                .collect();
            prop_assert_eq!(wanted.env, expected);
        }
    }
}
