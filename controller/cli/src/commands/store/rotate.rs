//! `watchword store rotate`: a new term of encryption keys, and older records rewrapped.

use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::reached_at;
use crate::{
    api::{Rewrap, RotateStatus, Store},
    args::{ReachArgs, RotateArgs},
    connect::{Pods, Target, connect},
    output::{Output, WriteError},
};

pub(super) async fn run(
    args: RotateArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let RotateArgs { retire, wait, status, store, json } = args;
    let target = reach.target()?;
    let mut store = reached_at(&target, store, output).await?;
    let mut state = match status {
        true => store.rotate_status().await?,
        false => {
            let state = store.rotate(retire).await?;
            output
                .note(&format!("store `{}` seals new values under term {}", store.id, state.term));
            state
        }
    };
    if wait {
        state = finished(state, &mut store, &target, output).await?;
    }
    match json.is_wanted() {
        true => output.json(&state)?,
        false => print(&state, output)?,
    }
    if state.rewrap.running && !status {
        output.note("`watchword store rotate --status` says how far it is");
    }
    match state.error {
        Some(error) if wait => bail!("the rotation is not done: {error}"),
        _ => Ok(()),
    }
}

/// Waits until nothing is being rewrapped, and shows on a terminal how far it is. That may take hours,
/// which no connection lasts: replicas end those that are ten minutes old, and are replaced.
async fn finished(
    mut state: RotateStatus,
    store: &mut Store,
    target: &Target,
    output: &mut Output,
) -> anyhow::Result<RotateStatus> {
    // indicatif draws on stderr, and only where that is a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("rewrapping {bar:40} {pos} of {len}, {eta} left")
    {
        bar.set_style(style);
    }
    let (mut failures, mut told) = (0, None);
    while state.rewrap.running {
        // The store tries again, at longer and longer intervals; a person may have to mend something.
        if let Some(error) = state.error.take_if(|error| told.as_ref() != Some(error)) {
            bar.suspend(|| output.note(&format!("not done yet: {error}")));
            told = Some(error);
        }
        bar.set_length(state.rewrap.total);
        bar.set_position(state.rewrap.done);
        // The store does not call back; a person sees half a second.
        sleep(Duration::from_millis(500)).await;
        match store.rotate_status().await {
            Ok(now) => {
                failures = 0;
                state = now;
            }
            Err(error) if error.may_pass() && failures < MAX_FAILURES => {
                failures += 1;
                sleep(PAUSE).await;
                // Without another connection the next question fails as this one did.
                if let Ok(connection) = connect(target, Pods::Running).await {
                    store.connection = connection;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    bar.finish_and_clear();
    Ok(state)
}

fn print(state: &RotateStatus, output: &mut Output) -> Result<(), WriteError> {
    let RotateStatus { term, terms, rewrap, error } = state;
    let Rewrap { running, done, total } = rewrap;
    let kept: Vec<String> = terms.iter().map(|term| term.term.to_string()).collect();
    output.line(&format!("term:      {term}"))?;
    output.line(&format!("terms:     {}", kept.join(", ")))?;
    match (running, error) {
        (true, _) => output.line(&format!("rewrapped: {done} of {total}, going on")),
        (false, Some(error)) => {
            output.line(&format!("rewrapped: {done} of {total}, stopped: {error}"))
        }
        (false, None) => output.line(&format!("rewrapped: {done} of {total}")),
    }
}

/// How often in a row the store may fail to answer whoever waits: longer than a rollout of it takes.
const MAX_FAILURES: u32 = 60;

/// Before it is asked again over another connection.
const PAUSE: Duration = Duration::from_secs(2);
