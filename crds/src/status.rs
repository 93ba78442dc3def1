//! What several statuses have in common.
//!
//! Status is for people: nothing decides by it. Conditions are Kubernetes' own type; their types are
//! the constants here.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Condition: the definition is valid and its revision is written.
pub const ACCEPTED: &str = "Accepted";

/// Condition: the workload has the pods that it should have.
pub const AVAILABLE: &str = "Available";

/// Condition: another definition or Space claims the same; neither is served.
pub const CONFLICT: &str = "Conflict";

/// Condition: the store can serve every reference to this definition's service id.
pub const SECRETS_RESOLVED: &str = "SecretsResolved";

/// Condition: every pod knows the authority that the store is known by, and so can start containers.
pub const STORE_TRUSTED: &str = "StoreTrusted";

/// What is known of one secret reference; never its value.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceStatus {
    /// The secret's path, without a leading `/`.
    pub name: String,
    /// The member of the secret that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The resolver that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The secret's current version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Why the secret cannot be had; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
