//! Pods: which revision a pod gets, and the pod that it becomes.
//!
//! A pod that a task definition's workload made is labelled with the definition and names its
//! revision in its spec. A pod that carries our label only is adopted: exactly one definition of
//! its namespace must select it. No annotation is read.

use std::sync::Arc;

use watchword_core::injection::{self, Mutation, PodView};
use watchword_core::wanted::asks_for_secrets;
use watchword_core::{claim, revision};
use watchword_crds::names;
use watchword_crds::task_revision::TaskRevision;

use super::Reviewer;
use super::caches::Caches;
use super::review::{Answer, Request};

/// Answers the review of a pod.
pub fn answer(reviewer: &Reviewer, request: Request<'_, PodView<'_>>) -> Answer {
    let Request { namespace, object, .. } = request;
    let Some(pod) =
        object.filter(|pod| pod.label(names::INJECT_LABEL) == Some(names::INJECT_VALUE))
    else {
        return Answer::default();
    };
    let Some(settings) = reviewer.settings.load_full() else {
        return Answer::retry("Watchword's webhook has no CA bundle yet; try again");
    };
    let revision = match revision_for(&reviewer.caches, &namespace, &pod) {
        Ok(revision) => revision,
        Err(answer) => return *answer,
    };
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    match injection::mutate(pod, name, &revision.spec, &settings) {
        Ok(Mutation { patch, warnings }) => Answer { patch, warnings, ..Answer::default() },
        Err(denial) => Answer::deny(denial.to_string()),
    }
}

fn revision_for(
    caches: &Caches,
    namespace: &str,
    pod: &PodView<'_>,
) -> Result<Arc<TaskRevision>, Box<Answer>> {
    let empty = Default::default();
    let labels = pod.labels().unwrap_or(&empty);
    let (definition, name) = match labels.get(names::TASK_DEFINITION_LABEL) {
        Some(definition) => {
            let name = pod.named_revision().ok_or_else(|| {
                Box::new(Answer::deny(format!(
                    "metadata.labels[{}]: no container of this pod names a revision of \
                     `{definition}`; such pods are made by Watchword's workloads only: leave the \
                     label out",
                    names::TASK_DEFINITION_LABEL
                )))
            })?;
            (definition.clone(), name.to_owned())
        }
        None => adopter(caches, namespace, labels)?,
    };
    // The watch may be a moment behind the controller: whoever makes the pod tries again.
    let revision = caches.revision(namespace, &name).ok_or_else(|| {
        Box::new(Answer::retry(format!(
            "the revision `{name}` of task definition `{definition}` is not known yet; try again"
        )))
    })?;
    if revision.spec.definition != definition {
        return Err(Box::new(Answer::deny(format!(
            "the revision `{name}` is not of task definition `{definition}`"
        ))));
    }
    Ok(revision)
}

/// The one definition that adopts pods with these labels, and its current revision.
fn adopter(
    caches: &Caches,
    namespace: &str,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<(String, String), Box<Answer>> {
    let definitions = caches.definitions_of(namespace);
    let mut adopters = definitions.iter().filter(|one| claim::adopts(one, labels));
    let name_of = |index: Option<&Arc<watchword_crds::TaskDefinition>>| {
        index.and_then(|one| one.metadata.name.clone()).unwrap_or_default()
    };
    match (adopters.next(), adopters.next()) {
        // For good: this passes by nobody's waiting. Whoever tries again by himself, as controllers
        // of workloads do after any refusal, finds the definition once it has been applied.
        (None, _) => Err(Box::new(Answer::deny(format!(
            "no task definition of namespace `{namespace}` adopts this pod: apply one whose \
             `spec.run.adopt.selector` matches its labels, or remove the label {}",
            names::INJECT_LABEL
        )))),
        (Some(one), None) => {
            let definition = name_of(Some(one));
            // Such a definition is refused when it is applied; this one came in before that rule did.
            if !asks_for_secrets(&one.spec.tasks) {
                return Err(Box::new(Answer::deny(format!(
                    "the task definition `{definition}` adopts this pod and asks for no secret: \
                     give one of its tasks a variable or a volume of type SECRET, or remove the \
                     label {}",
                    names::INJECT_LABEL
                ))));
            }
            let snapshot = revision::snapshot(&one.spec, namespace, &definition);
            Ok((definition, revision::name(&snapshot)))
        }
        (one, two) => Err(Box::new(Answer::deny(format!(
            "the task definitions `{}` and `{}` both adopt this pod, so neither injects it; make \
             their selectors disjoint",
            name_of(one),
            name_of(two)
        )))),
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwapOption;
    use prometheus_client::metrics::family::Family;
    use serde_json::{Value, json};
    use watchword_core::injection::{AgentSource, Delivery, Settings};
    use watchword_crds::TaskDefinition;

    use super::super::review::Refused;
    use super::*;
    use crate::follow::holding;

    #[test]
    fn a_pod_whose_adopter_asks_for_no_secret_is_refused_with_the_mend() {
        let reviewer = reviewer(adopter(json!([{"name": "PLAIN", "value": "a"}])));

        let answer = review(&reviewer);

        let message = "the task definition `legacy` adopts this pod and asks for no secret: give one \
                       of its tasks a variable or a volume of type SECRET, or remove the label \
                       watchword.dev/inject";
        assert_eq!(answer.denial, Some(Refused { code: 403, message: message.to_owned() }));
        assert!(answer.patch.is_empty());
    }

    #[test]
    fn a_pod_whose_adopter_asks_for_one_waits_for_its_revision() {
        let secret = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
        let variable = json!({"name": "DB", "type": "SECRET", "secret": secret});
        let reviewer = reviewer(adopter(json!([variable])));

        let denial = review(&reviewer).denial.unwrap();

        assert_eq!(denial.code, 503);
        assert!(denial.message.contains("is not known yet"), "{denial:?}");
    }

    fn review(reviewer: &Reviewer) -> Answer {
        let pod = r#"{
            "metadata": {"labels": {"app": "legacy", "watchword.dev/inject": "true"}},
            "spec": {"containers": [{"name": "app", "command": ["serve"]}]}
        }"#;
        let request = Request {
            uid: "1".into(),
            namespace: "shop".into(),
            name: "".into(),
            object: Some(serde_json::from_str(pod).unwrap()),
        };
        answer(reviewer, request)
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers write `json!(…)`")]
    fn adopter(variables: Value) -> TaskDefinition {
        serde_json::from_value(json!({
            "apiVersion": "watchword.dev/v1alpha1",
            "kind": "TaskDefinition",
            "metadata": {"name": "legacy", "namespace": "shop"},
            "spec": {
                "run": {"adopt": {
                    "selector": {"matchLabels": {"app": "legacy"}}, "serviceAccountName": "legacy",
                }},
                "tasks": [{"name": "app", "command": {"environment": {"variables": variables}}}],
            },
        }))
        .unwrap()
    }

    /// A webhook that knows one definition and no revision.
    fn reviewer(definition: TaskDefinition) -> Reviewer {
        let caches = Caches {
            definitions: holding([definition]),
            revisions: holding([]),
            spaces: holding([]),
        };
        let agent = AgentSource {
            delivery: Delivery::InitContainer,
            image: "watchword:1".to_owned(),
            pull_policy: None,
        };
        let (ca_bundle, store_url) = (String::new(), String::new());
        let settings = Settings { agent, ca_bundle, store_url };
        let settings = ArcSwapOption::from(Some(Arc::new(settings)));
        Reviewer { caches, reviews: Family::default(), settings }
    }
}
