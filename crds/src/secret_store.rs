//! SecretStore: where the sealed store keeps its records and how it is unsealed.
//!
//! One object counts, `default`. Whether the store should be open is not here: that is its
//! own record, which no one who keeps objects in Git reverts.

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
        .message("only one SecretStore counts, and its name is `default`"),
    validation = Rule::new("!has(self.spec.pgpKeys) || !has(self.spec.autoUnseal)")
        .message("with pgpKeys the shares are for people: autoUnseal could not open the store"),
    validation = Rule::new(
        "has(self.spec.pgpKeys) || (!has(self.spec.shares) && !has(self.spec.threshold))"
    )
    .message("shares and threshold go with pgpKeys")
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
    /// How many shares the root key is split into when a new store initialises itself.
    #[schemars(range(min = 1, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<i64>,
    /// How many of the shares open the store.
    #[schemars(range(min = 1, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<i64>,
    /// OpenPGP public keys (base64), one for each share: a new store initialises itself for them.
    #[schemars(length(min = 1, max = 255), inner(length(min = 1, max = 65536)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgp_keys: Option<Vec<String>>,
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
    /// How many versions of a secret are kept, 10 when absent; what is more goes with the next write.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_versions: Option<i64>,
}

/// Where the records are kept.
///
/// A store that has records does not follow a change of this: migrate it, and say `movedFrom`.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new(
        "[has(self.kubernetes), has(self.file), has(self.zookeeper)].exists_one(x, x)"
    )
    .message("exactly one of kubernetes, file, zookeeper must be set")
)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// As SealedRecords in Watchword's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesBackend>,
    /// In one file of the store's own volume; one replica only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileBackend>,
    /// As nodes of an Apache ZooKeeper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zookeeper: Option<ZooKeeperBackend>,
    /// Where the records were before, as `watchword store migrate --from` takes it: confirms that
    /// they were moved. As long as this is said, an empty place is filled by a restoration only.
    #[schemars(length(min = 1, max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
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

/// Records in an Apache ZooKeeper.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ZooKeeperBackend {
    /// `zookeeper://HOST:PORT[,HOST:PORT]/PATH`, and `?jute.maxbuffer=BYTES` where the servers have
    /// another limit than the usual. Name and password of the owner of the nodes come from a file
    /// that is mounted into the store (`--zookeeper-digest-file`).
    #[x_kube(
        validation = Rule::new("self.startsWith('zookeeper://') && !self.contains('@')")
            .message("write zookeeper://HOST:PORT/PATH; a password has no place in it")
    )]
    #[schemars(length(min = 1, max = 4096))]
    pub address: String,
}

/// How the store unseals itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoUnseal {
    /// A Secret that keeps the private key the root key is encrypted to: the seal is as safe as its
    /// namespace, which must not be Watchword's.
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
    /// How many shares there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<i64>,
    /// How many of them open the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<i64>,
    /// How many have been given since it was sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<i64>,
    /// The fingerprints of the OpenPGP keys that the shares are encrypted to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
    /// The replicas of the store.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<StoreReplica>,
}

/// One replica of the store.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct StoreReplica {
    /// Its pod's name.
    pub name: String,
    /// Whether it holds no key; absent if it does not answer.
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
    #[case::zookeeper(json!({"backend": {"zookeeper": {"address": "zookeeper://zk:2181/watchword"}}}))]
    #[case::moved(json!({"backend": {"kubernetes": {}, "movedFrom": "file:/data/store"}}))]
    #[case::shares(json!({"shares": 1, "threshold": 1, "pgpKeys": ["mQINBF"]}))]
    fn a_store_may_say_little(#[case] spec: Value) {
        assert_eq!(complaint("default", spec), None);
    }

    #[rstest]
    #[case("other", json!({}), "its name is `default`")]
    #[case("default", json!({"backend": {}}), "exactly one of kubernetes, file, zookeeper must be set")]
    #[case(
        "default",
        json!({"backend": {"zookeeper": {"address": "zookeeper://me:secret@zk:2181/w"}}}),
        "a password has no place in it"
    )]
    #[case("default", json!({"rootSecrets": "Some"}), "rootSecrets must be Everyone or Nobody")]
    #[case("default", json!({"shares": 3, "threshold": 2}), "shares and threshold go with pgpKeys")]
    #[case(
        "default",
        json!({"pgpKeys": ["mQINBF"], "autoUnseal": {}}),
        "autoUnseal could not open the store"
    )]
    fn a_broken_rule_says_so(#[case] name: &str, #[case] spec: Value, #[case] message: &str) {
        let complaint = complaint(name, spec).unwrap();

        assert!(complaint.contains(message), "{complaint}");
    }
}
