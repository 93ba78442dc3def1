//! Role `controller`: brings the workloads of task definitions to what they say, and reports.
//!
//! ```text
//! watch ─► observe ─► plan (pure) ─► write ─► ask the store ─► report ─► tidy ─► roll, poke
//! ```
//!
//! One replica works, the holder of the lease; the others stand by. A definition is reconciled when
//! it, a Space, or anything that belongs to it changes, and every ten minutes. What is decided is in
//! `watchword_core::reconciliation`; here is what it is decided from and how it is carried out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::{Action, Error as ControllerError};
use kube::runtime::events::Reporter;
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};
use watchword_core::reconciliation::{
    Check, Observed, Outcome, Plan, Report, is_waiting_for_secrets, latest, plan, settles_at,
    status,
};
use watchword_core::wanted::secrets_of;
use watchword_crds::{TaskDefinition, TaskDefinitionStatus, names};

use self::bundle::Bundle;
use self::caches::{Guarded, caches};
use self::check::{Asked, Checks, Question};
use self::context::{Context, Error, Key, Memory};
use self::events::Facts;
use self::metrics::{ReconcileMetrics, ReconcileResult};
use self::observe::{Observation, observe};
use self::poke::Poker;
use self::roll::{Rolled, Roller};
use crate::args::ControllerArgs;
use crate::backoff::{self, Backoff};
use crate::chain::Chain;
use crate::leadership::{Lease, Timing};
use crate::readiness::Condition;
use crate::shared::Shared;

mod apply;
mod bundle;
mod caches;
mod check;
mod context;
mod events;
mod metrics;
mod observe;
mod poke;
mod roll;

/// Runs the role until the process ends.
///
/// # Errors
///
/// Never: what fails is tried again.
pub async fn run(args: ControllerArgs, shared: Shared) -> Result<(), Infallible> {
    crate::guard::watch(&shared);
    let Shared { client, identity, metrics, namespace, readiness, shutdown } = shared;
    let ControllerArgs { trust, token_file, rolls } = args;
    let condition = readiness.condition("caches");
    let campaign = Lease {
        client: client.clone(),
        identity: identity.clone(),
        metrics: metrics.clone(),
        name: names::CONTROLLER,
        namespace: namespace.clone(),
        timing: Timing::default(),
    }
    .campaign();
    let metrics = ReconcileMetrics::new(&metrics);
    let mut leading = campaign.leading();
    loop {
        // Standing by is all that a second replica is to do.
        condition.met();
        tokio::select! {
            () = shutdown.requested() => break,
            _ = leading.wait_for(|leading| *leading) => {}
        }
        let (again, requests) = mpsc::unbounded_channel();
        let (caches, controller) = caches(&client, requests);
        let bundle = Bundle::new(&trust, rolls);
        bundle.read().await;
        let context = Arc::new(Context {
            again,
            bundle,
            caches,
            checks: Checks::new(&trust, token_file.clone()),
            client: client.clone(),
            failures: Backoff::new(FIRST_RETRY, LAST_RETRY),
            memory: Memory::default(),
            metrics: metrics.clone(),
            poker: Poker::new(client.clone(), namespace.clone()),
            reporter: Reporter {
                controller: names::CONTROLLER.to_owned(),
                instance: Some(identity.clone()),
            },
            roller: Roller::new(client.clone()),
        });
        let stop = shutdown.clone();
        let work = controller
            .graceful_shutdown_on(async move { stop.requested().await })
            .run(reconcile, retry, Arc::clone(&context))
            .for_each(|result| {
                let context = Arc::clone(&context);
                async move { note(result, &context) }
            });
        tokio::select! {
            biased;
            // Losing the lease ends the work at once, between any two writes.
            _ = leading.wait_for(|leading| !*leading) => warn!("no longer leading"),
            () = async { tokio::join!(work, say_ready(&context, &condition)); } => {}
            () = follow_bundle(&context) => {}
            () = follow_webhook(&context) => {}
        }
        if shutdown.is_requested() {
            break;
        }
    }
    campaign.resign().await;
    Ok(())
}

/// One reconcile, measured.
async fn reconcile(definition: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    // Nothing may be decided from a cache that is still being filled.
    context.caches.ready().await;
    let started = Instant::now();
    let key = key(Guarded::meta(&definition))?;
    let result = match &definition.0 {
        Err(invalid) => unreadable(invalid, &key, &context).await,
        Ok(definition) => bring(definition, &key, &context).await,
    };
    context.metrics.duration.observe(started.elapsed().as_secs_f64());
    if result.is_err() {
        context.metrics.count(ReconcileResult::Error);
    } else {
        context.failures.reset(&key);
    }
    result
}

/// Brings one definition's workload to its spec and reports on it in the status.
async fn bring(definition: &TaskDefinition, key: &Key, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let Observation { fingerprints, observed } = observe(definition, key, context).await?;
    let plan = plan(&observed);
    if definition.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }

    let applied = apply::write(&plan, &fingerprints, key, context, now).await?;
    let outcome = &applied.outcome;
    let asked = ask(&observed, &plan, key, context, now).await;
    let check = &asked.check;
    let status = status(&Report { check, now, observed: &observed, outcome, plan: &plan });
    report(&observed.definition, status, key, context).await?;

    apply::tidy(&plan, key, context).await?;
    let rolled = roll(&observed, check, key, context, now).await;
    let happened: Vec<_> = applied.happened.iter().cloned().chain(rolled.happened).collect();
    let happened = &happened;
    let facts = Facts { check, happened, now, observed: &observed, outcome, plan: &plan };
    events::tell(facts, key, context).await;
    wake_rivals(&observed, key, context);
    let poke = poke(&observed, &plan, &asked, key, context, now).await;

    let refused = observed.refusal.is_some() || matches!(outcome, Outcome::Refused(_));
    let result = if refused { ReconcileResult::Refused } else { ReconcileResult::Ok };
    context.metrics.count(result);
    let soon = [poke, rolled.again].into_iter().flatten().min();
    Ok(next(&observed, &plan, outcome, &asked, soon, now))
}

/// Has pods replaced that do not know the store's authority. There is time: what goes wrong here is
/// tried again with the next look.
async fn roll(
    observed: &Observed,
    check: &Check,
    key: &Key,
    context: &Context,
    now: Timestamp,
) -> Rolled {
    context.roller.roll(observed, check, key, now).await.unwrap_or_else(|error| {
        warn!(name = key.name, namespace = key.namespace, error = %Chain(&error), "cannot roll");
        Rolled::default()
    })
}

/// Ends back-offs whose cause is gone. What goes wrong here is a matter of time only: the back-off
/// ends by itself.
async fn poke(
    observed: &Observed,
    plan: &Plan,
    asked: &Asked,
    key: &Key,
    context: &Context,
    now: Timestamp,
) -> Option<Duration> {
    let complain = |error: Error| {
        warn!(name = key.name, namespace = key.namespace, error = %Chain(&error), "cannot poke");
    };
    if let (Some(since), Some(revision)) = (asked.resolved_since, &plan.revision)
        && let Err(error) = context.poker.retry_pods(observed, revision, key, since, now).await
    {
        complain(error);
    }
    let poked = match observed.definition.spec.run.adopt {
        None => context.poker.poke(observed, key, now).await,
        Some(_) => context.poker.poke_adopted(observed, key, now).await,
    };
    poked.unwrap_or_else(|error| {
        complain(error);
        None
    })
}

async fn ask(
    observed: &Observed,
    plan: &Plan,
    key: &Key,
    context: &Context,
    now: Timestamp,
) -> Asked {
    let tasks = &observed.definition.spec.tasks;
    let question = Question {
        key,
        latest: latest_of(observed, now),
        now,
        revision: plan.revision.as_deref(),
        wants: tasks.iter().any(|task| !secrets_of(task).is_empty()),
    };
    context.checks.ask(question).await
}

fn latest_of(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    observed.pods.iter().filter_map(|pod| latest(pod, now)).max()
}

/// Writes the status, if it says anything new.
async fn report(
    definition: &TaskDefinition,
    status: TaskDefinitionStatus,
    key: &Key,
    context: &Context,
) -> Result<(), Error> {
    if definition.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let uid = definition.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    write_status(json!(status), uid, key, context).await?;
    context.memory.remember_reported(key, uid, status);
    Ok(())
}

async fn write_status(
    status: serde_json::Value,
    uid: &str,
    key: &Key,
    context: &Context,
) -> Result<(), Error> {
    let api: Api<TaskDefinition> = Api::namespaced(context.client.clone(), &key.namespace);
    let manifest = json!({
        "apiVersion": TaskDefinition::api_version(&()),
        "kind": TaskDefinition::kind(&()),
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
        "status": status,
    });
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    match api.patch_status(&key.name, &parameters, &Patch::Apply(&manifest)).await {
        // It was deleted meanwhile: there is nobody to tell.
        Err(kube::Error::Api(status)) if matches!(status.code, 404) => Ok(()),
        Err(error) => Err(Error::api("write the status")(error)),
        Ok(_) => Ok(()),
    }
}

/// A definition that another version of Watchword wrote, or nobody checked.
async fn unreadable(
    invalid: &InvalidObject,
    key: &Key,
    context: &Context,
) -> Result<Action, Error> {
    // The text may quote what stands in the object, which may be an inline value.
    let why = invalid.error.split(['"', '`']).next().unwrap_or_default().trim();
    warn!(name = key.name, namespace = key.namespace, why, "cannot read a task definition");
    let message = format!("This version of Watchword cannot read the definition: {why}");
    let status = TaskDefinitionStatus {
        message: Some(message),
        observed_generation: invalid.metadata.generation,
        reason: Some("REASON_TASK_INVALID".to_owned()),
        state: Some("TASK_ERROR".to_owned()),
        ..TaskDefinitionStatus::default()
    };
    let uid = invalid.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    if context.memory.reported(key, uid).as_ref() != Some(&status) {
        write_status(json!(status), uid, key, context).await?;
        context.memory.remember_reported(key, uid, status);
    }
    context.metrics.count(ReconcileResult::Refused);
    Ok(Action::await_change())
}

/// Definitions that adopt the same pods are to say so too, and to stop saying so.
fn wake_rivals(observed: &Observed, key: &Key, context: &Context) {
    let known = observed.definition.status.as_ref().is_some_and(|status| {
        observed.rivals.iter().all(|rival| {
            status
                .conditions
                .iter()
                .any(|one| one.type_ == "Conflict" && one.message.contains(&format!("`{rival}`")))
        })
    });
    if !known {
        for name in &observed.rivals {
            let reference = kube::runtime::reflector::ObjectRef::new(name).within(&key.namespace);
            // The receiver being gone means that the controller is ending.
            _ = context.again.send(reference);
        }
    }
}

/// When to look again although nothing may happen.
fn next(
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    asked: &Asked,
    soon: Option<Duration>,
    now: Timestamp,
) -> Action {
    if observed.refusal.is_some() {
        return Action::await_change();
    }
    let random = backoff::random();
    let settles = settles_at(observed, now)
        .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    let latest = latest_of(observed, now);
    let times = [
        Some(RESYNC.mul_f64(0.9 + random * 0.2)),
        soon,
        settles,
        waits(&observed.pods, &asked.check, now).then_some(WAITING),
        plan.conflict.is_some().then_some(CONFLICTING),
        matches!(outcome, Outcome::Refused(_)).then_some(REFUSED),
        plan.revision.is_some().then(|| asked.again_in(latest, now, random)),
    ];
    let soonest = times.into_iter().flatten().min().unwrap_or(RESYNC);
    Action::requeue(soonest.max(SOONEST))
}

/// Whether a pod waits for the store, or is about to be told of as one that does. One that has long
/// been served waits for nothing, whatever has become of the store since.
fn waits(pods: &[Pod], check: &Check, now: Timestamp) -> bool {
    let Check::Unknown { since, .. } = *check else { return false };
    pods.iter().any(|pod| is_waiting_for_secrets(pod, since, now + TOLD_WITHIN))
}

/// What becomes of a definition whose reconcile failed.
#[allow(clippy::needless_pass_by_value)] // kube's signature
fn retry(definition: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let Ok(key) = key(Guarded::meta(&definition)) else { return Action::await_change() };
    let wait = context.failures.next(key.clone());
    warn!(
        name = key.name,
        namespace = key.namespace,
        error = %Chain(error),
        seconds = wait.as_secs_f64(),
        "cannot reconcile, trying again"
    );
    Action::requeue(wait)
}

/// Forgets what is gone.
fn note(
    result: Result<
        (kube::runtime::reflector::ObjectRef<Guarded>, Action),
        ControllerError<Error, kube::runtime::watcher::Error>,
    >,
    context: &Context,
) {
    match result {
        Err(ControllerError::ObjectNotFound(reference)) => {
            let key = Key {
                name: reference.name.clone(),
                namespace: reference.namespace.clone().unwrap_or_default(),
            };
            context.memory.forget(&key);
            context.checks.forget(&key);
            context.failures.reset(&key);
            context.poker.forget_definition(&key);
        }
        // The error policy has said it.
        Err(ControllerError::ReconcilerFailed(..)) => {}
        Err(error) => debug!(error = %Chain(&error), "the controller's queue"),
        Ok((reference, action)) => debug!(%reference, ?action, "reconciled"),
    }
}

/// Reads the bundle now and again, without end. Pods are judged by it, so all are looked at when it
/// is another one.
async fn follow_bundle(context: &Context) {
    loop {
        tokio::time::sleep(BUNDLE_INTERVAL).await;
        if context.bundle.read().await {
            context.wake(|_| true);
        }
    }
}

/// Looks at what is adopted whenever the webhook has come back, without end: nothing else tells of
/// pods that could not be made.
async fn follow_webhook(context: &Context) {
    let mut returns = std::pin::pin!(context.poker.returns());
    while returns.next().await.is_some() {
        context.wake(|definition| definition.spec.run.adopt.is_some());
    }
}

async fn say_ready(context: &Context, condition: &Condition) {
    condition.unmet("what is watched is still being listed");
    context.caches.ready().await;
    condition.met();
}

fn key(metadata: &kube::api::ObjectMeta) -> Result<Key, Error> {
    Ok(Key {
        name: metadata.name.clone().ok_or(Error::Incomplete("name"))?,
        namespace: metadata.namespace.clone().ok_or(Error::Incomplete("namespace"))?,
    })
}

/// How often the bundle is read: as often as the webhook does.
const BUNDLE_INTERVAL: Duration = Duration::from_secs(5);

/// The safety net: after this time everything is looked at again.
const RESYNC: Duration = Duration::from_mins(10);

/// How often two definitions that adopt the same pods look whether they still do.
const CONFLICTING: Duration = Duration::from_secs(30);

/// How soon a failed reconcile is tried again at first.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// How soon at last.
const LAST_RETRY: Duration = Duration::from_mins(5);

/// How often a workload that the API server refuses is tried again: a quota or a policy may change.
const REFUSED: Duration = Duration::from_mins(1);

/// Never sooner: what would be due at once is due at the next event anyway.
const SOONEST: Duration = Duration::from_secs(1);

/// How often pods that wait are looked at.
const WAITING: Duration = Duration::from_secs(6);

/// How long after its start a pod that waits is told of at the latest; see `is_waiting_for_secrets`.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(15);

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // JSON literals are handed over where they are made.
mod tests;
