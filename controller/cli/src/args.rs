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
use watchword_core::reference::SecretName;
use watchword_crds::names;

use crate::{
    api::{Directory, StoreId},
    connect::{Address, Target},
    value::{Input, ValueSource},
};

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

/// Create, read, update, delete and list secrets
///
/// A path is 1 to 253 bytes of `A-Z`, `a-z`, `0-9`, `-` and `_` between `/`; one leading `/` makes
/// no difference.
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// What there is to do with secrets.
#[derive(Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a new secret; refused if there is one at this path
    #[command(after_help = "Examples:\n  \
        openssl rand -hex 32 | watchword secret create shop/api-key --text-file -\n  \
        watchword secret create shop/tls-key --file key.pem")]
    Create {
        /// Where to store it, for example `shop/db`
        path: SecretName,
        #[command(flatten)]
        value: ValueArgs,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Delete a secret with all its versions
    Delete {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Print a secret's value, byte for byte
    Get {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        store: StoreIdArgs,
        /// Print `{"path", "version", "value"}`, or "base64" for a value that is not text
        #[arg(short, long)]
        json: bool,
    },
    /// List the secrets below a path, by names relative to it
    ///
    /// Prints one name per line; on a terminal a table with each secret's newest version.
    List {
        /// The path to list; `/` is the whole store
        #[arg(default_value = "/")]
        path: Directory,
        #[command(flatten)]
        store: StoreIdArgs,
        /// Print a list of names
        #[arg(short, long)]
        json: bool,
    },
    /// Give a secret a new value; refused if there is none at this path
    Update {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        value: ValueArgs,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// List the versions of a secret that the store keeps
    Versions {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        store: StoreIdArgs,
        /// Print a list of `{"version", "created", "author"}`
        #[arg(short, long)]
        json: bool,
    },
}

/// Where a value comes from: exactly one of three.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ValueArgs {
    /// The value itself; it will stand in the shell's history and in the process list
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    value: Option<String>,
    /// A file of UTF-8 text, stored to the last newline; `-` is stdin
    #[arg(short, long, value_name = "FILE", alias = "value-file")]
    text_file: Option<PathBuf>,
    /// A file of any bytes, stored unchanged; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ValueArgs {
    /// What was meant.
    pub(crate) fn source(self) -> ValueSource {
        let Self { value, text_file, file } = self;
        match (value, text_file, file) {
            (Some(text), _, _) => ValueSource::Argument(text),
            (_, Some(file), _) => ValueSource::Text(Input::named(file)),
            // The group requires one of the three.
            (_, _, file) => ValueSource::Bytes(Input::named(file.unwrap_or_default())),
        }
    }
}

/// Which store.
#[derive(clap::Args)]
pub(crate) struct StoreIdArgs {
    /// The store; there is one, called `default`
    #[arg(short, long, value_name = "STORE", default_value = names::DEFAULT_STORE)]
    pub(crate) store_id: StoreId,
}

/// Look at the store itself
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// What there is to do with the store.
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Say whether the store is sealed, and how many shares open it
    #[command(alias = "seal-status")]
    Status {
        #[command(flatten)]
        store: StoreIdArgs,
        /// Print `{"sealed", "threshold", "shares", "progress"}`
        #[arg(short, long)]
        json: bool,
    },
}

/// How the store is reached.
#[derive(clap::Args)]
#[command(next_help_heading = "Reaching the store")]
pub(crate) struct ReachArgs {
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// The kubeconfig to use, instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Taken because kubectl takes it everywhere; secrets are in no namespace
    #[arg(long, value_name = "NAMESPACE", global = true, hide = true)]
    namespace: Option<String>,
    /// The namespace that Watchword runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        global = true,
        env = "WATCHWORD_NAMESPACE",
        hide_env_values = true,
        default_value = names::NAMESPACE
    )]
    system_namespace: String,
    /// Go straight to `https://HOST[:PORT]`, without a kubeconfig; needs --ca-file
    #[arg(long, value_name = "URL", global = true)]
    address: Option<Address>,
    /// With --address: the certificate authority (PEM) that vouches for the store
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// With --address: a file with the bearer token, instead of $WATCHWORD_TOKEN
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl ReachArgs {
    /// What was meant.
    ///
    /// # Errors
    ///
    /// A usage error for flags that do not go together.
    pub(crate) fn target(self) -> Result<Target, clap::Error> {
        let Self {
            context,
            kubeconfig,
            namespace: _,
            system_namespace,
            address,
            ca_file,
            token_file,
        } = self;
        let Some(address) = address else {
            return match (ca_file, token_file) {
                (None, None) => Ok(Target::Cluster { context, kubeconfig, system_namespace }),
                (Some(_), _) => Err(misuse("--ca-file goes with --address")),
                (_, Some(_)) => Err(misuse("--token-file goes with --address")),
            };
        };
        if context.is_some() || kubeconfig.is_some() {
            return Err(misuse(
                "--address uses no kubeconfig: leave --context and --kubeconfig out",
            ));
        }
        match ca_file {
            Some(ca_file) => Ok(Target::Address { address, ca_file, token_file }),
            None => Err(misuse("--address needs --ca-file, to know the store by")),
        }
    }
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
    let takes_value = words.iter().any(|word| word == "create" || word == "update");
    // clap repeats an unknown word; one that resembles a flag of ours is a misspelt flag.
    let may_repeat = error.get(ContextKind::SuggestedArg).is_some();
    if error.kind() != ErrorKind::UnknownArgument || !takes_value || may_repeat {
        return error.format(command);
    }
    command.error(
        ErrorKind::UnknownArgument,
        "there is a word too many (not repeated here: it may be a value); \
         give the value with --value, --text-file or --file",
    )
}

fn misuse(message: &str) -> clap::Error {
    Args::command().error(ErrorKind::ArgumentConflict, message)
}

#[cfg(test)]
mod tests;
