//! What may be typed after `watchword store`.

use clap::Subcommand;

use super::{JsonArgs, ReachArgs, StoreIdArgs, VerifyStoreArgs};

/// Look at the store itself, and seal it
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
    /// Drop the key on every replica: nothing is read or written until the store is unsealed
    Seal {
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Say what kind of store this is
    ///
    /// In JSON it is `{"name", "description", "driver", "initialized", "sealed"}`.
    Show {
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Say whether the store is sealed, and how many shares open it
    ///
    /// In JSON it is `{"sealed", "threshold", "shares", "progress"}`.
    #[command(alias = "seal-status")]
    Status {
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
    },
    Verify(VerifyStoreArgs),
}
