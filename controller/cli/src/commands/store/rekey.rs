//! `watchword store rekey`: another root key, with other shares, threshold or holders.
//!
//! It is begun once and agreed to by as many holders as open the store, each with a share of today's
//! key. They agree to one change: the one whose nonce they were told. Who has begun it has chosen the
//! keys of the new shares, so everybody is shown these before a share leaves this machine.

use anyhow::bail;

use super::{
    custody::{Holders, hand_out, prepare_folder},
    reached,
};
use crate::{
    api::{Entrusted, RekeyStatus, Store},
    args::{ReachArgs, RekeyArgs, misuse},
    output::{Output, WriteError, printable},
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
    let mut store = reached(reach, store, output).await?;
    if cancel {
        let nonce = match nonce {
            Some(nonce) => nonce,
            None => store.rekey_status().await?.nonce,
        };
        store.cancel_rekey(&nonce).await?;
        output.note("cancelled; the shares stay as they were");
        return Ok(());
    }
    prepare_folder(out.shares_out.as_deref())?;
    let mut state = match (nonce, status) {
        (_, true) => store.rekey_status().await?,
        (Some(nonce), _) => {
            let state = under_way(&nonce, &mut store).await?;
            let source = source.unwrap_or(ShareSource::Asked);
            agree(&state, &source, output)?;
            give(source, state, &mut store, output).await?
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
        bail!(
            "the change that is under way is another one: `watchword store rekey --status` shows \
             for whom"
        );
    }
    Ok(state)
}

/// Shows what a share is given for, and lets a person who is there decide. Who types the share itself
/// decides by that.
fn agree(state: &RekeyStatus, source: &ShareSource, output: &mut Output) -> anyhow::Result<()> {
    let RekeyStatus { shares, threshold, pgp_fingerprints, .. } = state;
    let holders = pgp_fingerprints.iter().map(|one| format!("\n  {}", printable(one)));
    let holders = holders.collect::<String>();
    output.note(&format!(
        "any {threshold} of {shares} shares will open the store, each encrypted to one of the \
         OpenPGP keys{holders}"
    ));
    let is_typed = matches!(source, ShareSource::Asked);
    if prompt::can_ask()
        && !is_typed
        && !prompt::confirm("are these the keys that were agreed on?")?
    {
        bail!("no share was given");
    }
    Ok(())
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
    let RekeyStatus { nonce, shares, threshold, progress, required, pgp_fingerprints, .. } = state;
    output.line("rekey:     under way")?;
    output.line(&format!("nonce:     {nonce}"))?;
    output.line(&format!("threshold: {threshold} of {shares}"))?;
    for fingerprint in pgp_fingerprints {
        output.line(&format!("for key:   {}", printable(fingerprint)))?;
    }
    output.line(&format!("progress:  {progress} of {required}"))?;
    output.note(&format!("each holder gives a share with `watchword store rekey --nonce {nonce}`"));
    Ok(())
}
