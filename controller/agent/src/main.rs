//! Watchword's agent: fetches the secrets of one container and becomes its application.
//!
//! ```text
//! exec [--cached] -- ARGV…   fetch the secret variables, then execve ARGV: nothing stays behind
//! files                      write the secret files of a pod's containers, in an init container
//! copy DIR                   copy this binary to DIR/agent, in an init container
//! version                    print the version
//! ```
//!
//! It is a static binary without an async runtime, because it lies in the memory of pods. It makes
//! one kind of request, to the store only, and while the store cannot answer it waits without limit.
//! What it cannot do ends it with one line on stderr, which is also the container's termination
//! message, and with a code of [`failure::Exit`].
//!
//! Values are held by few types ([`watchword_protocol::SecretBytes`], [`environment::Variable`]);
//! messages are made of names, paths and causes, in functions that have no value in reach.

mod args;
mod backoff;
mod cache;
mod confined;
mod environment;
mod exec;
mod failure;
mod fetch;
mod files;
mod harden;
mod install;
mod program;
mod settings;
mod signals;
mod wait;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::Command;
use crate::failure::Failure;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(usage) => {
            _ = writeln!(io::stderr(), "error: {usage}\n\n{}", args::USAGE);
            return failure::Exit::Usage.into();
        }
    };
    // Ends with an error only: `exec` that succeeds never comes back.
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    signals::end_on_termination()?;
    match command {
        Command::Copy { directory } => install::copy_to(&directory),
        Command::Exec { argv, cached: false } => exec::run(&argv).map(|never| match never {}),
        Command::Exec { argv, cached: true } => exec::run_cached(&argv).map(|never| match never {}),
        Command::Files => files::run(),
        Command::Version => {
            // A closed pipe is not an error.
            _ = writeln!(io::stdout(), "watchword-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
