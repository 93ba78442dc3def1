//! The audit log: one JSON line for every release, denial, change and ceremony, chained and signed.
//!
//! What a line says and how lines are chained is [`watchword_audit`]'s; this is where they go. The
//! program's own logs go to standard error, so that the two can be told apart and kept apart.
//!
//! # When a line is written
//!
//! A release or a denial is written before it is answered, a change twice: an attempt before, and how
//! it went after. Whatever the process dies of, what was given out and what was changed has a line.
//! What cannot be written fails the request that it is about ([`OnFailure::Refuse`]).
//!
//! # How safe a line is
//!
//! A line that was written survives the end of the process. A file is synchronised with the disk at
//! every checkpoint (a hundred lines, a minute, at sealing and at the end) and before it is rotated;
//! what a machine loses that loses its power is the lines since, and the log is then not closed.

mod file;
mod public_key;
mod sink;
mod stream;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::error;
pub(super) use watchword_audit::{Cause, Decision, Entry, Event, Subject};
use watchword_audit::{PublicKey, SigningKey, SigningKeyError};
use watchword_protocol::ErrorCode;
use zeroize::Zeroizing;

use self::file::LogFile;
pub use self::file::OpenLogError;
pub(super) use self::public_key::public_key;
use self::sink::Sink;
use self::stream::Stream;
pub(super) use self::verify::verify;
use super::failure::Failure;
use crate::args::{AuditArgs, AuditPaths, OnFailure};
use crate::chain::Chain as Causes;
use crate::metrics::begin_at_zero;
use crate::shared::Shared;

/// Where audit lines go.
pub(super) struct Audit {
    sinks: Mutex<Sinks>,
    paths: AuditPaths,
    on_failure: OnFailure,
    decisions: Family<DecisionLabels, Counter>,
    lines: Counter,
    lost: Counter,
}

/// No path, and nobody's name: what can be counted without limit is not a label.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    event: &'static str,
    decision: &'static str,
}

struct Sinks {
    all: Vec<Sink>,
    public_key: Option<PublicKey>,
    is_closed: bool,
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
    let record = failure.record.as_deref();
    Cause { code: failure.code.as_str(), message: &failure.message, record }
}

impl Audit {
    /// Opens the log: standard output, and the file if the settings name one.
    ///
    /// # Errors
    ///
    /// The log cannot be begun: nothing could be answered.
    pub(super) fn open(args: &AuditArgs, shared: &Shared) -> Result<Self, OpenAuditError> {
        let AuditArgs { audit_file, audit_file_bytes, audit_files, .. } = args;
        let stdout = Stream::stdout().map_err(OpenAuditError::Stdout)?;
        let mut all = vec![Sink::new("stdout", stdout.into(), &shared.identity)?];
        if let Some(path) = audit_file {
            let file = LogFile::open(path, *audit_file_bytes, usize::from(*audit_files))
                .map_err(|source| OpenAuditError::File { path: path.clone(), source })?;
            all.push(Sink::new("file", file.into(), &shared.identity)?);
        }
        let audit = Self::begin(all, args)?;
        shared.metrics.register(|registry| {
            let decisions = "What was released, denied, changed or failed, by event and decision";
            registry.register("decisions", decisions, audit.decisions.clone());
            let lines = "Audit lines that were written, to each sink";
            registry.register("audit_lines", lines, audit.lines.clone());
            let lost = "Audit lines that a sink did not take";
            registry.register("audit_lost_lines", lost, audit.lost.clone());
        });
        Ok(audit)
    }

    fn begin(mut all: Vec<Sink>, args: &AuditArgs) -> Result<Self, OpenAuditError> {
        let now = Timestamp::now();
        all.iter_mut().try_for_each(|sink| sink.begin(now)).map_err(OpenAuditError::Begin)?;
        let decisions = Family::default();
        for event in Event::ALL {
            let refusals = [Decision::Denied, Decision::Failed].map(|decision| DecisionLabels {
                event: event.as_str(),
                decision: decision.as_str(),
            });
            begin_at_zero(&decisions, refusals);
        }
        Ok(Self {
            sinks: Mutex::new(Sinks { all, public_key: None, is_closed: false }),
            paths: args.audit_paths,
            on_failure: args.audit_failure,
            decisions,
            lines: Counter::default(),
            lost: Counter::default(),
        })
    }

    /// Writes a line to every sink, and returns whether all have taken it. `hash` is the keyed hash
    /// of a path, while the store is open.
    ///
    /// # Errors
    ///
    /// A sink does not take it, and is not to be gone on without. What the line is about must not
    /// happen then: nothing is given out that the log does not know.
    pub(super) fn write(
        &self,
        time: Timestamp,
        entry: &Entry<'_>,
        hash: impl FnOnce(&str) -> Option<String>,
    ) -> io::Result<bool> {
        let labels =
            DecisionLabels { event: entry.event.as_str(), decision: entry.decision.as_str() };
        self.decisions.get_or_create(&labels).inc();
        let hash = entry.path.and_then(hash);
        let entry = match self.paths {
            AuditPaths::Clear => *entry,
            AuditPaths::Hashed => entry.without_path(),
        };
        let mut sinks = self.lock();
        if sinks.is_closed {
            return Err(io::Error::other("the audit log has ended"));
        }
        let mut result = Ok(true);
        for sink in &mut sinks.all {
            match sink.write(time, &entry, hash.as_deref()) {
                Ok(()) => {
                    self.lines.inc();
                }
                Err(cause) => {
                    self.lost.inc();
                    error!(sink = sink.name(), error = %cause, "cannot write the audit log");
                    match self.on_failure {
                        OnFailure::Refuse => result = Err(cause),
                        OnFailure::Continue => result = Ok(false),
                    }
                }
            }
        }
        result
    }

    /// The store has been unsealed: from now on the log is signed with the key of this seed, and so
    /// is what stands in it already.
    pub(super) fn unsealed(&self, seed: Zeroizing<[u8; 32]>) {
        let time = Timestamp::now();
        let mut sinks = self.lock();
        let key = || SigningKey::from_seed(&seed);
        let signed = key().map(|key| key.public()).and_then(|public| {
            sinks.public_key = Some(public);
            sinks.all.iter_mut().try_for_each(|sink| {
                sink.sign_with(key()?, time);
                Ok::<_, SigningKeyError>(())
            })
        });
        // Wiped: the keys are made.
        drop(seed);
        if let Err(cause) = signed {
            error!(error = %Causes(&cause), "cannot sign the audit log");
        }
    }

    /// The store is about to be sealed: what stands in the log is signed, and the key is dropped.
    pub(super) fn sealing(&self) {
        let mut sinks = self.lock();
        sinks.all.iter_mut().for_each(|sink| sink.seal(Timestamp::now()));
    }

    /// Signs what stands in the log and is not signed yet.
    fn checkpoint(&self) {
        self.lock().all.iter_mut().for_each(|sink| sink.checkpoint(Timestamp::now()));
    }

    /// Ends the log. What comes after fails: its request has nobody to answer to any more.
    pub(super) fn close(&self) {
        let mut sinks = self.lock();
        sinks.is_closed = true;
        sinks.all.iter_mut().for_each(|sink| sink.close(Timestamp::now()));
    }

    /// The key to verify the log with; `None` until the store has been unsealed once.
    pub(super) fn public_key(&self) -> Option<PublicKey> {
        self.lock().public_key
    }

    fn lock(&self) -> MutexGuard<'_, Sinks> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs at the latest a minute after a line was written, until the shutdown: a log of few lines
/// must not wait for the hundredth.
pub(super) async fn keep_signed(service: std::sync::Arc<super::Service>, shared: Shared) {
    loop {
        tokio::select! {
            () = shared.shutdown.requested() => return,
            () = tokio::time::sleep(SIGN_WITHIN) => service.audit.checkpoint(),
        }
    }
}

/// Why the log could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum OpenAuditError {
    /// The first line cannot be written.
    #[error("cannot begin the audit log")]
    Begin(#[source] io::Error),
    /// The file cannot be opened.
    #[error("cannot open the audit log {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenLogError,
    },
    /// There is no randomness for the name of the chain.
    #[error("cannot name the chain of the audit log: there is no randomness")]
    Random,
    /// There is no standard output.
    #[error("cannot use standard output")]
    Stdout(#[source] io::Error),
}

/// How long a line may wait for a signature.
const SIGN_WITHIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
