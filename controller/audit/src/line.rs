//! A line as it stands in the file.
//!
//! ```text
//! {"kind":"audit","v":1,"chain":"watchword-store-6c4f-x2x9p/5f0c…","seq":7,"prev":"9b1c…","time":"…","event":"…",…}
//! ```
//!
//! `prev` is the SHA-256 of the line before, without its line feed, in hexadecimal; zeros in the
//! first. A signed line ends with `,"signature":"…"}`, and what is signed is every byte before that
//! comma: chain, number, the hash of all that went before, time and event. A line is one write of at
//! most [`MAX_LINE_BYTES`], so that a pipe takes it whole or not at all.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entry::Subject;
use crate::key::{PublicKey, SigningKey};

/// The SHA-256 of a line.
pub(crate) type Hash = [u8; 32];

/// A line that has been made and not yet been written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    bytes: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) is_signed: bool,
}

impl Line {
    /// What to write, with the line feed at its end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn new(fields: &Fields<'_>, key: Option<&SigningKey>) -> serde_json::Result<Self> {
        let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
        serde_json::to_writer(&mut bytes, fields)?;
        if let Some(key) = key {
            bytes.pop();
            let signature = key.sign(&bytes);
            bytes.extend_from_slice(SIGNATURE);
            bytes.extend_from_slice(signature.as_bytes());
            bytes.extend_from_slice(b"\"}");
        }
        let hash = hash(&bytes);
        bytes.push(b'\n');
        Ok(Self { bytes, hash, is_signed: key.is_some() })
    }
}

/// The fields of a line, in the order in which they are written.
#[derive(Serialize)]
pub(crate) struct Fields<'a> {
    pub(crate) kind: &'static str,
    pub(crate) v: u32,
    pub(crate) chain: &'a str,
    pub(crate) seq: u64,
    pub(crate) prev: &'a str,
    pub(crate) time: Timestamp,
    pub(crate) event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Subject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) unwritten: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) lost: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) torn: u64,
}

/// A line that was read, as far as anything is decided by it; what a newer release may add besides
/// is passed over.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Record<'a> {
    v: u32,
    /// Which replica and boot wrote it.
    #[serde(borrow)]
    pub chain: Cow<'a, str>,
    /// Its number in the chain, from 0.
    pub seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    /// When it was written, by the replica's clock.
    pub time: Timestamp,
    /// What happened.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// How it was decided.
    #[serde(borrow, default)]
    pub decision: Option<Cow<'a, str>>,
    /// The secret's path, if the log says it.
    #[serde(borrow, default)]
    pub path: Option<Cow<'a, str>>,
    /// The name of the secret's head, which is the keyed hash of its path.
    #[serde(borrow, default)]
    pub object: Option<Cow<'a, str>>,
    /// The version.
    #[serde(default)]
    pub version: Option<u64>,
    /// How many pieces of lines stand before it because a write was cut short.
    #[serde(default)]
    pub(crate) torn: u64,
}

impl<'a> Record<'a> {
    /// Reads a line without its line feed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NotALine> {
        if bytes.len() >= MAX_LINE_BYTES {
            return Err(NotALine::TooLong);
        }
        // Blanks behind it would be passed over as JSON; the line ends with its brace.
        if bytes.last() != Some(&b'}') {
            return Err(NotALine::Json);
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|_| NotALine::Json)?;
        match record.v {
            FORMAT if record.chain.len() <= MAX_CHAIN_BYTES => Ok(record),
            FORMAT => Err(NotALine::TooLong),
            v => Err(NotALine::Format { v }),
        }
    }

    /// Whether its `prev` is this hash.
    pub(crate) fn follows(&self, hash: &Hash) -> bool {
        *self.prev == hex(hash)
    }

    /// Whether it is one of those that are signed.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(&*self.event, CHECKPOINT | CLOSE)
    }
}

/// The signature of a line, or `None` if it has none.
pub(crate) fn is_signed_by(key: &PublicKey, bytes: &[u8]) -> Option<bool> {
    let before_end = bytes.strip_suffix(b"\"}")?;
    let start = bytes.windows(SIGNATURE.len()).rposition(|window| window == SIGNATURE)?;
    let signature = before_end.get(start + SIGNATURE.len()..)?;
    Some(key.verifies(&bytes[..start], signature))
}

/// Why what looks like a line is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotALine {
    /// It is of a format that this release does not know.
    #[error("is of format {v}, which this release does not know")]
    Format {
        /// The format.
        v: u32,
    },
    /// It is not JSON, or lacks a field.
    #[error("is cut or broken")]
    Json,
    /// It is longer than any line.
    #[error("is longer than any line")]
    TooLong,
}

pub(crate) fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The longest line in bytes, with its line feed: what a pipe takes in one piece.
pub const MAX_LINE_BYTES: usize = 4096;

/// How every line begins; by this it is told from what other programs print.
pub(crate) const BEGINNING: &[u8] = br#"{"kind":"audit","#;

pub(crate) const KIND: &str = "audit";
pub(crate) const FORMAT: u32 = 1;
pub(crate) const NO_HASH: Hash = [0; 32];

/// A pod's name, a slash, and the boot.
const MAX_CHAIN_BYTES: usize = 253 + 1 + 16;

const SIGNATURE: &[u8] = br#","signature":""#;
const TYPICAL_BYTES: usize = 768;

pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const CLOSE: &str = "close";
pub(crate) const LOST: &str = "lost";
pub(crate) const OPEN: &str = "open";
