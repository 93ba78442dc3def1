//! What may be typed after `watchword audit`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Format, JsonArgs, ReachArgs, StoreIdArgs};

/// Verify the audit log
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// What there is to do with the audit log.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the key to verify the audit log with
    ///
    /// It is the same for all replicas, and stays when the store is rotated or rekeyed: keep it
    /// where nobody who can change the log can change it.
    PublicKey {
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        reach: Box<ReachArgs>,
    },
    /// Find lines of the audit log that were removed, changed, moved or inserted
    ///
    /// Needs no cluster and no store, only the key. Reads what `kubectl logs` prints, with or without
    /// --prefix and --timestamps, the files of container runtimes, and the store's own files; lines
    /// of other programs are passed over. The chains of several replicas may stand in one file, and
    /// one chain may go on over several, which are named from the oldest to the newest.
    ///
    /// A chain whose end is not there is "not closed": its replica still runs, was killed, or its log
    /// was cut.
    #[command(after_help = "Examples:\n  \
        kubectl logs -n watchword-system -l app.kubernetes.io/component=store --tail=-1 > audit.log\n  \
        watchword audit public-key > audit.pub\n  \
        watchword audit verify audit.log --public-key audit.pub")]
    Verify {
        /// Files to read, the oldest first; `-` is stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The key, or a file with it
        #[arg(long, value_name = "KEY|FILE")]
        public_key: String,
        /// Chains may begin anywhere, because older files were thrown away
        #[arg(long)]
        partial: bool,
        /// Chains that are not closed, or whose end is not signed, are a problem
        #[arg(long)]
        closed: bool,
        /// How to print what was found
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Format>,
    },
}

/// Open every record, and compare the store with its audit log
///
/// Needs the right `verify`. With a log, which needs the right `audit` or --public-key, secrets are
/// found whose record is older than the log says, that are back after their deletion, that are gone,
/// or that the log knows nothing of. Without one only damage is: a whole record that was put back
/// opens, and only the log knows that there was a newer one.
///
/// In JSON it is `{"verified", "findings": [{"kind", "object", "path", "message"}], "records",
/// "log"}`.
#[derive(clap::Args)]
pub(crate) struct VerifyStoreArgs {
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
    /// A file of the audit log, the oldest first; `-` is stdin. May be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Vec<PathBuf>,
    /// The key of the log, or a file with it; asked from the store if it is not given
    #[arg(long, value_name = "KEY|FILE", requires = "audit")]
    pub(crate) public_key: Option<String>,
    /// The log's oldest files were thrown away: it need not know every secret
    #[arg(long, requires = "audit")]
    pub(crate) partial: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
