//! Label selectors, judged as Kubernetes does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether `selector` matches `labels`.
///
/// Unlike in Kubernetes an empty selector matches nothing: a definition that adopts every pod of
/// its namespace by leaving the selector out is a mistake, never a wish. An operator that is not
/// known matches nothing either.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equalities = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let is_empty = equalities.clone().next().is_none() && expressions.clone().next().is_none();
    !is_empty
        && equalities.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "DoesNotExist" => value.is_none(),
        "Exists" => value.is_some(),
        "In" => value.is_some_and(|value| values.contains(value)),
        // As in Kubernetes, a label that is not there is not in the list either.
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::equal(json!({"matchLabels": {"app": "web"}}), true)]
    #[case::different(json!({"matchLabels": {"app": "db"}}), false)]
    #[case::one_of_two(json!({"matchLabels": {"app": "web", "tier": "front"}}), false)]
    #[case::empty(json!({}), false)]
    #[case::within(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}), true)]
    #[case::not_within(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false)]
    #[case::absent_is_not_within(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}), true)]
    #[case::exists(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true)]
    #[case::does_not_exist(json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false)]
    #[case::unknown_operator(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]}), false)]
    fn selectors_match_as_in_kubernetes(
        #[case] selector: serde_json::Value,
        #[case] expected: bool,
    ) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);

        assert_eq!(matches(&selector, &labels), expected);
    }
}
