//! One module per command: each turns what was typed into what is meant, does it, and prints.

mod audit;
mod completions;
mod secret;
mod store;
mod validate;
mod version;

use crate::{args::Command, output::Output};

/// Carries a command out.
///
/// # Errors
///
/// What the person hears about; [`Output::fail`] says it and knows the exit status.
pub(crate) async fn run(command: Command, output: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Audit(args) => audit::run(args, output).await,
        Command::Completions(args) => completions::run(&args, output),
        Command::Secret(args) => secret::run(args, output).await,
        Command::Store(args) => store::run(args, output).await,
        Command::Validate(args) => validate::run(&args, output),
        Command::Version(args) => version::run(&args, output),
    }
}
