//! `watchword store rotate`: a new term of encryption keys, and older records rewrapped.

use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::reached;
use crate::{
    api::{Rewrap, RotateStatus, Store},
    args::{ReachArgs, RotateArgs},
    output::{Output, WriteError},
};

pub(super) async fn run(
    args: RotateArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let RotateArgs { retire, wait, status, store, json } = args;
    let mut store = reached(reach, store).await?;
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
        state = finished(state, &mut store).await?;
    }
    match json.is_wanted() {
        true => output.json(&state)?,
        false => print(&state, output)?,
    }
    if state.rewrap.running && !status {
        output.note("`watchword store rotate --status` says how far it is");
    }
    match state.error {
        Some(error) if wait => bail!("older records are not all rewrapped: {error}"),
        _ => Ok(()),
    }
}

/// Waits until nothing is being rewrapped, and shows on a terminal how far it is.
async fn finished(mut state: RotateStatus, store: &mut Store) -> anyhow::Result<RotateStatus> {
    // indicatif draws on stderr, and only where that is a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("rewrapping {bar:40} {pos} of {len}, {eta} left")
    {
        bar.set_style(style);
    }
    while state.rewrap.running {
        bar.set_length(state.rewrap.total);
        bar.set_position(state.rewrap.done);
        // The store does not call back; a person sees half a second.
        sleep(Duration::from_millis(500)).await;
        state = store.rotate_status().await?;
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
