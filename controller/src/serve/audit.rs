//! The audit log: one JSON line on standard output for every release, denial and write.
//!
//! The fields are typed and few; no request is ever dumped. What stands in a line is who, what,
//! which version, how it was decided and why, never a value. The program's own logs go to standard
//! error, so that the two can be told apart and kept apart.

use std::io::{self, Write};
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;
use watchword_protocol::ErrorCode;

use super::failure::Failure;

/// Where audit lines go.
pub(super) struct Audit<W = io::Stdout>(Mutex<W>);

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// What happened.
    pub event: Event,
    /// Whether it was allowed.
    pub decision: Decision,
    /// Who asked.
    pub subject: Subject<'a>,
    /// The secret's path; absent where it is not about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    /// The version that was given out or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why, for denials and failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'a str>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// Somebody else than the controller asked what only the controller may ask.
    Check,
    /// A secret was created.
    Create,
    /// All versions of a secret were deleted.
    Delete,
    /// Paths were listed.
    List,
    /// A person read a secret.
    Read,
    /// A container was given secrets, or not.
    Resolve,
    /// A secret got a new version.
    Update,
}

/// How it was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// It was done.
    Allowed,
    /// A rule forbids it.
    Denied,
    /// It is allowed and did not work.
    Failed,
}

/// Who asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject<'a> {
    /// One container of one pod.
    Container {
        /// Namespace of the pod.
        namespace: &'a str,
        /// Name of the pod.
        pod: &'a str,
        /// Uid of the pod.
        uid: &'a str,
        /// Name of the container.
        container: &'a str,
        /// The pod's service account.
        service_account: &'a str,
    },
    /// Whoever showed no token, or one that is not good for what was asked.
    Nobody {
        /// The container that the request speaks of, which is what anyone could write.
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<&'a str>,
    },
    /// A user of the cluster, people and programs alike.
    User {
        /// The name.
        name: &'a str,
    },
}

impl Decision {
    /// How a request that failed was decided.
    pub(super) fn of(failure: &Failure) -> Self {
        match failure.code {
            ErrorCode::Denied | ErrorCode::Unauthenticated => Self::Denied,
            _ => Self::Failed,
        }
    }
}

impl Audit {
    /// Writes to standard output.
    pub(super) fn to_stdout() -> Self {
        Self(Mutex::new(io::stdout()))
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
        let mut line = serde_json::to_vec(&Line { time, kind: "audit", entry })?;
        line.push(b'\n');
        let mut out = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        out.write_all(&line)?;
        out.flush()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    kind: &'static str,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_why() {
        let audit = Audit(Mutex::new(Vec::new()));

        audit
            .write(
                "2026-11-23T00:00:00Z".parse().unwrap(),
                &Entry {
                    event: Event::Resolve,
                    decision: Decision::Denied,
                    subject: Subject::User { name: "alice" },
                    path: Some("shop/db"),
                    version: None,
                    cause: Some("the space rule"),
                },
            )
            .unwrap();

        assert_eq!(
            String::from_utf8(audit.0.into_inner().unwrap()).unwrap(),
            concat!(
                r#"{"time":"2026-11-23T00:00:00Z","kind":"audit","event":"resolve","#,
                r#""decision":"denied","subject":{"user":{"name":"alice"}},"path":"shop/db","#,
                r#""cause":"the space rule"}"#,
                "\n"
            )
        );
    }
}
