//! SecretStore: where the sealed store keeps its records and how it is unsealed.
//!
//! One object counts, `default`. What does not work yet has no field: shares, PGP keys and further
//! back ends appear in the schema together with their code.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize,
)]
#[kube(
    group = "watchword.dev",
    version = "v1alpha1",
    kind = "SecretStore",
    doc = "Where the sealed store keeps its records and how it is unsealed; only `default` counts.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "sstore",
    category = "watchword",
    status = "SecretStoreStatus",
    printcolumn(
        name = "Initialized",
        type_ = "boolean",
        json_path = ".status.initialized",
        description = "Whether it has a root key"
    ),
    printcolumn(
        name = "Sealed",
        type_ = "boolean",
        json_path = ".status.sealed",
        description = "Whether it refuses to read and write"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'")
        .message("only one SecretStore counts, and its name is `default`")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct SecretStoreSpec {
    /// Where the records are kept; as SealedRecords when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// How the store unseals itself; by hand when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_unseal: Option<AutoUnseal>,
    /// Who may read a secret without a path: `Everyone` (when absent, DC/OS' rule) or `Nobody`.
    #[x_kube(
        validation = Rule::new("self in ['Everyone', 'Nobody']")
            .message("rootSecrets must be Everyone or Nobody")
    )]
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_secrets: Option<String>,
    /// The longest value in bytes; 1047552 (1 MiB less 1 KiB) when absent and at most.
    #[schemars(range(min = 1, max = 1_047_552))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_secret_bytes: Option<i64>,
}

/// Where the records are kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("[has(self.kubernetes), has(self.file)].exists_one(x, x)")
        .message("exactly one of kubernetes, file must be set")
)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// As SealedRecords in Watchword's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesBackend>,
    /// In one file of the store's own volume; one replica only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileBackend>,
}

/// Records as SealedRecords; it has no settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct KubernetesBackend {}

/// Records in a file.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileBackend {
    /// The file's path in the store's container.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// How the store unseals itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoUnseal {
    /// A Secret that keeps the root key: as safe as its namespace, which must not be Watchword's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// A Secret, by namespace and name.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What is observed; for people, nothing decides by it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStoreStatus {
    /// What is worth knowing, such as how safe the unsealing is.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether the store has a root key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<bool>,
    /// Whether the store refuses to read and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn complaint(name: &str, spec: Value) -> Option<String> {
        let store = SecretStore::new(name, serde_json::from_value(spec).unwrap());
        store.validate_cel().err().map(|errors| errors.to_string())
    }

    #[rstest]
    #[case::nothing(json!({}))]
    #[case::kubernetes(json!({"backend": {"kubernetes": {}}, "rootSecrets": "Nobody"}))]
    #[case::file(json!({"backend": {"file": {"path": "/var/lib/watchword/store"}}}))]
    fn a_store_may_say_little(#[case] spec: Value) {
        assert_eq!(complaint("default", spec), None);
    }

    #[rstest]
    #[case("other", json!({}), "its name is `default`")]
    #[case("default", json!({"backend": {}}), "exactly one of kubernetes, file must be set")]
    #[case("default", json!({"rootSecrets": "Some"}), "rootSecrets must be Everyone or Nobody")]
    fn a_broken_rule_says_so(#[case] name: &str, #[case] spec: Value, #[case] message: &str) {
        let complaint = complaint(name, spec).unwrap();

        assert!(complaint.contains(message), "{complaint}");
    }
}
