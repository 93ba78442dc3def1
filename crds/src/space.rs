//! Space: which namespaces own which service ids, and so which secrets their definitions can get.
//!
//! Without any Space a namespace owns `/<namespace>`. How ids are judged stands in `watchword-core`.

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
    kind = "Space",
    doc = "Which namespaces own which service ids, and so which secrets their definitions can get.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "wsp",
    category = "watchword",
    status = "SpaceStatus",
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.namespaces",
        description = "The namespaces that are bound"
    ),
    printcolumn(
        name = "Prefixes",
        type_ = "string",
        json_path = ".spec.prefixes",
        description = "The service ids that they own"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct SpaceSpec {
    /// The namespaces that are bound.
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The prefixes of service ids that these namespaces own, such as `/shop`; whole components count.
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    #[x_kube(
        validation = Rule::new("self.all(prefix, prefix.matches('^(/[A-Za-z0-9._-]+)+$'))")
            .message("each prefix must look like /shop or /shop/web, without a slash at the end")
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Names of Spaces that may own prefixes below this one's; others that overlap are a conflict.
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<String>,
    /// The SecretResolvers that definitions of these namespaces may name, besides the sealed store.
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<String>,
    /// Namespaces that were deleted and made again, and may have what lies below their name all the
    /// same. Only for namespaces that no Space binds; it binds them to nothing.
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "uid".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<Confirmed>,
    /// Whether definitions may hold secrets of type `VALUE`: `Deny` (when absent) or `Allow`.
    #[x_kube(
        validation = Rule::new("self in ['Allow', 'Deny']")
            .message("inlineValues must be Allow or Deny")
    )]
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_values: Option<String>,
}

/// One life of a namespace: its name, and the uid that tells it from others of that name.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct Confirmed {
    /// The namespace.
    #[schemars(length(max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
            .message("namespace must be the name of one")
    )]
    pub namespace: String,
    /// Its `metadata.uid`.
    #[schemars(length(max = 36))]
    #[x_kube(
        validation = Rule::new("self.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')")
            .message("uid must be the namespace's metadata.uid")
    )]
    pub uid: String,
}

/// What is observed; for people, nothing decides by it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceStatus {
    /// Conflict: another Space claims what this one claims.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn complaint(spec: Value) -> Option<String> {
        let space = Space::new("shop", serde_json::from_value(spec).unwrap());
        space.validate_cel().err().map(|errors| errors.to_string())
    }

    #[test]
    fn a_space_binds_namespaces_to_prefixes() {
        let spec = json!({
            "namespaces": ["shop"], "prefixes": ["/shop", "/org/shop.eu"], "inlineValues": "Allow",
            "confirmed": [{"namespace": "bank", "uid": "6f0c1a52-3b0e-4b8e-9d52-0c9d4a3c7a11"}]
        });

        assert_eq!(complaint(spec), None);
    }

    #[rstest]
    #[case(json!({"prefixes": ["shop"]}), "each prefix must look like /shop")]
    #[case(json!({"prefixes": ["/"]}), "each prefix must look like /shop")]
    #[case(json!({"prefixes": ["/shop/"]}), "each prefix must look like /shop")]
    #[case(json!({"prefixes": ["/shop//web"]}), "each prefix must look like /shop")]
    #[case(
        json!({"confirmed": [{"namespace": "Shop", "uid": "6f0c1a52-3b0e-4b8e-9d52-0c9d4a3c7a11"}]}),
        "namespace must be the name of one"
    )]
    #[case(json!({"confirmed": [{"namespace": "shop", "uid": "*"}]}), "uid must be")]
    #[case(json!({"confirmed": [{"namespace": "shop", "uid": ""}]}), "uid must be")]
    #[case(json!({"inlineValues": "allow"}), "inlineValues must be Allow or Deny")]
    fn a_broken_rule_says_so(#[case] spec: Value, #[case] message: &str) {
        let complaint = complaint(spec).unwrap();

        assert!(complaint.contains(message), "{complaint}");
    }
}
