//! The policy that guards TaskRevisions and SealedRecords: is it there, and is it ours?
//!
//! The store believes revisions because nobody but the controller can write them, and that holds
//! only while `watchword-authority` and its binding stand in the cluster as they were shipped. What
//! was shipped is compiled in. Controller and store are not Ready while the two differ.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Client;
use kube::api::Api;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time;
use watchword_crds::names::AUTHORITY_POLICY;

use crate::chain::Chain;
use crate::shared::Shared;

/// Compares now and every few seconds, until the shutdown; what comes back says whether all is as
/// it was shipped, and says no until that is known.
pub fn watch(shared: &Shared) -> watch::Receiver<bool> {
    let (guarded, result) = watch::channel(false);
    let condition = shared.readiness.condition("authority");
    let client = shared.client.clone();
    let shutdown = shared.shutdown.clone();
    tokio::spawn(async move {
        let mut ticks = time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            let compared = time::timeout(LIMIT, compare(&client)).await;
            match compared.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into()))) {
                Ok(None) => {
                    guarded.send_replace(true);
                    condition.met();
                }
                Ok(Some(difference)) => {
                    guarded.send_replace(false);
                    condition.unmet(difference);
                }
                // The API server is away: what was seen last is the best guess, since whoever
                // could change the policy needs it as well.
                Err(error) => tracing::warn!(error = %Chain(&error), "cannot read the policy"),
            }
        }
    });
    result
}

/// What is wrong, if anything is.
async fn compare(client: &Client) -> Result<Option<String>, kube::Error> {
    let policy = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    let binding = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let policy = policy.get_opt(AUTHORITY_POLICY).await?.and_then(|policy| policy.spec);
    let binding = binding.get_opt(AUTHORITY_POLICY).await?.and_then(|binding| binding.spec);
    let [shipped_policy, shipped_binding] = shipped();
    Ok(difference("ValidatingAdmissionPolicy", &shipped_policy, policy.as_ref()).or_else(|| {
        difference("ValidatingAdmissionPolicyBinding", &shipped_binding, binding.as_ref())
    }))
}

fn difference(kind: &str, shipped: &Value, found: Option<&impl Serialize>) -> Option<String> {
    let Some(found) = found else {
        return Some(format!("{kind} {AUTHORITY_POLICY} is missing; apply the manifests again"));
    };
    let found = serde_json::to_value(found).unwrap_or_default();
    (without_defaults(found) != without_defaults(shipped.clone())).then(|| {
        format!("{kind} {AUTHORITY_POLICY} is not as it was shipped; apply the manifests again")
    })
}

/// The `spec`s of policy and binding, as they were shipped.
fn shipped() -> [Value; 2] {
    let documents: Vec<Value> = serde_yaml::from_multiple(SHIPPED).unwrap_or_default();
    // Without documents nothing would ever be equal, which errs on the safe side; a test has them.
    ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"].map(|kind| {
        let document = documents.iter().find(|document| document["kind"] == kind);
        document.map(|document| document["spec"].clone()).unwrap_or_default()
    })
}

/// Takes away what the API server adds to a policy, and only where it means "no restriction": a
/// selector that selects something, or a narrower scope, stays and makes a difference.
fn without_defaults(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => {
            for item in items {
                *item = without_defaults(item.take());
            }
        }
        Value::Object(map) => {
            for (_, item) in map.iter_mut() {
                *item = without_defaults(item.take());
            }
            map.retain(|key, item| {
                let is_default = match key.as_str() {
                    "matchPolicy" => item == "Equivalent",
                    "namespaceSelector" | "objectSelector" => item == &serde_json::json!({}),
                    "scope" => item == "*",
                    _ => false,
                };
                !is_default
            });
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
    value
}

const SHIPPED: &str = include_str!("../../manifests/base/policies/authority.yaml");

const INTERVAL: Duration = Duration::from_secs(5);

/// How long one comparison may take: an API server that does not answer is one that is away.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shipped_equals_itself_with_the_servers_defaults() {
        let [policy, binding] = shipped();
        let mut served = policy.clone();
        served["matchConstraints"]["matchPolicy"] = "Equivalent".into();
        served["matchConstraints"]["namespaceSelector"] = json!({});
        served["matchConstraints"]["resourceRules"][0]["scope"] = "*".into();

        assert_eq!(difference("policy", &policy, Some(&served)), None);
        assert_eq!(difference("binding", &binding, Some(&binding)), None);
    }

    #[test]
    fn a_policy_that_was_narrowed_is_not_the_shipped_one() {
        let [policy, binding] = shipped();
        let mut narrowed = policy.clone();
        narrowed["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
        let mut softened = binding.clone();
        softened["validationActions"] = json!(["Warn"]);

        assert!(difference("policy", &policy, Some(&narrowed)).is_some());
        assert!(difference("binding", &binding, Some(&softened)).is_some());
        assert!(difference("binding", &binding, None::<&Value>).is_some());
    }
}
