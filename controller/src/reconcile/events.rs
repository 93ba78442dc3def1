//! Events: what people read in `kubectl describe`.
//!
//! Only what was not true at the last reconcile is told. No note holds a value: they are made of
//! conditions, of Kubernetes' own messages and of what our agent left behind.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt as _};
use tracing::debug;
use watchword_core::reconciliation::{
    Check, Course, Failure, Hindrance, Observed, Outcome, Plan, Stage, is_waiting_for_secrets,
    stage, strangers,
};

use super::context::{Context, Key};
use crate::chain::Chain;

/// What is true of a definition after a reconcile, as far as anybody should hear of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) check: &'a Check,
    /// What was done: a reason and a note.
    pub(super) happened: &'a [(&'static str, String)],
    pub(super) now: Timestamp,
    pub(super) observed: &'a Observed,
    pub(super) outcome: &'a Outcome,
    pub(super) plan: &'a Plan,
}

/// Tells what is new.
pub(super) async fn tell(facts: Facts<'_>, key: &Key, context: &Context) {
    let definition = facts.observed.definition.object_ref(&());
    for (reason, note) in facts.happened {
        publish(&definition, EventType::Normal, reason, note, None, context).await;
    }

    let news = news(&facts);
    let ids: HashSet<String> = news.iter().map(|one| one.id.clone()).collect();
    let fresh = context.memory.news(key, ids);
    let fresh: Vec<News> = news.into_iter().filter(|one| fresh.contains(&one.id)).collect();
    for hindrance in fresh.iter().filter_map(|one| one.hindrance) {
        context.metrics.count_launch_failure(hindrance);
    }
    // A Deployment of a thousand pods that all fail alike needs no thousand Events.
    for News { note, pod, reason, hindrance, .. } in fresh.into_iter().take(MOST_AT_ONCE) {
        publish(&definition, EventType::Warning, reason, &note, pod.clone(), context).await;
        if let Some(pod) = pod.filter(|_| hindrance.is_none()) {
            publish(&pod, EventType::Warning, reason, &note, None, context).await;
        }
    }
}

struct News {
    /// What kept containers from being launched, if anything did.
    hindrance: Option<Hindrance>,
    /// The same as long as the news is the same.
    id: String,
    note: String,
    /// The pod that it is about.
    pod: Option<ObjectReference>,
    reason: &'static str,
}

fn news(facts: &Facts<'_>) -> Vec<News> {
    let Facts { check, now, observed, outcome, plan, .. } = facts;
    let of_definition = |reason: &'static str, note: &str| News {
        hindrance: None,
        id: format!("{reason}: {note}"),
        note: note.to_owned(),
        pod: None,
        reason,
    };
    let mut news = Vec::new();
    if let Some(refusal) = &observed.refusal {
        news.push(of_definition(refusal.reason, &refusal.message));
    }
    if let Some(conflict) = &plan.conflict {
        news.push(of_definition(conflict.reason, &conflict.message));
    }
    if let Outcome::Refused(message) = outcome {
        news.push(of_definition("WorkloadRefused", message));
    }
    // What Watchword does not mend by itself.
    if let Some(strangers) = strangers(observed, *now)
        && matches!(strangers.course, Course::End | Course::Foreign)
    {
        let (reason, note) = (strangers.reason(), strangers.message());
        // One Event, and not another one for each pod that has been replaced since.
        news.push(News { id: reason.to_owned(), ..of_definition(reason, &note) });
    }
    for pod in &observed.pods {
        let id = pod.uid().unwrap_or_default();
        if let Stage::Failed(Failure { cause, message, .. }) = stage(pod, *now)
            && let Some(hindrance) = cause.hindrance()
        {
            news.push(News {
                hindrance: Some(hindrance),
                id: format!("launch {id} {message}"),
                note: format!("{}: {message}", hindrance.as_str()),
                pod: Some(reference(pod)),
                reason: "LaunchFailed",
            });
        } else if let Check::Unknown { message, since, .. } = check
            && is_waiting_for_secrets(pod, *since, *now)
        {
            news.push(News {
                hindrance: None,
                id: format!("pending {id} {message}"),
                note: message.clone(),
                pod: Some(reference(pod)),
                reason: "SecretsPending",
            });
        }
    }
    news
}

fn reference(pod: &Pod) -> ObjectReference {
    // The resource version would make each Event of a pod the first of a series.
    ObjectReference { resource_version: None, ..pod.object_ref(&()) }
}

async fn publish(
    regarding: &ObjectReference,
    type_: EventType,
    reason: &str,
    note: &str,
    secondary: Option<ObjectReference>,
    context: &Context,
) {
    let event = Event {
        action: "Reconcile".to_owned(),
        note: Some(within(note, MOST_NOTE_BYTES).to_owned()),
        reason: reason.to_owned(),
        secondary,
        type_,
    };
    let regarding = ObjectReference { resource_version: None, ..regarding.clone() };
    // A recorder folds what it has published before into one Event, with the first one's note; here
    // only news comes by, and its note is the point. So each has a recorder of its own.
    let recorder = Recorder::new(context.client.clone(), context.reporter.clone());
    if let Err(error) = recorder.publish(&event, &regarding).await {
        // Nothing depends on it, and the object may be gone.
        debug!(reason, error = %Chain(&error), "cannot publish an Event");
    }
}

fn within(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// How many Events one reconcile may publish about what is wrong.
const MOST_AT_ONCE: usize = 10;

/// The API server refuses a longer note.
const MOST_NOTE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(within("grün", 3), "gr");
        assert_eq!(within("grün", 4), "grü");
        assert_eq!(within("grün", 40), "grün");
    }
}
