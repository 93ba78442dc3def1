//! What may be typed: commands, flags, and the words that `--help` says about them.
//!
//! Under `secret` and `store` the short flags are those of the DC/OS command line (`-s`, `-v`, `-t`,
//! `-f`, `-j`); kubectl's flags have their long forms there. What flags mean together is decided
//! where they are used, so that a flag may stand before or after the sub-command.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ErrorKind},
};
use clap_complete::Shell;
use watchword_crds::names;

use crate::api::StoreId;

pub(crate) use audit::{AuditArgs, AuditCommand, VerifyStoreArgs};
pub(crate) use reach::ReachArgs;
pub(crate) use secret::{SecretArgs, SecretCommand};
pub(crate) use store::{
    BackupArgs, CustodyArgs, InitArgs, MigrateArgs, RekeyArgs, RestoreArgs, RotateArgs,
    SharesOutArgs, StoreArgs, StoreCommand, UnsealArgs,
};

mod audit;
mod reach;
mod secret;
mod store;

/// Reads a command line, its first word being the program's name.
///
/// # Errors
///
/// Help and version, which are no failures, and what clap refuses. What was typed after
/// `secret create` or `secret update` without belonging there is not repeated: it may be a value.
pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = command_named_as(words.first());
    command
        .try_get_matches_from_mut(&words)
        .and_then(|matches| Args::from_arg_matches(&matches))
        .map(|args| args.command)
        .map_err(|error| without_values(error, &words, &mut command))
}

/// The command as clap knows it, for completions and help.
pub(crate) fn command() -> clap::Command {
    Args::command()
}

/// Keep the secrets of pods in a sealed store, and judge task definitions
///
/// The store is reached through the kubeconfig, as kubectl reaches the cluster: a port-forward to
/// one of its pods and, inside it, TLS that is verified against the store's own certificate
/// authority. You are who you are to the cluster.
#[derive(Parser)]
#[command(
    name = "watchword",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    Audit(AuditArgs),
    Completions(CompletionsArgs),
    #[command(alias = "secrets")]
    Secret(SecretArgs),
    Store(StoreArgs),
    Validate(ValidateArgs),
    Version(VersionArgs),
}

/// Print a completion script for a shell
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    pub(crate) shell: Shell,
}

/// Judge task definitions as the cluster will, without one
///
/// Reads YAML or JSON, several documents to a file if need be; objects that are not task
/// definitions are passed over.
#[derive(clap::Args)]
pub(crate) struct ValidateArgs {
    /// Files to read; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace of definitions that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// How to print the verdicts
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// Print the version
#[derive(clap::Args)]
pub(crate) struct VersionArgs {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// Which store.
#[derive(clap::Args)]
pub(crate) struct StoreIdArgs {
    /// The store; there is one, called `default`
    #[arg(short, long, value_name = "STORE", default_value = names::DEFAULT_STORE)]
    pub(crate) store_id: StoreId,
}

/// What a command prints for programs, under `secret` and `store`.
#[derive(clap::Args)]
pub(crate) struct JsonArgs {
    /// Print JSON, for programs
    #[arg(short, long)]
    json: bool,
    /// `json` means the same, as kubectl spells it
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    output: Option<Format>,
}

impl JsonArgs {
    /// Whether JSON is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.json || self.output.is_some()
    }
}

/// A form of output that programs read.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Json,
}

/// The command under the name that it was called by.
fn command_named_as(program: Option<&OsString>) -> clap::Command {
    let plugin = program
        .and_then(|program| std::path::Path::new(program).file_stem())
        .is_some_and(|name| name == "kubectl-watchword");
    match plugin {
        true => Args::command().bin_name("kubectl watchword"),
        false => Args::command().bin_name("watchword"),
    }
}

/// The error without what may be a value, typed where no value belongs.
fn without_values(
    error: clap::Error,
    words: &[OsString],
    command: &mut clap::Command,
) -> clap::Error {
    let takes_value = words
        .iter()
        .any(|word| ["create", "rekey", "unseal", "update"].iter().any(|command| word == command));
    // clap repeats an unknown word; one that resembles a flag of ours is a misspelt flag.
    let may_repeat = error.get(ContextKind::SuggestedArg).is_some();
    if error.kind() != ErrorKind::UnknownArgument || !takes_value || may_repeat {
        return error.format(command);
    }
    command.error(
        ErrorKind::UnknownArgument,
        "there is a word too many (not repeated here: it may be a value or a share); \
         give a value with --value, --text-file or --file, and a share on stdin",
    )
}

/// A usage error that clap itself could not see. It says all there is to say: the usage that clap
/// would add is that of the whole program.
pub(crate) fn misuse(message: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{message}\n"))
}

#[cfg(test)]
mod tests;
