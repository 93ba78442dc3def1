//! The audit log: chained lines, signed checkpoints, and their verification.

mod entry;

pub use entry::{Cause, Decision, Entry, Event, Subject};

/// The longest line in bytes, with its line feed: what a pipe takes in one piece.
pub const MAX_LINE_BYTES: usize = 4096;
