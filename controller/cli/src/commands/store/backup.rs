//! `watchword store backup` and `store restore`: a file of ciphertext, of no use without shares.
//!
//! A backup has its name only when it is whole; a restoration is sent only when it is. Both may take
//! long, and show on a terminal how far they are; Ctrl-C leaves no piece of a file.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
};

use anyhow::Context;
use futures::stream;
use indicatif::{ProgressBar, ProgressStyle};
use watchword_store::archive::{self, Summary};

use super::reached;
use crate::{
    args::{BackupArgs, ReachArgs, RestoreArgs},
    new_file::Draft,
    output::Output,
};

pub(super) async fn run(
    args: BackupArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let BackupArgs { file, store } = args;
    let mut store = reached(reach, store, output).await?;
    if file.as_os_str() == "-" {
        store.backup(output.data()).await?;
        return Ok(output.data().flush()?);
    }
    let mut draft = Draft::begin(&file)?;
    let bar = spinner("backing up {bytes}, {elapsed}");
    let done = unless_interrupted(store.backup(&mut bar.wrap_write(draft.file()))).await;
    bar.finish_and_clear();
    done.with_context(|| format!("nothing was written to `{}`", file.display()))??;
    let summary = check(draft.file()).await.context("what came is no whole backup")?;
    draft.keep()?;
    output.note(&format!(
        "backed up store `{}` to `{}`: {} records",
        store.id,
        file.display(),
        summary.objects
    ));
    Ok(())
}

pub(super) async fn restore(
    args: RestoreArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let RestoreArgs { file, store } = args;
    let mut backup =
        File::open(&file).with_context(|| format!("cannot open `{}`", file.display()))?;
    let length = backup.metadata().context("cannot look at the backup")?.len();
    check(&mut backup).await.with_context(|| format!("cannot use `{}`", file.display()))?;
    let mut store = reached(reach, store, output).await?;
    let bar = bar(length);
    let done = unless_interrupted(store.restore(backup, length, bar.clone())).await;
    bar.finish_and_clear();
    done.context("the restoration has not come to its end, and can be repeated")??;
    output.note(&format!(
        "restored store `{}`; it is sealed, and the shares of the time of the backup open it",
        store.id
    ));
    Ok(())
}

/// What moves with a restoration of so many bytes.
pub(super) fn bar(length: u64) -> ProgressBar {
    // indicatif draws on stderr, and only where that is a terminal.
    let bar = ProgressBar::new(length);
    let template = "restoring {bar:40} {bytes} of {total_bytes}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn spinner(template: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    match ProgressStyle::with_template(template) {
        Ok(style) => spinner.with_style(style),
        Err(_) => spinner,
    }
}

/// Stops at Ctrl-C instead of ending at once, so that what was begun is cleaned up.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    tokio::select! {
        done = work => Ok(done),
        // Without signals nothing can be waited for but the work.
        Ok(()) = tokio::signal::ctrl_c() => Err(Interrupted),
    }
}

/// Somebody pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

/// Checks a backup as far as that is possible without shares; it can be read again afterwards.
async fn check(backup: &mut File) -> anyhow::Result<Summary> {
    backup.rewind()?;
    let summary = archive::check(stream::iter(Pieces(backup))).await?;
    backup.rewind()?;
    Ok(summary)
}

/// A file in pieces.
struct Pieces<'a>(&'a mut File);

impl Iterator for Pieces<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = vec![0; PIECE_BYTES];
        match self.0.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// How much of a file is in memory at once.
const PIECE_BYTES: usize = 64 * 1024;
