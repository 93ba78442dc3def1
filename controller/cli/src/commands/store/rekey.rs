//! `watchword store rekey`: another root key, with other shares, threshold or holders.
//!
//! It is begun once and agreed to by as many holders as open the store, each with a share of today's
//! key. They agree to one change: the one whose nonce they were told.

use anyhow::bail;

use super::{
    custody::{Holders, hand_out, prepare_folder},
    reached,
};
use crate::{
    api::{Entrusted, RekeyStatus, Store},
    args::{ReachArgs, RekeyArgs, misuse},
    output::{Output, WriteError},
    prompt,
    share::ShareSource,
};

pub(super) async fn run(
    mut args: RekeyArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let source = args.share.take_source();
    let RekeyArgs { custody, nonce, status, cancel, out, store, json, .. } = args;
    if !(custody.is_given() || nonce.is_some() || status || cancel) {
        return Err(misuse(
            "begin with --pgp-key FILE for each holder or with --private-key-out FILE; go on with \
             --nonce; or use --status or --cancel",
        )
        .into());
    }
    if json.is_wanted() && custody.prints_private_key() {
        return Err(misuse("JSON and a private key do not both go to stdout").into());
    }
    let mut store = reached(reach, store).await?;
    if cancel {
        store.cancel_rekey().await?;
        output.note("cancelled; the shares stay as they were");
        return Ok(());
    }
    prepare_folder(out.shares_out.as_deref())?;
    let mut state = match (nonce, status) {
        (_, true) => store.rekey_status().await?,
        (Some(nonce), _) => {
            let state = under_way(&nonce, &mut store).await?;
            give(source.unwrap_or(ShareSource::Asked), state, &mut store, output).await?
        }
        (None, _) => {
            let holders = Holders::prepare(&custody, output)?;
            let answer = store.begin_rekey(&holders.custody).await;
            let state = holders.settle(answer)?;
            output.note(&format!("began to rekey store `{}`", store.id));
            match source {
                Some(source) => give(source, state, &mut store, output).await?,
                None => state,
            }
        }
    };
    // Somebody who is there is asked for more: holders often sit together.
    while !status && state.started && !state.complete && prompt::can_ask() {
        match prompt::ask("next share (nothing to stop here)") {
            Ok(text) if !text.trim().is_empty() => {
                let source = ShareSource::Argument(text.to_string());
                state = give(source, state, &mut store, output).await?;
            }
            _ => break,
        }
    }
    if json.is_wanted() {
        return Ok(output.json(&state)?);
    }
    match state.entrusted() {
        Some(entrusted) => {
            output.note(&format!("rekeyed store `{}`: older shares open nothing now", store.id));
            hand_out(&entrusted, &store.id, out.shares_out.as_deref(), output)
        }
        None => Ok(print(&state, output)?),
    }
}

/// The change that is under way, if it is the one of this nonce.
async fn under_way(nonce: &str, store: &mut Store) -> anyhow::Result<RekeyStatus> {
    let state = store.rekey_status().await?;
    if !state.started {
        bail!("nobody is rekeying store `{}`", store.id);
    }
    if state.nonce != nonce {
        bail!("the change that is under way is another one; its nonce is {}", state.nonce);
    }
    Ok(state)
}

async fn give(
    source: ShareSource,
    mut state: RekeyStatus,
    store: &mut Store,
    output: &mut Output,
) -> anyhow::Result<RekeyStatus> {
    let entrusted = match source.needs_entrusted() {
        true => store.shares().await?,
        false => Entrusted::default(),
    };
    let nonce = state.nonce.clone();
    for share in source.read(&entrusted)? {
        let before = state.progress;
        state = store.give_to_rekey(&share.to_hex(), &nonce).await?;
        if state.complete {
            break;
        }
        if state.progress == 0 {
            bail!("the shares that were given are not those of this store: give them again");
        }
        let again = if state.progress == before { "this share was given before: " } else { "" };
        output.note(&format!("{again}{} of {} shares are given", state.progress, state.required));
    }
    Ok(state)
}

fn print(state: &RekeyStatus, output: &mut Output) -> Result<(), WriteError> {
    if !state.started {
        return output.line("rekey:     none is under way");
    }
    let RekeyStatus { nonce, shares, threshold, progress, required, .. } = state;
    output.line("rekey:     under way")?;
    output.line(&format!("nonce:     {nonce}"))?;
    output.line(&format!("threshold: {threshold} of {shares}"))?;
    output.line(&format!("progress:  {progress} of {required}"))?;
    output.note(&format!("each holder gives a share with `watchword store rekey --nonce {nonce}`"));
    Ok(())
}
