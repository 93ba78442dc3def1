//! `watchword`, the command line of Watchword; `kubectl watchword` when it is called
//! `kubectl-watchword`.
//!
//! Three stages: [`args`] says what may be typed, each command turns that into what it means, and
//! [`commands`] carries it out. Data goes to stdout and everything else to stderr; the exit status
//! is 0, 1 (refused or failed) or 2 (usage). A closed pipe is not an error, and a value is never an
//! echo: it leaves the program only towards the store or, asked for, on stdout.

mod api;
mod args;
mod audit;
mod commands;
mod connect;
mod input;
mod new_file;
mod output;
mod prompt;
mod share;
mod value;

use std::{env, process::ExitCode};

use rustls::crypto::aws_lc_rs;
use tokio::runtime;

use crate::output::Output;

fn main() -> ExitCode {
    // The only failure is that one is installed already, which is what is wanted.
    let _ = aws_lc_rs::default_provider().install_default();

    let mut output = Output::standard();
    let command = match args::read(env::args_os()) {
        Ok(command) => command,
        Err(error) => return output.usage(&error),
    };
    let result = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("cannot start the program"))
        .and_then(|runtime| runtime.block_on(commands::run(command, &mut output)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.fail(&error),
    }
}
