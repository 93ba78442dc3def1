//! The binary of Watchword's roles: harden the process, install the TLS provider, parse, run.
//!
//! Exit codes: 0 after an orderly stop, 1 if a role failed, 2 for a wrong command line.

use std::process::ExitCode;

use clap::Parser;

use watchword_controller::{args::Args, harden, run, telemetry};

fn main() -> ExitCode {
    // First of all: nothing has been read yet that a core file or a debugger could show.
    let hardened = harden::harden();
    let args = Args::parse();
    if let Err(error) = telemetry::init(&args.common.log_level) {
        return fail(&error);
    }
    if let Err(error) = hardened {
        return fail(&error);
    }
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says on stderr, in a log line if there is a subscriber yet, what ended the process.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    telemetry::report_failure(error);
    ExitCode::FAILURE
}
