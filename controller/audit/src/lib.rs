//! The audit log: chained lines, signed checkpoints, and their verification.
//!
//! [`Chain`] makes lines, [`Verifier`] reads them, [`Ledger`] compares what they say with what the
//! store holds. No clock, no files, no network: times and bytes come in as arguments.

mod chain;
mod entry;
mod key;
#[cfg(test)]
mod known_answers;
mod ledger;
mod line;
mod verify;

pub use chain::{CHECKPOINT_LINES, Chain};
pub use entry::{Cause, Decision, Entry, Event, Subject};
pub use key::{ParsePublicKeyError, PublicKey, SigningKey, SigningKeyError};
pub use ledger::{Finding, FindingKind, Held, Ledger};
pub use line::{Line, MAX_LINE_BYTES, NotALine, Record};
pub use verify::{ChainReport, Place, Problem, ProblemKind, Report, Verifier};
