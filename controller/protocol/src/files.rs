//! What the init container `watchword-files` has to write; the webhook puts it into the pod's spec.
//!
//! A plan holds names, paths and modes, never a value.

use serde::{Deserialize, Serialize};

/// Everything that one init container writes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlan {
    /// One entry per container with secret files.
    pub containers: Vec<ContainerFiles>,
}

/// The files of one container. Directories are paths in the init container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerFiles {
    /// The container's name.
    pub container: String,
    /// Where the container's token is: `/var/run/watchword/<i>/token`.
    pub token: String,
    /// Where the files go: `/watchword-files/<i>`.
    pub directory: String,
    /// The files.
    pub files: Vec<PlannedFile>,
    /// Where the container's sandbox is mounted: `/watchword-sandbox/<i>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Its flat name in the volume, and in the store's answer: `0`, `1`, …
    pub name: String,
    /// Its permission bits: `0o400`, in JSON the number 256.
    pub mode: u32,
    /// Where it is mounted below the sandbox, if it is: a relative path, whose parents and whose
    /// (empty) last component are made so that the application can write beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_path: Option<String>,
}
