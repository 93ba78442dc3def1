//! Logs: one JSON object per line, to stderr.
//!
//! stdout is kept for the store's audit log, so that each can be collected by itself. Bodies of
//! requests and reviews are logged at no level.

use std::{error::Error, io};

use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::chain::Chain;

/// Starts logging what `filter` lets through, e.g. `info` or `info,watchword_controller=debug`.
///
/// # Errors
///
/// `filter` cannot be read, or logging has been started before.
pub fn init(filter: &str) -> Result<(), InitError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| InitError::Filter { filter: filter.to_owned(), source })?;
    // It quotes whole answers of the API server when it cannot read them: tokens and Secrets too.
    let filter = match QUIET.parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(source) => return Err(InitError::Filter { filter: QUIET.to_owned(), source }),
    };
    let lines = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(InitError::Start)
}

/// Logs the error that ends the process; before [`init`], as plain text.
#[allow(clippy::print_stderr)] // There may be no subscriber, and whoever started us must hear it.
pub fn report_failure(error: &dyn Error) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(error = %Chain(error), "cannot go on");
    } else {
        eprintln!("error: {}", Chain(error));
    }
}

const QUIET: &str = "kube_client::client=error";

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter has a syntax of its own, which this is not.
    #[error("cannot read the log level `{filter}`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// There is a subscriber already.
    #[error("cannot start logging")]
    Start(#[source] TryInitError),
}
