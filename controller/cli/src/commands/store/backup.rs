//! `watchword store backup` and `store restore`: a file of ciphertext, of no use without shares.
//!
//! A backup has its name only when it is whole; a restoration is sent only when it is.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
};

use anyhow::Context;
use futures::stream;
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
    let mut store = reached(reach, store).await?;
    if file.as_os_str() == "-" {
        store.backup(output.data()).await?;
        return Ok(output.data().flush()?);
    }
    let mut draft = Draft::begin(&file)?;
    store.backup(draft.file()).await?;
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
    let mut store = reached(reach, store).await?;
    store.restore(backup, length).await?;
    output.note(&format!(
        "restored store `{}`; it is sealed, and the shares of the time of the backup open it",
        store.id
    ));
    Ok(())
}

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
