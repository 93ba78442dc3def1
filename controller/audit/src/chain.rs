//! Writing: a chain of lines, by one replica, from its start to its end.
//!
//! A chain makes lines and learns which of them were written; it writes nothing itself. It opens
//! with a line that says so, and ends with one; every hundred lines, and whenever the key is about to
//! go, a checkpoint signs all that stands before it. Without a key, while the store is sealed, lines
//! are chained all the same, and the next checkpoint covers them.

use jiff::Timestamp;

use crate::entry::{Entry, MAX_CAUSE_BYTES, MAX_NAME_BYTES, cut};
use crate::key::SigningKey;
use crate::line::{CHECKPOINT, CLOSE, FORMAT, Fields, KIND, LOST, Line, NO_HASH, OPEN, hex};

/// A chain of lines.
pub struct Chain {
    id: String,
    seq: u64,
    /// The hash of the last line, as text.
    prev: String,
    key: Option<SigningKey>,
    /// How many lines no signature covers yet.
    unsigned: u64,
}

impl Chain {
    /// The chain of a replica's boot, which is random.
    pub fn new(replica: &str, boot: [u8; 8]) -> Self {
        // A pod's name has no character that JSON escapes.
        let id = format!("{}/{}", cut(replica, MAX_NAME_BYTES), hex(&boot));
        Self { id, seq: 0, prev: hex(&NO_HASH), key: None, unsigned: 0 }
    }

    /// Its name: replica and boot.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first line; says how many pieces of `torn` lines a predecessor left before it.
    pub fn open(&self, time: Timestamp, torn: u64) -> serde_json::Result<Line> {
        Line::new(&Fields { torn, ..self.fields(time, OPEN) }, None)
    }

    /// A line about what happened. `object` is the name of the head of the path.
    pub fn entry(
        &self,
        time: Timestamp,
        entry: &Entry<'_>,
        object: Option<&str>,
    ) -> serde_json::Result<Line> {
        let cause = entry.cause;
        let text = cause.map(|cause| cut(cause.message, MAX_CAUSE_BYTES));
        Line::new(
            &Fields {
                decision: Some(entry.decision.as_str()),
                subject: Some(entry.subject),
                path: entry.path.map(|path| cut(path, MAX_NAME_BYTES + 1)),
                object: object.map(|object| cut(object, MAX_NAME_BYTES)),
                version: entry.version,
                code: cause.map(|cause| cut(cause.code, MAX_NAME_BYTES)),
                cause: text.filter(|text| !text.is_empty()),
                record: cause.and_then(|cause| cause.record).map(|name| cut(name, MAX_NAME_BYTES)),
                unwritten: entry.unwritten,
                ..self.fields(time, entry.event.as_str())
            },
            None,
        )
    }

    /// A line about lines that could not be written: how many, how many pieces of them were, and
    /// why.
    pub fn lost(
        &self,
        time: Timestamp,
        lines: u64,
        torn: u64,
        cause: &str,
    ) -> serde_json::Result<Line> {
        let cause = Some(cut(cause, MAX_CAUSE_BYTES));
        Line::new(&Fields { lost: lines, torn, cause, ..self.fields(time, LOST) }, None)
    }

    /// A checkpoint; `None` without a key, and if there is nothing to sign.
    pub fn checkpoint(&self, time: Timestamp) -> serde_json::Result<Option<Line>> {
        match &self.key {
            Some(key) if self.unsigned > 0 => {
                Line::new(&self.fields(time, CHECKPOINT), Some(key)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The last line; signed, if there is a key.
    pub fn close(&self, time: Timestamp) -> serde_json::Result<Line> {
        Line::new(&self.fields(time, CLOSE), self.key.as_ref())
    }

    /// Learns that a line stands in the log. Only then does the chain go on from it: a line that was
    /// not written leaves no trace.
    pub fn written(&mut self, line: &Line) {
        self.prev = hex(&line.hash);
        self.seq += 1;
        self.unsigned = if line.is_signed { 0 } else { self.unsigned + 1 };
    }

    /// Whether it is time for a checkpoint.
    pub fn is_checkpoint_due(&self) -> bool {
        self.key.is_some() && self.unsigned >= CHECKPOINT_LINES
    }

    /// Signs with this key from now on; without one no more.
    pub fn sign_with(&mut self, key: Option<SigningKey>) {
        self.key = key;
    }

    fn fields<'a>(&'a self, time: Timestamp, event: &'a str) -> Fields<'a> {
        Fields {
            kind: KIND,
            v: FORMAT,
            chain: &self.id,
            seq: self.seq,
            prev: &self.prev,
            time,
            event,
            decision: None,
            subject: None,
            path: None,
            object: None,
            version: None,
            code: None,
            cause: None,
            record: None,
            unwritten: 0,
            lost: 0,
            torn: 0,
        }
    }
}

/// After how many lines a checkpoint comes.
pub const CHECKPOINT_LINES: u64 = 100;
