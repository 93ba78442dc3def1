//! Keeping an account from doing something, in one namespace and for a while.

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::namespace::unique;
use super::{Cluster, Namespace, wait_for};
use crate::watchword::LIMIT;

/// A policy of the API server that refuses one account some requests in one namespace.
///
/// So a story has all the time that it needs for what else would be over at once. One that is never
/// opened outlives the story, and selects a namespace that is gone.
#[derive(Debug)]
#[must_use = "it stays closed until it is opened"]
pub struct Gate {
    cluster: Cluster,
    name: String,
}

impl Gate {
    /// What whoever is refused hears.
    pub const WORDS: &str = "the story keeps this account from this step";

    /// Closes a gate for an account, such as `system:serviceaccount:kube-system:…`, and waits until
    /// it is closed. `rule` is one of a policy's `resourceRules`: groups, operations, resources.
    ///
    /// # Errors
    ///
    /// If the API server refuses it, or lets what it refuses happen for too long.
    pub async fn close(namespace: &Namespace, account: &str, mut rule: Value) -> Result<Self> {
        let cluster = namespace.cluster().clone();
        let name = unique(namespace.name());
        rule["apiVersions"] = json!(["*"]);
        // By which one sees that it is closed.
        let sign = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                          "resources": ["configmaps"]});
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {
                        "kubernetes.io/metadata.name": namespace.name(),
                    }},
                    "resourceRules": [rule, sign],
                },
                "validations": [{
                    "expression": format!(
                        "request.userInfo.username != '{account}' \
                         && (request.resource.resource != 'configmaps' \
                             || object.metadata.?name.orValue('') != '{ASKS}')"
                    ),
                    "message": Self::WORDS,
                    "reason": "Forbidden",
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        let gate = Self { cluster, name };
        namespace.apply(&format!("{policy}\n---\n{binding}")).await?;
        let config: ConfigMap = serde_json::from_value(json!({"metadata": {"name": ASKS}}))?;
        let only_asks = PostParams { dry_run: true, ..PostParams::default() };
        wait_for("the gate to be closed", LIMIT, async || {
            let asked = namespace.api::<ConfigMap>().create(&only_asks, &config).await;
            let refused = asked.is_err_and(|error| error.to_string().contains(Self::WORDS));
            refused.then_some(()).context("it is open")
        })
        .await?;
        Ok(gate)
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// If the API server refuses that.
    pub async fn open(self) -> Result<()> {
        let client = self.cluster.client();
        let parameters = DeleteParams::default();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings.delete(&self.name, &parameters).await?;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
        policies.delete(&self.name, &parameters).await?;
        Ok(())
    }
}

/// A ConfigMap by which one sees that a gate is closed; none is ever made.
const ASKS: &str = "asks";
