//! The status: what people are told of a definition. Nothing decides by it.

use k8s_openapi::jiff::Timestamp;
use watchword_crds::names;
use watchword_crds::status::{self, ReferenceStatus};
use watchword_crds::task_definition::TaskDefinitionStatus;
use watchword_protocol::{CheckedReference, ErrorCode};

use super::condition::{Truth, Verdict, condition};
use super::stage::clean;
use super::task_state::{Counts, TaskState, counts, task_state};
use super::{Observed, Plan, is_waiting_for_secrets, strangers};
use crate::workload::WorkloadKind;

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What the store said of the references.
    pub check: &'a Check,
    /// The time.
    pub now: Timestamp,
    /// What was there before the writes.
    pub observed: &'a Observed,
    /// What became of the workload.
    pub outcome: &'a Outcome,
    /// What was planned.
    pub plan: &'a Plan,
}

/// What the store said of a revision's references.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Check {
    /// It answered.
    Answered(Vec<CheckedReference>),
    /// There is nothing to ask: the definition is not accepted.
    NotAsked,
    /// It did not answer, or only that it cannot.
    Unknown {
        /// Why, for people.
        message: String,
        /// Why, in CamelCase: `Sealed`, `StoreUnavailable`.
        reason: &'static str,
        /// Since when.
        since: Timestamp,
    },
}

/// What became of the workload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Outcome {
    /// It is as the plan says.
    Applied,
    /// It is a Job that cannot be changed any more, and was not to be replaced.
    Kept,
    /// There was nothing to do.
    #[default]
    Nothing,
    /// The API server refused it, and said this.
    Refused(String),
    /// It was a Job that could not be changed, and was deleted: the next reconcile makes it anew.
    Replaced,
}

impl Check {
    /// Whether every reference can be read.
    pub fn is_resolved(&self) -> bool {
        matches!(self, Self::Answered(references) if references.iter().all(|one| one.error.is_none()))
    }
}

/// The status after a reconcile.
pub fn status(report: &Report<'_>) -> TaskDefinitionStatus {
    let Report { check, now, observed, plan, .. } = *report;
    let definition = &observed.definition;
    let before = definition.status.clone().unwrap_or_default();
    let generation = definition.metadata.generation;
    // What runs is of the last accepted revision, whatever the definition says by now.
    let current = plan.revision.clone().or(before.current_revision);
    let counts = counts(observed);
    let state = state(report, current.as_deref());

    let verdicts = [
        (status::ACCEPTED, accepted(report)),
        (status::AVAILABLE, available(observed, counts, &state)),
        (status::CONFLICT, conflict(plan)),
        (status::SECRETS_RESOLVED, secrets_resolved(check)),
        (status::STORE_TRUSTED, store_trusted(observed, now)),
    ];
    let conditions = verdicts
        .into_iter()
        .map(|(kind, verdict)| condition(kind, verdict, generation, &before.conditions, now))
        .collect();
    let is_service = WorkloadKind::of(&definition.spec.run) == Some(WorkloadKind::Deployment);
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    TaskDefinitionStatus {
        conditions,
        current_revision: current,
        message: state.message,
        observed_generation: generation,
        ready_replicas: Some(counts.ready),
        reason: state.reason.map(str::to_owned),
        references: match check {
            Check::Answered(references) => references.iter().map(reference).collect(),
            Check::NotAsked => Vec::new(),
            Check::Unknown { .. } => before.references,
        },
        replicas: Some(counts.live),
        selector: is_service.then(|| format!("{}={name}", names::TASK_DEFINITION_LABEL)),
        state: state.state.map(str::to_owned),
    }
}

fn state(report: &Report<'_>, current: Option<&str>) -> TaskState {
    let Report { check, now, observed, outcome, plan } = *report;
    if let Some(refusal) = &observed.refusal {
        return TaskState {
            message: Some(clean(&refusal.message)),
            reason: Some(refusal.task_reason()),
            state: Some("TASK_ERROR"),
        };
    }
    if let Outcome::Refused(message) = outcome {
        return TaskState {
            message: Some(clean(message)),
            reason: Some("REASON_TASK_INVALID"),
            state: Some("TASK_ERROR"),
        };
    }
    let mut state = task_state(observed, current, now);
    if let Check::Unknown { message, since, .. } = check
        && observed.pods.iter().any(|pod| is_waiting_for_secrets(pod, *since, now))
    {
        // A container without readiness probe counts as Ready while its agent waits.
        if state.reason.is_none() {
            state.state = Some("TASK_STARTING");
            state.message = Some(clean(message));
        }
    } else if let Some(conflict) = plan.conflict.as_ref().filter(|_| state.message.is_none()) {
        state.message = Some(clean(&conflict.message));
    }
    state
}

fn accepted(report: &Report<'_>) -> Verdict {
    let Report { observed, outcome, plan, .. } = report;
    if let Some(refusal) = &observed.refusal {
        return Verdict::new(Truth::False, refusal.reason, refusal.message.clone());
    }
    match outcome {
        Outcome::Kept => Verdict::new(
            Truth::True,
            "JobKept",
            "A Job cannot be changed: it goes on as it was started. `run.once.replace: true` \
             deletes it and runs the new revision.",
        ),
        Outcome::Refused(message) => Verdict::new(
            Truth::False,
            "WorkloadRefused",
            format!("The API server refused what was to be made: {message}"),
        ),
        Outcome::Applied | Outcome::Nothing | Outcome::Replaced => {
            let revision = plan.revision.as_deref().unwrap_or_default();
            Verdict::new(
                Truth::True,
                "Accepted",
                format!("New pods get the revision `{revision}`."),
            )
        }
    }
}

fn available(observed: &Observed, counts: Counts, state: &TaskState) -> Verdict {
    let Counts { live, ready, wanted } = counts;
    let message = state.message.clone().unwrap_or_default();
    let run = &observed.definition.spec.run;
    match (WorkloadKind::of(run), state.state) {
        (_, Some("TASK_ERROR")) if live == 0 => Verdict::new(Truth::False, "NotAccepted", message),
        (_, Some("TASK_FAILED")) => Verdict::new(Truth::False, "Failed", message),
        (_, Some("TASK_FINISHED")) => Verdict::new(Truth::True, "Finished", message),
        (Some(WorkloadKind::CronJob), _) => Verdict::new(Truth::True, "Scheduled", message),
        (Some(WorkloadKind::Deployment), None) => {
            Verdict::new(Truth::True, "ScaledToZero", message)
        }
        (None, _) if live == 0 => Verdict::new(Truth::False, "NoPods", message),
        // A container without readiness probe is Ready while its agent waits.
        (_, Some("TASK_STARTING")) if ready >= wanted => {
            Verdict::new(Truth::False, "SecretsPending", message)
        }
        _ if ready >= wanted => {
            Verdict::new(Truth::True, "Ready", format!("{ready} of {wanted} pods are ready."))
        }
        _ => {
            let counts = format!("{ready} of {wanted} pods are ready.");
            let message = if message.is_empty() { counts } else { format!("{counts} {message}") };
            Verdict::new(Truth::False, "NotReady", message)
        }
    }
}

fn conflict(plan: &Plan) -> Verdict {
    match &plan.conflict {
        None => Verdict::new(Truth::False, "NoConflict", ""),
        Some(conflict) => Verdict::new(Truth::True, conflict.reason, conflict.message.clone()),
    }
}

fn secrets_resolved(check: &Check) -> Verdict {
    let references = match check {
        Check::Answered(references) => references,
        Check::NotAsked => {
            return Verdict::new(Truth::Unknown, "NotAccepted", "The definition is not accepted.");
        }
        Check::Unknown { message, reason, .. } => {
            return Verdict::new(Truth::Unknown, *reason, message.clone());
        }
    };
    let errors: Vec<(String, ErrorCode, &str)> = references
        .iter()
        .filter_map(|one| {
            let error = one.error.as_ref()?;
            Some((named(one), error.code, error.message.as_str()))
        })
        .collect();
    // A failure that stays is worth more words than one that passes by itself.
    let worst = errors.iter().find(|(_, code, _)| code.is_final()).or_else(|| errors.first());
    match worst {
        None if references.is_empty() => {
            Verdict::new(Truth::True, "NoReferences", "The definition refers to no secret.")
        }
        None => Verdict::new(
            Truth::True,
            "Resolved",
            match references.len() {
                1 => "The reference can be read.".to_owned(),
                count => format!("All {count} references can be read."),
            },
        ),
        Some((_, code, _)) => {
            let list: Vec<String> =
                errors.iter().map(|(name, _, message)| format!("{name}: {message}")).collect();
            let truth = if code.is_final() { Truth::False } else { Truth::Unknown };
            Verdict::new(truth, camel_case(*code), list.join("; "))
        }
    }
}

fn store_trusted(observed: &Observed, now: Timestamp) -> Verdict {
    match strangers(observed, now) {
        _ if observed.trust.is_none() => {
            Verdict::new(Truth::Unknown, "NotRead", "The store's authority has not been read.")
        }
        None => Verdict::new(Truth::True, "Trusted", "Every pod knows the store's authority."),
        Some(strangers) => Verdict::new(Truth::False, strangers.reason(), strangers.message()),
    }
}

fn reference(checked: &CheckedReference) -> ReferenceStatus {
    ReferenceStatus {
        name: checked.name.clone(),
        key: checked.key.clone(),
        resolver: Some(checked.resolver.clone()).filter(|name| !name.is_empty()),
        version: checked.version.and_then(|version| i64::try_from(version).ok()),
        message: checked.error.as_ref().map(|error| clean(&error.message)),
    }
}

fn named(checked: &CheckedReference) -> String {
    match &checked.key {
        None => format!("`{}`", checked.name),
        Some(key) => format!("`{}` (key `{key}`)", checked.name),
    }
}

fn camel_case(code: ErrorCode) -> &'static str {
    match code {
        // What no check of references is answered with is a store that does not do its part.
        ErrorCode::AlreadyExists
        | ErrorCode::Conflict
        | ErrorCode::Internal
        | ErrorCode::MethodNotAllowed
        | ErrorCode::PreconditionFailed => "StoreFailed",
        ErrorCode::BadRequest => "BadRequest",
        ErrorCode::Denied => "Denied",
        ErrorCode::Invalid | ErrorCode::TooLarge => "Invalid",
        ErrorCode::NotFound => "NotFound",
        ErrorCode::Sealed => "Sealed",
        ErrorCode::Unauthenticated => "Unauthenticated",
        ErrorCode::Timeout | ErrorCode::TooManyRequests | ErrorCode::Unavailable => {
            "StoreUnavailable"
        }
    }
}
