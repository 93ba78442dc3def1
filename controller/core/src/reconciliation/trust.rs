//! Trust in the store: which pods do not know its authority, and what becomes of them.
//!
//! A pod is told in its spec by which authorities it knows the store, once and for all; its agent
//! looks there whenever a container starts, also when one starts again after hours. An authority
//! that gets a successor vouches for it for a while, the overlap. A pod that knows only the older
//! one goes on as long as its containers do, and after the overlap starts none any more: so it has
//! to be replaced before.
//!
//! Most are, by rollouts that come anyway, which is why nothing is done for a while. Then
//! Deployments of ours are rolled, by an annotation in their template that is part of no revision;
//! but only if every reference can be read, because a pod that waits for a secret is no replacement
//! for one that runs. Pods of Jobs end by themselves and are told of. Adopted pods are somebody
//! else's to restart: they are named.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use watchword_protocol::env_names;

use super::{Check, Existing, Observed, is_live};
use crate::injection::containers;
use crate::workload::WorkloadKind;

/// How the store is known, as new pods are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trust {
    /// The authority that signs today, as it stands in bundles: base64 without white space.
    current: String,
    /// Until when the authority before vouches for it; absent if there is none before.
    overlap_ends: Option<Timestamp>,
    /// From when on pods that do not know it are replaced.
    replace_from: Timestamp,
}

impl Trust {
    /// The trust in an authority (PEM) that was `issued` then. For `patience` after that, pods which
    /// know only the one before are left alone; the overlap must be longer.
    ///
    /// Where no authority vouches for this one, pods that do not know it are lost already: they wait
    /// only until the webhook has surely read the bundle too, and tells their successors of it.
    pub fn new(
        authority: &str,
        issued: Timestamp,
        overlap_ends: Option<Timestamp>,
        patience: SignedDuration,
    ) -> Self {
        let wait = if overlap_ends.is_some() { patience } else { patience.min(PROPAGATION) };
        Self {
            current: authorities(authority).next().unwrap_or_default(),
            overlap_ends,
            replace_from: issued + wait,
        }
    }

    /// Whether every container of the pod that asks the store knows the authority.
    fn is_shared_by(&self, pod: &Pod) -> bool {
        containers(pod)
            .filter_map(bundle_of)
            .all(|bundle| authorities(bundle).any(|known| known == self.current))
    }
}

/// Pods that do not know the store's authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Strangers {
    /// What becomes of them.
    pub course: Course,
    overlap_ends: Option<Timestamp>,
    /// Their names, in order.
    pub pods: Vec<String>,
}

/// What becomes of pods that do not know the store's authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Course {
    /// They are a Job's and end by themselves.
    End,
    /// They are somebody else's to restart.
    Foreign,
    /// Their Deployment is rolled from this moment on, if they are still there.
    Later(Timestamp),
    /// Their Deployment is to be rolled.
    Roll,
    /// Their Deployment is on its way to newer pods already.
    Rolling,
}

/// The pods of a definition that do not know the store's authority; `None` if there are none, or
/// while the authority has not been read.
pub fn strangers(observed: &Observed, now: Timestamp) -> Option<Strangers> {
    let trust = observed.trust.as_ref()?;
    let mut pods: Vec<String> = observed
        .pods
        .iter()
        .filter(|pod| is_live(pod) && !trust.is_shared_by(pod))
        .map(|pod| pod.name_any())
        .collect();
    if pods.is_empty() {
        return None;
    }
    pods.sort();
    let course = match WorkloadKind::of(&observed.definition.spec.run) {
        None => Course::Foreign,
        Some(WorkloadKind::CronJob | WorkloadKind::Job) => Course::End,
        Some(WorkloadKind::Deployment) if now < trust.replace_from => {
            Course::Later(trust.replace_from)
        }
        Some(WorkloadKind::Deployment) => {
            let is_through = observed.deployment().is_some_and(|one| one.progress.rolled_out);
            if is_through { Course::Roll } else { Course::Rolling }
        }
    };
    Some(Strangers { course, overlap_ends: trust.overlap_ends, pods })
}

/// The Deployment that is to be rolled now, if there is one.
pub fn to_roll<'a>(observed: &'a Observed, check: &Check, now: Timestamp) -> Option<&'a Existing> {
    let is_due = strangers(observed, now).is_some_and(|one| one.course == Course::Roll);
    let can_start = observed.refusal.is_none() && check.is_resolved();
    observed.deployment().filter(|_| is_due && can_start)
}

impl Strangers {
    /// In CamelCase.
    pub fn reason(&self) -> &'static str {
        match self.course {
            Course::End => "RunsEnd",
            Course::Foreign => "RestartNeeded",
            Course::Later(_) => "RollLater",
            Course::Roll => "RollDue",
            Course::Rolling => "Rolling",
        }
    }

    /// In full, for people.
    pub fn message(&self) -> String {
        let Self { course, overlap_ends, pods } = self;
        let mut names: Vec<String> =
            pods.iter().take(MOST_NAMES).map(|it| format!("`{it}`")).collect();
        if let more @ 1.. = pods.len().saturating_sub(MOST_NAMES) {
            names.push(format!("{more} more"));
        }
        let names = names.join(", ");
        let who = match overlap_ends {
            Some(end) => format!(
                "Pods that know only the authority which the store had before, and start no \
                 container after {end}: {names}."
            ),
            None => format!(
                "Pods that do not know the store's authority, and start no container any more: \
                 {names}."
            ),
        };
        let what = match course {
            Course::End => "They are left to end by themselves; later runs know it.".to_owned(),
            Course::Foreign => "They are not Watchword's to restart: do so in time, as with \
                                `kubectl rollout restart`."
                .to_owned(),
            Course::Later(from) => {
                format!("From {from} on the Deployment is rolled for those that are left.")
            }
            Course::Roll => "The Deployment is rolled as soon as all references can be read and \
                             not too many others are being rolled."
                .to_owned(),
            Course::Rolling => "The Deployment is being rolled.".to_owned(),
        };
        format!("{who} {what}")
    }
}

/// The authorities that a container is told, PEM.
fn bundle_of(container: &Container) -> Option<&str> {
    let variables = container.env.as_deref().unwrap_or_default();
    variables.iter().find(|one| one.name == env_names::WATCHWORD_CA)?.value.as_deref()
}

/// The certificates of a PEM bundle, as base64 without white space: who breaks lines elsewhere means
/// the same.
fn authorities(bundle: &str) -> impl Iterator<Item = String> {
    let blocks = bundle.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks.map(|block| {
        let body = block.split("-----END").next().unwrap_or_default();
        body.chars().filter(|char| !char.is_whitespace()).collect()
    })
}

/// How long after an authority was made the webhook tells it to pods for sure: the kubelet takes a
/// minute or two to bring a changed ConfigMap into a pod.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(5);

/// How many pods a message names.
const MOST_NAMES: usize = 5;

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests;
