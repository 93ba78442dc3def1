//! `POST /v1/resolve`: one container asks for its secrets, all of them or none.

use serde::{Deserialize, Serialize};

use crate::SecretBytes;

/// One container asks for its secrets.
///
/// It says which kinds it wants, never which secrets: those stand in its task revision.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The version of the protocol, see [`VERSION`](crate::VERSION).
    pub version: u32,
    /// The name of the container; must be the one that the token's audience names.
    pub container: String,
    /// The kinds of secrets that are wanted; an empty list gets an empty answer.
    pub want: Vec<Want>,
}

/// A kind of secrets, by the use that the container makes of them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Variables of the environment.
    Env,
    /// Files.
    Files,
    /// Credentials for fetching URIs.
    Uris,
}

/// All secrets that were asked for; the store gives no part of an answer.
#[derive(Deserialize, Serialize)]
pub struct ResolveAnswer {
    /// The variables, in the order of the task definition.
    #[serde(default)]
    pub env: Vec<EnvSecret>,
    /// The files, in the order of the task definition.
    #[serde(default)]
    pub files: Vec<FileSecret>,
}

/// One variable with its value.
#[derive(Deserialize, Serialize)]
pub struct EnvSecret {
    /// The variable's name.
    pub name: String,
    /// Its value.
    pub value: SecretBytes,
}

/// One file with its contents.
#[derive(Deserialize, Serialize)]
pub struct FileSecret {
    /// The file's flat name in its volume: `0`, `1`, … in the order of the task definition.
    pub name: String,
    /// Its contents.
    pub value: SecretBytes,
}
