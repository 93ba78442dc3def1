//! The audit log: one JSON line on standard output for every release, denial, write and ceremony.
//!
//! The fields are typed and few; no request is ever dumped. What stands in a line is who, what,
//! which version, how it was decided and why, never a value. The program's own logs go to standard
//! error, so that the two can be told apart and kept apart.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
pub(super) use watchword_audit::{Cause, Decision, Entry, Event, Subject};
use watchword_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::failure::Failure;

/// Where audit lines go.
pub(super) struct Audit<W = io::Stdout> {
    out: Mutex<W>,
    seed: Mutex<Option<Zeroizing<[u8; 32]>>>,
}

/// How a request that failed was decided.
pub(super) fn decision(failure: &Failure) -> Decision {
    match failure.code {
        ErrorCode::Denied | ErrorCode::Unauthenticated => Decision::Denied,
        _ => Decision::Failed,
    }
}

/// Why a request failed, as a line says it.
pub(super) fn cause(failure: &Failure) -> Cause<'_> {
    Cause {
        code: failure.code.as_str(),
        message: &failure.message,
        record: failure.record.as_deref(),
    }
}

impl Audit {
    /// Writes to standard output.
    pub(super) fn to_stdout() -> Self {
        Self { out: Mutex::new(io::stdout()), seed: Mutex::default() }
    }
}

impl<W: Write> Audit<W> {
    /// Writes a line.
    ///
    /// # Errors
    ///
    /// The line cannot be written. What it is about must not happen then: nothing is given out
    /// that the log does not know.
    pub(super) fn write(&self, time: Timestamp, entry: &Entry<'_>) -> io::Result<()> {
        let Entry { event, decision, subject, path, version, cause } = *entry;
        let line = Line {
            time,
            kind: "audit",
            event: event.as_str(),
            decision,
            subject,
            path,
            version,
            code: cause.map(|cause| cause.code),
            cause: cause.map(|cause| cause.message),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line)?;
        out.flush()
    }

    /// The store has been unsealed: from now on the log is signed with the key of this seed.
    #[allow(dead_code, reason = "the ceremonies call it")]
    pub(super) fn unsealed(&self, seed: Zeroizing<[u8; 32]>) {
        *self.seed.lock().unwrap_or_else(PoisonError::into_inner) = Some(seed);
    }

    /// The store is about to be sealed: what stands in the log is signed, and the key is dropped.
    #[allow(dead_code, reason = "the ceremonies call it")]
    pub(super) fn sealing(&self) {
        *self.seed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    kind: &'static str,
    event: &'static str,
    decision: Decision,
    subject: Subject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_why() {
        let audit = Audit { out: Mutex::new(Vec::new()), seed: Mutex::default() };

        audit
            .write(
                "2026-11-23T00:00:00Z".parse().unwrap(),
                &Entry {
                    event: Event::Resolve,
                    decision: Decision::Denied,
                    subject: Subject::User { name: "alice", uid: None },
                    path: Some("shop/db"),
                    version: None,
                    cause: Some(Cause { code: "denied", message: "the space rule", record: None }),
                },
            )
            .unwrap();

        assert_eq!(
            String::from_utf8(audit.out.into_inner().unwrap()).unwrap(),
            concat!(
                r#"{"time":"2026-11-23T00:00:00Z","kind":"audit","event":"resolve","#,
                r#""decision":"denied","subject":{"user":{"name":"alice"}},"path":"shop/db","#,
                r#""code":"denied","cause":"the space rule"}"#,
                "\n"
            )
        );
    }
}
