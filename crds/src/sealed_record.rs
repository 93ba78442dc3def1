//! SealedRecord: one ciphertext record of the sealed store, in Watchword's namespace.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The record. Only the store may write it.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize,
)]
#[kube(
    group = "watchword.dev",
    version = "v1alpha1",
    kind = "SealedRecord",
    namespaced,
    doc = "One ciphertext record of the sealed store; written by Watchword's store only.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "sr",
    category = "watchword",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SealedRecordSpec {
    /// Header and ciphertext, in base64. A plain string: `format: byte` is three times slower.
    pub record: String,
}
