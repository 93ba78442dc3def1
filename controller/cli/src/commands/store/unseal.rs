//! `watchword store unseal`: a share, or as many as this person's key opens.

use anyhow::bail;

use super::{print_status, reached};
use crate::{
    api::{Entrusted, SealStatus, Store},
    args::{ReachArgs, UnsealArgs},
    output::Output,
    share::ShareSource,
};

pub(super) async fn run(
    mut args: UnsealArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let source = args.take_source();
    let UnsealArgs { reset, auto, store, json, .. } = args;
    if matches!(source, ShareSource::Argument(_)) {
        output.warning(
            "a share on the command line stands in the shell's history and in the process list; \
             pipe it in, or let it be asked for",
        );
    }
    let mut store = reached(reach, store, output).await?;
    let status = if reset {
        store.forget_shares().await?
    } else if auto {
        store.auto_unseal().await?;
        store.seal_status().await?
    } else {
        give(source, &mut store, output).await?
    };
    match json.is_wanted() {
        true => Ok(output.json(&status)?),
        false => Ok(print_status(&store.id, &status, output)?),
    }
}

async fn give(
    source: ShareSource,
    store: &mut Store,
    output: &mut Output,
) -> anyhow::Result<SealStatus> {
    let mut status = store.seal_status().await?;
    if !status.sealed {
        output.note(&format!("store `{}` is open already", store.id));
        return Ok(status);
    }
    let entrusted = match source.needs_entrusted() {
        true => store.shares().await?,
        false => Entrusted::default(),
    };
    for share in source.read(&entrusted)? {
        let before = status.progress;
        status = store.unseal(&share.to_hex()).await?;
        let SealStatus { sealed, threshold, progress, .. } = status;
        match (sealed, progress) {
            (false, _) => {
                output.note(&format!("unsealed store `{}`", store.id));
                break;
            }
            // The number goes back to nothing when there were enough.
            (true, 0) => bail!("the shares that were given do not open the store: begin again"),
            (true, _) if progress == before => output.note(&format!(
                "this share was given before: {progress} of {threshold} shares are given"
            )),
            (true, _) => output.note(&format!("{progress} of {threshold} shares are given")),
        }
    }
    Ok(status)
}
