//! What may be typed after `watchword secret`: the flags of DC/OS' command line, and versions.

use std::path::PathBuf;

use clap::Subcommand;
use watchword_core::reference::SecretName;

use super::{JsonArgs, ReachArgs, StoreIdArgs};
use crate::{api::Directory, input::Input, value::ValueSource};

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
        /// Only if this is still its newest version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Print a secret's value, byte for byte
    ///
    /// In JSON it is `{"path", "version", "value"}`, or "base64" for a value that is not text.
    Get {
        /// The secret's path
        path: SecretName,
        /// The version to print, instead of the newest
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// List the secrets below a path, by names relative to it
    ///
    /// Prints one name per line; on a terminal a table with each secret's newest version; in JSON a
    /// list of names.
    List {
        /// The path to list; `/` is the whole store
        #[arg(default_value = "/")]
        path: Directory,
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Make an old version the newest again, as a new version with its value
    Rollback {
        /// The secret's path
        path: SecretName,
        /// The version whose value comes back; `watchword secret versions` lists them
        version: u64,
        /// Only if this is still its newest version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Give a secret a new value; refused if there is none at this path
    Update {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        value: ValueArgs,
        /// Only if this is still its newest version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// List the versions of a secret that the store keeps
    ///
    /// In JSON a list of `{"version", "created", "author"}`.
    Versions {
        /// The secret's path
        path: SecretName,
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
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
