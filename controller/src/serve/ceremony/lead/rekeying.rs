//! Rekeying: another root key, with other shares for other keys, over the same secrets.
//!
//! It takes the threshold of the present shares, so that nobody alone can change who holds the
//! store. The private half of a pair that is made for it is shown when it *begins*: if a leader is
//! lost in the very step that puts the new key in force, whoever asked can still open the store.

use watchword_protocol::ErrorCode;
use watchword_store::{Given, RekeyError, Share};

use super::init::unsplit;
use super::pair::Pair;
use super::unsealing::custody;
use super::{combined, invalid_key, others_follow, unreadable};
use crate::serve::Service;
use crate::serve::auto_unseal;
use crate::serve::ceremony::operation::{CheckedSplit, Reply};
use crate::serve::ceremony::rekey::{Rekey, RekeyStatus};
use crate::serve::failure::Failure;

/// `GET /secrets/v1/rekey/default`
pub(super) fn status(service: &Service) -> Result<Reply, Failure> {
    let status = service.seal.leading.with(|term| term.rekey.as_ref().map(Rekey::status))?;
    Ok(Reply::ok(&status.unwrap_or_default()))
}

/// `PUT /secrets/v1/rekey/default`
pub(super) async fn start(service: &Service, mut split: CheckedSplit) -> Result<Reply, Failure> {
    service.demand_key().await?;
    if service.seal.leading.with(|term| term.rekey.is_some())? {
        return Err(Failure::new(
            ErrorCode::Conflict,
            "rekey already in progress: cancel it first, or give the shares that it needs",
        ));
    }
    let mut pgp_private_key = None;
    if split.keys.is_empty() {
        let (public_key, shown) = Pair::get(service).await?.halves()?;
        split.keys.push(public_key);
        pgp_private_key = shown;
    }
    let required = custody(service).await?.map_or(1, |custody| custody.threshold);
    let nonce = nonce()?;
    let status = service
        .seal
        .leading
        .with(|term| term.rekey.insert(Rekey::begin(split, required, nonce)).status())?;
    Ok(Reply::ok(&RekeyStatus { pgp_private_key, ..status }))
}

/// `DELETE /secrets/v1/rekey/default`
pub(super) fn cancel(service: &Service, nonce: &str) -> Result<Reply, Failure> {
    service.seal.leading.with(|term| {
        if let Some(rekey) = &term.rekey {
            rekey.is_meant(nonce)?;
        }
        term.rekey = None;
        Ok(())
    })??;
    status(service)
}

/// `PUT /secrets/v1/rekey/default/share`
pub(super) async fn give(service: &Service, text: &str, nonce: &str) -> Result<Reply, Failure> {
    service.demand_key().await?;
    let share = Share::parse(text).map_err(|error| unreadable(&error))?;
    let given = service.seal.leading.with(|term| match &mut term.rekey {
        None => Err(Failure::new(ErrorCode::BadRequest, "no rekey in progress")),
        Some(rekey) => rekey.give(share, nonce),
    })??;
    let given = match given {
        Given::Progress(_) => return status(service),
        Given::Complete(given) => combined(given)?,
    };
    // Under the gate: this replica's key changes.
    let gate = service.seal.gate().await;
    let present = service.store.root_key();
    if !present.is_some_and(|present| present.is_same(&given)) {
        return Err(invalid_key());
    }
    let split = service.seal.leading.with(|term| {
        let rekey = term.rekey.as_ref()?;
        let (config, keys) = rekey.split();
        Some((auto_unseal::split_for(config, keys), rekey.status()))
    })?;
    let Some((split, status)) = split else {
        return Err(Failure::new(ErrorCode::BadRequest, "no rekey in progress"));
    };
    let (root_key, custody) = split.map_err(unsplit)?;
    service.store.rekey(&root_key, &custody).await.map_err(|error| match error {
        RekeyError::Sealed => Failure::new(ErrorCode::Sealed, "the store is sealed"),
        error => Failure::unavailable(
            "cannot rekey the store; look at `init`, whose keys are those of the shares in force",
            &error,
        ),
    })?;
    drop(gate);
    // The new key is in force: whoever leads by now knows of no rekeying.
    service.seal.leading.with(|term| term.rekey = None).ok();
    others_follow(service).await.ok();
    Ok(Reply::ok(&RekeyStatus {
        started: false,
        complete: true,
        progress: 0,
        keys: custody.keys,
        pgp_fingerprints: custody.pgp_fingerprints,
        ..status
    }))
}

fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|error| Failure::unavailable("the system has no randomness to give", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
