//! Waiting until the API server acts on a binding.
//!
//! It learns of roles and bindings by a watch, as everybody does: who asks for something right after
//! they were bound may still be refused, or be refused by another than the story is about.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleRef, Subject};
use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{Cluster, wait_for};
use crate::watchword::LIMIT;

/// Waits until the first subject of a `RoleBinding` or `ClusterRoleBinding` may do the first thing
/// that its role gives it. A role that is not there, or allows nothing, is not waited for.
pub(super) async fn take_effect(cluster: &Cluster, binding: &DynamicObject) -> Result<()> {
    let part = |name: &str| binding.data.get(name).cloned().unwrap_or(Value::Null);
    let role: RoleRef = serde_json::from_value(part("roleRef")).context("no roleRef")?;
    let subjects: Option<Vec<Subject>> = serde_json::from_value(part("subjects"))?;
    let namespace = binding.namespace();
    let rules = rules(cluster, &role, namespace.as_deref()).await?;
    // URLs are of no namespace: only a ClusterRoleBinding gives rights on them.
    let mut given =
        rules.into_iter().filter(|rule| namespace.is_none() || rule.resources.is_some());
    let subject = subjects.and_then(|subjects| subjects.into_iter().next());
    let (Some(rule), Some(subject)) = (given.next(), subject) else { return Ok(()) };
    let review = review(&subject, &rule, namespace);
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    wait_for(&format!("`{}` to take effect", binding.name_any()), LIMIT, async || {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        ensure!(answer.status.is_some_and(|status| status.allowed), "{:?}", review.spec);
        Ok(())
    })
    .await
}

async fn rules(
    cluster: &Cluster,
    role: &RoleRef,
    namespace: Option<&str>,
) -> Result<Vec<PolicyRule>> {
    let rules = match (role.kind.as_str(), namespace) {
        ("Role", Some(namespace)) => {
            let roles: Api<Role> = Api::namespaced(cluster.client(), namespace);
            roles.get_opt(&role.name).await?.and_then(|role| role.rules)
        }
        _ => {
            let roles: Api<ClusterRole> = Api::all(cluster.client());
            roles.get_opt(&role.name).await?.and_then(|role| role.rules)
        }
    };
    Ok(rules.unwrap_or_default())
}

/// Whether the subject may do the first thing of a rule.
fn review(subject: &Subject, rule: &PolicyRule, namespace: Option<String>) -> SubjectAccessReview {
    let verb = rule.verbs.first().cloned();
    let first = |list: &Option<Vec<String>>| list.iter().flatten().next().cloned();
    let (user, groups) = match subject.kind.as_str() {
        "ServiceAccount" => {
            let home = subject.namespace.as_deref().unwrap_or_default();
            (format!("system:serviceaccount:{home}:{}", subject.name), Vec::new())
        }
        "Group" => ("anybody".to_owned(), vec![subject.name.clone()]),
        _ => (subject.name.clone(), Vec::new()),
    };
    let mut spec = SubjectAccessReviewSpec {
        groups: Some(groups),
        user: Some(user),
        ..SubjectAccessReviewSpec::default()
    };
    match first(&rule.non_resource_urls) {
        Some(path) => {
            spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path), verb });
        }
        None => {
            let resource = first(&rule.resources).unwrap_or_default();
            let (resource, subresource) = match resource.split_once('/') {
                Some((resource, subresource)) => {
                    (resource.to_owned(), Some(subresource.to_owned()))
                }
                None => (resource, None),
            };
            spec.resource_attributes = Some(ResourceAttributes {
                group: first(&rule.api_groups),
                name: first(&rule.resource_names),
                namespace,
                resource: Some(resource),
                subresource,
                verb,
                ..ResourceAttributes::default()
            });
        }
    }
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_asks_for_the_first_thing_that_the_rule_allows() {
        let subject = |value| serde_json::from_value::<Subject>(value).unwrap();
        let rule = |value| serde_json::from_value::<PolicyRule>(value).unwrap();
        let account = subject(json!({"kind": "ServiceAccount", "name": "a", "namespace": "b"}));
        let of_pods = json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]});

        let spec = review(&account, &rule(of_pods), Some("c".to_owned())).spec;

        assert_eq!(spec.user.as_deref(), Some("system:serviceaccount:b:a"));
        let asked = spec.resource_attributes.unwrap();
        assert_eq!(
            [asked.resource, asked.subresource, asked.namespace, asked.verb, asked.group]
                .map(Option::unwrap),
            ["pods", "exec", "c", "create", ""]
        );

        let group = subject(json!({"kind": "Group", "name": "g", "apiGroup": ""}));
        let of_urls = json!({"nonResourceURLs": ["/secrets/*"], "verbs": ["*"]});

        let spec = review(&group, &rule(of_urls), None).spec;

        assert_eq!(spec.groups, Some(vec!["g".to_owned()]));
        let asked = spec.non_resource_attributes.unwrap();
        assert_eq!([asked.path, asked.verb].map(Option::unwrap), ["/secrets/*", "*"]);
    }
}
