//! Sealing: how the root key is shared out, who holds the shares, and how they come together again.
//!
//! - [`SealConfig`]: how many shares there are and how many of them open the store; checked with
//!   the texts of Vault, in its order.
//! - [`Custody`]: what everybody may know of the shares. It stands in the clear, authenticated head
//!   of the keyring ([`crate::keyring`]), so that it is read while the store is sealed, and changes
//!   in one step with the root key.
//! - [`Collector`]: shares that have been given so far.
//! - [`SealState`]: what the replicas of a store agree on. It is an object of its own, in the clear
//!   and without secrets. Who can write to the back end can change it, and so seal the store or
//!   claim a progress; unsealing still takes the shares, or the key that somebody chose to keep for
//!   it.

use serde::{Deserialize, Serialize};

use crate::name::{ObjectKind, ObjectName};
use crate::record::{Header, ParseRecordError, Reader};
use crate::root_key::RootKey;
use crate::shamir::CombineError;
use crate::share::Share;

/// Into how many shares a root key is split, and how many of them give it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SealConfig {
    shares: u8,
    threshold: u8,
}

impl SealConfig {
    /// `shares` of which `threshold` open the store, for this many OpenPGP keys; none is allowed.
    ///
    /// # Errors
    ///
    /// [`SealConfigError`], the first in the order of Vault's checks.
    pub fn new(shares: i64, threshold: i64, pgp_keys: usize) -> Result<Self, SealConfigError> {
        if shares < 1 {
            return Err(SealConfigError::Shares);
        }
        if threshold < 1 {
            return Err(SealConfigError::Threshold);
        }
        if shares > 1 && threshold == 1 {
            return Err(SealConfigError::ThresholdOfOne);
        }
        let few_shares = u8::try_from(shares).map_err(|_| SealConfigError::TooManyShares)?;
        let few = u8::try_from(threshold).map_err(|_| SealConfigError::ThresholdTooHigh)?;
        if threshold > shares {
            return Err(SealConfigError::ThresholdAboveShares);
        }
        if pgp_keys > 0 && pgp_keys != usize::from(few_shares) {
            return Err(SealConfigError::PgpKeys);
        }
        Ok(Self { shares: few_shares, threshold: few })
    }

    /// How many shares there are: 1 to 255.
    pub fn shares(self) -> u8 {
        self.shares
    }

    /// How many of them open the store.
    pub fn threshold(self) -> u8 {
        self.threshold
    }
}

/// One share of one.
impl Default for SealConfig {
    fn default() -> Self {
        Self { shares: 1, threshold: 1 }
    }
}

/// What is wrong with a number of shares, a threshold or the keys. The texts are Vault's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealConfigError {
    /// Not one key for each share.
    #[error("count mismatch between number of provided PGP keys and number of shares")]
    PgpKeys,
    /// No share.
    #[error("shares must be at least one")]
    Shares,
    /// No share would open the store.
    #[error("threshold must be at least one")]
    Threshold,
    /// The shares would never be enough.
    #[error("threshold cannot be larger than shares")]
    ThresholdAboveShares,
    /// Each of several shares would be the key.
    #[error("threshold must be greater than one for multiple shares")]
    ThresholdOfOne,
    /// More than there are places in GF(2⁸).
    #[error("threshold must be less than 256")]
    ThresholdTooHigh,
    /// More than there are places in GF(2⁸).
    #[error("shares must be less than 256")]
    TooManyShares,
}

/// What everybody may know of the shares of the present root key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Custody {
    /// How many shares there are.
    pub shares: u8,
    /// How many of them open the store.
    pub threshold: u8,
    /// The shares, each encrypted to an OpenPGP key: hex of a binary message. None if they were
    /// handed out in the clear.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The fingerprints of those keys, in the same order: lower-case hex.
    #[serde(default)]
    pub pgp_fingerprints: Vec<String>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

impl Custody {
    /// Shares that no OpenPGP key encrypts: whoever splits the key hands them out.
    pub fn in_the_clear(config: SealConfig) -> Self {
        Self {
            shares: config.shares,
            threshold: config.threshold,
            keys: Vec::new(),
            pgp_fingerprints: Vec::new(),
            unknown: serde_json::Map::new(),
        }
    }
}

/// One share of one, in the clear.
impl Default for Custody {
    fn default() -> Self {
        Self::in_the_clear(SealConfig::default())
    }
}

/// Collects shares until there are enough to try.
pub struct Collector {
    threshold: u8,
    shares: Vec<Share>,
}

impl Collector {
    /// For a key of which `threshold` shares are needed.
    pub fn new(threshold: u8) -> Self {
        Self { threshold, shares: Vec::new() }
    }

    /// Takes a share; the same one twice counts once. The share that makes up the threshold empties
    /// the collection, whether the key that comes out is right or not, as in Vault: only the
    /// keyring can tell, and of wrong shares nobody can say which it was.
    pub fn give(&mut self, share: Share) -> Given {
        if !self.shares.iter().any(|given| given.is_same(&share)) {
            self.shares.push(share);
        }
        if self.progress() < self.threshold.max(1) {
            return Given::Progress(self.progress());
        }
        Given::Complete(RootKey::combine(&std::mem::take(&mut self.shares)))
    }

    /// How many different shares there are so far.
    pub fn progress(&self) -> u8 {
        // Never more than the threshold.
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Forgets the shares given so far.
    pub fn reset(&mut self) {
        self.shares.clear();
    }
}

/// What a share led to.
pub enum Given {
    /// There were enough: the key that they make, to be tried.
    Complete(Result<RootKey, CombineError>),
    /// So many different ones so far.
    Progress(u8),
}

/// What the replicas of a store agree on about being sealed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SealState {
    /// Whether the store should be open.
    pub intent: Intent,
    /// How many shares have been given towards unsealing; the shares themselves are in the memory
    /// of the replica that collects them.
    #[serde(default)]
    pub progress: u8,
    /// Which collection `progress` is of; another replica that takes over starts a new one.
    #[serde(default)]
    pub nonce: String,
    /// Who changed the intent, as the caller names people; may be empty.
    #[serde(default)]
    pub author: String,
    /// When, in seconds since 1970 UTC.
    #[serde(default)]
    pub changed: i64,
    /// What is to be done about the terms in the background; whoever runs the ceremonies goes on
    /// with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// What this release does not know, and keeps.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A rotation whose records are yet to be rewrapped.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rotation {
    /// Whether the older terms are to be destroyed then.
    pub retire: bool,
}

/// Whether a store should be open. Only explicit operations change it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Somebody sealed it: no replica unseals itself or takes the key from another.
    Sealed,
    /// Whoever has the key, or can get it, opens it.
    #[default]
    Unsealed,
}

impl SealState {
    /// The stored form: a record's header (kind 4, name `seal`, version 0, for the states are not
    /// numbered), then JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = Header { name: ObjectName::seal(), version: 0 }.to_bytes();
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// [`ParseSealStateError`] for anything else, or more than 64 KiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseSealStateError> {
        if bytes.len() > MAX_STATE_BYTES {
            return Err(ParseSealStateError::TooLong { bytes: bytes.len() });
        }
        let mut reader = Reader(bytes);
        let header = Header::read(&mut reader)?;
        if header.name.kind() != ObjectKind::Seal {
            return Err(ParseRecordError::Name.into());
        }
        Ok(serde_json::from_slice(reader.0)?)
    }
}

/// Why bytes are not a seal state.
#[derive(Debug, thiserror::Error)]
pub enum ParseSealStateError {
    /// The header is not that of a seal state of a known format.
    #[error(transparent)]
    Header(#[from] ParseRecordError),
    /// What follows is not the JSON that stands there.
    #[error("the seal state is not understood")]
    Json(#[from] serde_json::Error),
    /// More than a seal state ever has.
    #[error("the seal state has {bytes} bytes, which is more than any has")]
    TooLong {
        /// How many.
        bytes: usize,
    },
}

/// A state has some 200 bytes.
const MAX_STATE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
