//! `watchword store init` and `store shares`: the root key's beginning, and its encrypted shares.

use super::{
    custody::{Holders, hand_out, prepare_folder},
    reached,
};
use crate::{
    args::{InitArgs, ReachArgs, SharesOutArgs, StoreIdArgs, misuse},
    output::Output,
};

pub(super) async fn run(
    args: InitArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let InitArgs { custody, out, store, json } = args;
    if !custody.is_given() {
        return Err(misuse(
            "say who is to hold the shares: --pgp-key FILE for each holder, or --private-key-out \
             FILE for one key that is made here",
        )
        .into());
    }
    if json.is_wanted() && custody.prints_private_key() {
        return Err(misuse("JSON and a private key do not both go to stdout").into());
    }
    let mut store = reached(reach, store, output).await?;
    prepare_folder(out.shares_out.as_deref())?;
    let holders = Holders::prepare(&custody, output)?;
    let answer = store.init(&holders.custody).await;
    let threshold = holders.custody.threshold;
    let entrusted = holders.settle(answer)?;
    output.note(&format!("initialised store `{}`; it is sealed", store.id));
    output.note(&format!(
        "{threshold} of {} shares open it: each holder runs `watchword store unseal`",
        entrusted.keys.len()
    ));
    match json.is_wanted() {
        true => Ok(output.json(&entrusted)?),
        false => hand_out(&entrusted, &store.id, out.shares_out.as_deref(), output),
    }
}

pub(super) async fn shares(
    out: SharesOutArgs,
    store: StoreIdArgs,
    json: bool,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let mut store = reached(reach, store, output).await?;
    let entrusted = store.shares().await?;
    prepare_folder(out.shares_out.as_deref())?;
    match json {
        true => Ok(output.json(&entrusted)?),
        false => hand_out(&entrusted, &store.id, out.shares_out.as_deref(), output),
    }
}
