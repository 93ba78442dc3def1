//! The ValidatingAdmissionPolicies: what tenants, cluster administrators and Watchword's own
//! accounts may not do, whatever RBAC lets them, and that each policy says so in its own words.

mod accounts;
mod structure;
mod tenants;

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn every_policy_is_bound_denies_tells_the_audit_log_and_has_no_type_warning() {
    run(async |cluster: Cluster| {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client());
        let checked = wait_for("all policies to be checked", LIMIT, async || {
            let list = policies.list(&ListParams::default()).await?.items;
            let ours: Vec<_> =
                list.into_iter().filter(|one| one.name_any().starts_with("watchword-")).collect();
            for policy in &ours {
                let status = policy.status.as_ref().context("it has no status")?;
                ensure!(status.observed_generation == policy.metadata.generation, "not looked at");
                ensure!(status.type_checking.is_some(), "{} is unchecked", policy.name_any());
            }
            Ok(ours)
        })
        .await?;
        let bound = bindings.list(&ListParams::default()).await?;
        for policy in &checked {
            let name = policy.name_any();
            let checking = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
            let warnings = checking.and_then(|checking| checking.expression_warnings.as_ref());
            assert!(warnings.is_none_or(Vec::is_empty), "{name}: {warnings:?}");
            let spec = policy.spec.as_ref().context("no spec")?;
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"), "{name}");
            let binding = bound.items.iter().find_map(|binding| {
                let spec = binding.spec.as_ref()?;
                (spec.policy_name.as_deref() == Some(&name)).then_some(spec)
            });
            let binding = binding.with_context(|| format!("{name} is not bound"))?;
            let actions = binding.validation_actions.clone().unwrap_or_default();
            assert_eq!(actions, ["Deny", "Audit"], "{name}");
            assert!(binding.match_resources.is_none(), "{name} is bound to a part");
        }
        let names: BTreeSet<_> = checked.iter().map(ResourceExt::name_any).collect();
        for needed in [
            "watchword-authority",
            "watchword-controller-scope",
            "watchword-injected",
            "watchword-opt-in",
            "watchword-pod-binding",
            "watchword-pod-metadata",
            "watchword-task-cronjobs",
            "watchword-task-pods",
            "watchword-task-workloads",
            "watchword-token-audience",
        ] {
            assert!(names.contains(needed), "{needed} is missing");
        }
        anyhow::Ok(())
    });
}

/// What creating an object is refused with; empty if it is let in. Nothing is made.
async fn dry_create<K>(client: &Client, namespace: &str, object: &Value) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let created = api.create(&dry_run, &serde_json::from_value(object.clone())?).await;
    Ok(created.err().map(|error| error.to_string()).unwrap_or_default())
}

async fn create<K>(client: &Client, namespace: &Namespace, object: Value) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    dry_create::<K>(client, namespace.name(), &object).await
}

/// A definition `web` with a variable and a file; its pod, once it runs.
async fn running_web(namespace: &Namespace) -> anyhow::Result<String> {
    namespace.cluster().create_secret(&namespace.secret("db"), "value").await?;
    let web = with_variable(task("web", "exec sleep 600"), "DB", &namespace.secret("db"));
    let web = with_file(web, "file", "RO", &namespace.secret("db"));
    namespace.define("web", &json!({"tasks": [web]})).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    namespace.running_pod("web").await
}
