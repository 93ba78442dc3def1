//! `POST /v1/check`: the controller asks whether a revision's references can be read.
//!
//! The answer never holds a value.

use serde::{Deserialize, Serialize};

use crate::ErrorAnswer;

/// Asks whether the references of one revision can be read. Only the controller may.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The version of the protocol, see [`VERSION`](crate::VERSION).
    pub version: u32,
    /// The namespace of the revision.
    pub namespace: String,
    /// The name of the TaskRevision.
    pub revision: String,
}

/// What became of each reference, in the order of the task definition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CheckAnswer {
    /// One entry per reference.
    #[serde(default)]
    pub references: Vec<CheckedReference>,
}

/// What became of one reference.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CheckedReference {
    /// The secret's name, without a leading `/`.
    pub name: String,
    /// The key inside the secret, where the reference has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The resolver that was asked.
    pub resolver: String,
    /// The version that would be given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why it cannot be read; absent when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorAnswer>,
}
