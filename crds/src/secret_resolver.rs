//! SecretResolver: a place that secret references can go to, and the namespaces that may use it.
//!
//! Only cluster administrators write it: tenants never name an address, an authority or a role. A
//! kind of resolver appears in the schema when it works.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize,
)]
#[kube(
    group = "watchword.dev",
    version = "v1alpha1",
    kind = "SecretResolver",
    doc = "A place that secret references can go to, and the namespaces that may use it.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "sres",
    category = "watchword",
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.namespaces",
        description = "Who may use it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = Rule::new("has(self.store)").message("a resolver is of some kind: set store")
)]
#[serde(rename_all = "camelCase")]
pub struct SecretResolverSpec {
    /// The namespaces whose definitions may name this resolver; required, and empty means none.
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// The sealed store of this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreResolver>,
}

/// The sealed store; it has no settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct StoreResolver {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resolver_is_of_some_kind() {
        let with = |spec| SecretResolver::new("a", serde_json::from_value(spec).unwrap());

        assert!(with(json!({"namespaces": [], "store": {}})).validate_cel().is_ok());
        assert!(with(json!({"namespaces": []})).validate_cel().is_err());
    }
}
