//! What may be typed after `watchword store`: the store itself, its shares, its copies.

use std::path::PathBuf;

use clap::Subcommand;
use watchword_store::Location;

use super::{JsonArgs, ReachArgs, StoreIdArgs, VerifyStoreArgs, misuse};
use crate::{
    input::Input,
    share::{Encrypted, ShareSource},
};

/// Open and close the store, change its keys, copy it
///
/// The store is sealed under a root key that is split into shares; each share is encrypted to the
/// OpenPGP key of its holder. `docs/store.md` is the operator's guide.
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
    Backup(BackupArgs),
    Init(InitArgs),
    Migrate(MigrateArgs),
    Rekey(RekeyArgs),
    Restore(RestoreArgs),
    Rotate(RotateArgs),
    /// Drop the key on every replica: nothing is read or written until the store is unsealed
    Seal {
        #[command(flatten)]
        store: StoreIdArgs,
    },
    /// Print the encrypted shares again, as `init` or `rekey` gave them
    ///
    /// They are of use only to those who hold the OpenPGP keys. In JSON they are `{"keys",
    /// "pgp_fingerprints"}`.
    Shares {
        #[command(flatten)]
        out: SharesOutArgs,
        #[command(flatten)]
        store: StoreIdArgs,
        #[command(flatten)]
        json: JsonArgs,
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
    Unseal(UnsealArgs),
    Verify(VerifyStoreArgs),
}

/// Write all records of the store to a file: ciphertext, of no use without the shares
///
/// The store may be sealed. The file is checked, and takes its name when it is whole.
#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    /// The file to write, readable by you only; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
}

/// Bring a backup into a new store; the shares of the time of the backup open it
///
/// The file is checked before anything is sent.
#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    /// The file that `backup` wrote
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
}

/// Copy a store to another back end; values stay sealed, and the shares stay what they are
///
/// A place is `kubernetes`, `kubernetes:NAMESPACE`, `file:PATH` or
/// `zookeeper://HOST:PORT[,HOST:PORT…]/PATH`. The source is never changed. The destination must be
/// empty; a migration that was interrupted is finished by running it again.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    watchword store migrate --from kubernetes --to file:store.redb\n  \
    watchword store migrate --from file:store.redb --to zookeeper://zk1:2181,zk2:2181/watchword")]
pub(crate) struct MigrateArgs {
    /// Where the store is
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Location,
    /// Where it is to be
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: Location,
    /// A file with USER:PASSWORD, who is to own the nodes of a ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(crate) zookeeper_digest_file: Option<PathBuf>,
    /// Also from a store that was not sealed by hand; what is written meanwhile ends the migration
    #[arg(long)]
    pub(crate) force: bool,
}

/// Make the store's root key, once, and hand out its shares
///
/// Each share is encrypted to the key of its holder; the root key itself is seen by nobody. The new
/// store is still sealed. In JSON it is `{"keys", "pgp_fingerprints"}`, as DC/OS has it.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    watchword store init --threshold 2 --pgp-key ann.asc --pgp-key bob.asc --pgp-key eve.asc\n  \
    watchword store init --private-key-out store-key.asc")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) custody: CustodyArgs,
    #[command(flatten)]
    pub(crate) out: SharesOutArgs,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Give a share, and open the store when there are enough
///
/// Without a flag the share is asked for, or read from stdin; it is 64 or 66 hexadecimal digits. With
/// --pgp-private-key or --gpg the encrypted share is fetched, decrypted here and given. In JSON it
/// prints what `status` does.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    watchword store unseal --gpg\n  \
    watchword store unseal --pgp-private-key store-key.asc\n  \
    gpg --decrypt share-1.pgp | watchword store unseal")]
pub(crate) struct UnsealArgs {
    /// The decrypted share; it will stand in the shell's history and in the process list
    #[arg(value_name = "KEY", conflicts_with_all = ["share_file", "pgp_private_key", "gpg"])]
    key: Option<String>,
    #[command(flatten)]
    pub(crate) share: ShareArgs,
    /// Forget the shares given so far
    #[arg(long, conflicts_with_all = ["key", "share_file", "pgp_private_key", "gpg"])]
    pub(crate) reset: bool,
    /// Let the store open itself, as its `autoUnseal` says
    #[arg(long, conflicts_with_all = ["key", "share_file", "pgp_private_key", "gpg", "reset"])]
    pub(crate) auto: bool,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

impl UnsealArgs {
    /// Where the share comes from.
    pub(crate) fn take_source(&mut self) -> ShareSource {
        match self.key.take() {
            Some(key) => ShareSource::Argument(key),
            None => self.share.take_source().unwrap_or(ShareSource::Asked),
        }
    }
}

/// Give the store a new root key with other shares, threshold or holders; no secret is lost
///
/// It takes the threshold of today's shares. Say the new custody to begin; every holder then gives
/// a share with --nonce, which the beginning printed, so that nobody agrees to another change than
/// the one that was agreed on. With the last share the new encrypted shares are printed. In JSON it
/// is `{"started", "nonce", "shares", "threshold", "progress", "required", "complete"}`, in the end
/// with "keys" and "pgp_fingerprints".
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    watchword store rekey --threshold 2 --pgp-key ann.asc --pgp-key bob.asc --pgp-key eve.asc\n  \
    watchword store rekey --nonce NONCE --gpg\n  \
    watchword store rekey --cancel")]
pub(crate) struct RekeyArgs {
    #[command(flatten)]
    pub(crate) custody: CustodyArgs,
    /// Give a share to the change that has this nonce
    #[arg(long, conflicts_with_all = ["pgp_key", "private_key_out", "shares", "threshold"])]
    pub(crate) nonce: Option<String>,
    #[command(flatten)]
    pub(crate) share: ShareArgs,
    /// Say how far it is
    #[arg(long, conflicts_with_all = ["cancel", "nonce", "pgp_key", "private_key_out"])]
    pub(crate) status: bool,
    /// Stop the change that is under way, or the one of --nonce; the shares stay as they are
    #[arg(long, conflicts_with_all = ["pgp_key", "private_key_out"])]
    pub(crate) cancel: bool,
    #[command(flatten)]
    pub(crate) out: SharesOutArgs,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Begin a new term of encryption keys; shares stay as they are
///
/// New values are sealed under the new term at once; the store rewraps older records in the
/// background. In JSON it is `{"term", "terms", "rewrap"}`.
#[derive(clap::Args)]
pub(crate) struct RotateArgs {
    /// Destroy older terms when everything is rewrapped: copies of deleted records never open again
    #[arg(long)]
    pub(crate) retire: bool,
    /// Wait until everything is rewrapped
    #[arg(long)]
    pub(crate) wait: bool,
    /// Only say how far it is
    #[arg(long, conflicts_with = "retire")]
    pub(crate) status: bool,
    #[command(flatten)]
    pub(crate) store: StoreIdArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Who is to hold the shares of a new root key.
#[derive(clap::Args)]
#[command(next_help_heading = "New shares")]
pub(crate) struct CustodyArgs {
    /// How many shares there are; as many as keys, if not said
    #[arg(long, value_name = "N")]
    shares: Option<i64>,
    /// How many of them open the store
    #[arg(long, value_name = "K")]
    threshold: Option<i64>,
    /// A holder's OpenPGP public key, armoured or binary; once for each share
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "private_key_out")]
    pub(crate) pgp_key: Vec<PathBuf>,
    /// Make a 4096-bit key pair here for the only share, and keep its private half in this new file;
    /// `-` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) private_key_out: Option<PathBuf>,
}

impl CustodyArgs {
    /// Whether a private key is to go to stdout.
    pub(crate) fn prints_private_key(&self) -> bool {
        self.private_key_out.as_deref().is_some_and(|file| file.as_os_str() == "-")
    }

    /// Whether anything was said of new shares.
    pub(crate) fn is_given(&self) -> bool {
        !self.pgp_key.is_empty() || self.private_key_out.is_some()
    }

    /// The number of shares and the threshold.
    ///
    /// # Errors
    ///
    /// A usage error where the threshold must be said.
    pub(crate) fn counts(&self) -> Result<(i64, i64), clap::Error> {
        let keys = i64::try_from(self.pgp_key.len().max(1)).unwrap_or(i64::MAX);
        let shares = self.shares.unwrap_or(keys);
        match self.threshold {
            Some(threshold) => Ok((shares, threshold)),
            None if shares == 1 => Ok((1, 1)),
            None => Err(misuse("say with --threshold how many of the shares open the store")),
        }
    }
}

/// Where encrypted shares go.
#[derive(clap::Args)]
pub(crate) struct SharesOutArgs {
    /// Write each encrypted share to a file of its own in this folder, to be sent to its holder
    #[arg(long, value_name = "DIR")]
    pub(crate) shares_out: Option<PathBuf>,
}

/// Where a share comes from.
#[derive(clap::Args)]
#[command(next_help_heading = "The share")]
pub(crate) struct ShareArgs {
    /// A file with the decrypted share; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pgp_private_key", "gpg"])]
    share_file: Option<PathBuf>,
    /// Decrypt the share here, with this OpenPGP private key
    #[arg(long, value_name = "FILE", conflicts_with = "gpg")]
    pgp_private_key: Option<PathBuf>,
    /// A file whose first line is the private key's passphrase; without, it is asked for
    #[arg(long, value_name = "FILE", requires = "pgp_private_key")]
    passphrase_file: Option<PathBuf>,
    /// Decrypt the share here with the `gpg` of this machine, which may ask for a passphrase
    #[arg(long)]
    gpg: bool,
    /// With --pgp-private-key or --gpg: the encrypted share, binary or in hexadecimal digits, instead
    /// of asking the store for it; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "share_file")]
    encrypted_share: Option<PathBuf>,
}

impl ShareArgs {
    /// What was meant, if anything was said.
    pub(crate) fn take_source(&mut self) -> Option<ShareSource> {
        let encrypted = match self.encrypted_share.take() {
            Some(file) => Encrypted::Here(Input::named(file)),
            None => Encrypted::InTheStore,
        };
        let passphrase = self.passphrase_file.take().map(Input::named);
        match (self.share_file.take(), self.pgp_private_key.take(), self.gpg) {
            (Some(file), _, _) => Some(ShareSource::File(Input::named(file))),
            (_, Some(key), _) => {
                Some(ShareSource::PrivateKey { key: Input::named(key), passphrase, encrypted })
            }
            (_, _, true) => Some(ShareSource::Gpg { encrypted }),
            (None, None, false) => None,
        }
    }
}
