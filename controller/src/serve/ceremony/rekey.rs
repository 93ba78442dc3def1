//! A rekeying that is under way: what was asked for, and the shares of the present key given so far.
//!
//! It lives in the memory of the replica that leads, and ends with it: who continues begins anew.

use serde::Serialize;
use watchword_protocol::ErrorCode;
use watchword_store::openpgp::PublicKey;
use watchword_store::{Collector, Given, SealConfig, Share};

use super::operation::CheckedSplit;
use crate::serve::failure::Failure;

/// A rekeying that is under way. It has no `Debug`: it holds shares.
pub(super) struct Rekey {
    collector: Collector,
    nonce: String,
    required: u8,
    split: CheckedSplit,
}

impl Rekey {
    /// Begins: `required` shares of the present key are needed; `nonce` tells this one from others.
    pub(super) fn begin(split: CheckedSplit, required: u8, nonce: String) -> Self {
        Self { collector: Collector::new(required), nonce, required, split }
    }

    /// Takes a share of the present key.
    ///
    /// # Errors
    ///
    /// `BadRequest` when another rekeying is meant.
    pub(super) fn give(&mut self, share: Share, nonce: &str) -> Result<Given, Failure> {
        self.is_meant(nonce)?;
        Ok(self.collector.give(share))
    }

    /// Refuses whoever means another rekeying. Which one this is, the refusal does not say: whoever
    /// asks has to look at what they would agree to.
    ///
    /// # Errors
    ///
    /// `BadRequest`.
    pub(super) fn is_meant(&self, nonce: &str) -> Result<(), Failure> {
        if nonce == self.nonce {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::BadRequest,
            "incorrect nonce supplied: another rekey operation is under way; look at its status, \
             and at whom its shares are for, before you agree to it",
        ))
    }

    /// Shares, threshold, and whom the shares are for.
    pub(super) fn split(&self) -> (SealConfig, &[PublicKey]) {
        (self.split.config, &self.split.keys)
    }

    /// How far it is.
    pub(super) fn status(&self) -> RekeyStatus {
        RekeyStatus {
            started: true,
            nonce: self.nonce.clone(),
            shares: self.split.config.shares(),
            threshold: self.split.config.threshold(),
            progress: self.collector.progress(),
            required: self.required,
            pgp_fingerprints: self.split.keys.iter().map(PublicKey::fingerprint).collect(),
            ..RekeyStatus::default()
        }
    }
}

/// How far a rekeying is.
#[derive(Default, Serialize)]
pub(super) struct RekeyStatus {
    /// Whether one is under way.
    pub started: bool,
    /// Which.
    pub nonce: String,
    /// How many shares there will be.
    pub shares: u8,
    /// How many of them will open the store.
    pub threshold: u8,
    /// How many shares of the present key have been given.
    pub progress: u8,
    /// How many are needed.
    pub required: u8,
    /// Whether the new shares are in force.
    pub complete: bool,
    /// The new shares, encrypted: hex of OpenPGP messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// For which keys the new shares are, or will be: what whoever gives a share agrees to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pgp_fingerprints: Vec<String>,
    /// The private half of a pair that was made for it, armoured; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgp_private_key: Option<zeroize::Zeroizing<String>>,
}

#[cfg(test)]
mod tests {
    use watchword_store::RootKey;

    use super::*;
    use crate::serve::ceremony::operation::Split;

    const NONCE: &str = "5eed";

    fn begun(required: u8) -> Rekey {
        Rekey::begin(Split::default().check(0).ok().unwrap(), required, NONCE.to_owned())
    }

    fn shares(key: &RootKey) -> Vec<Share> {
        key.split(SealConfig::new(3, 2, 0).unwrap()).unwrap()
    }

    #[test]
    fn a_share_of_another_rekeying_is_refused_and_changes_nothing() {
        let mut rekey = begun(2);
        let mut shares = shares(&RootKey::generate().unwrap());

        let refused = rekey.give(shares.remove(0), "before");

        let refusal = refused.err().unwrap().message;
        assert!(refusal.contains("incorrect nonce supplied"), "{refusal}");
        assert!(!refusal.contains(&rekey.nonce), "{refusal}");
        assert_eq!(rekey.status().progress, 0);
    }

    #[test]
    fn the_threshold_of_present_shares_gives_the_present_key() {
        let key = RootKey::generate().unwrap();
        let mut rekey = begun(2);
        let mut shares = shares(&key).into_iter();

        let first = rekey.give(shares.next().unwrap(), NONCE).ok().unwrap();
        let progress = rekey.status().progress;
        let second = rekey.give(shares.next().unwrap(), NONCE).ok().unwrap();

        assert!(matches!(first, Given::Progress(1)));
        assert_eq!(progress, 1);
        let Given::Complete(Ok(found)) = second else { panic!("two of two are complete") };
        assert!(found.is_same(&key));
        assert_eq!(rekey.status().progress, 0);
    }
}
