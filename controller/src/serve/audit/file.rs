//! A file as a sink, rotated by size: `audit.log` is the newest, `audit.log.1` the one before, up to
//! the number of files to keep; then the oldest goes.
//!
//! The new file is made before the old one is moved, and locked before it has its name: whatever
//! fails on the way, lines go on into a file that will be read. One process has the log, which a
//! lock on the file says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::stream::MEND;

/// A log in files.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    /// How many older files are kept.
    older: usize,
    /// Whether the file ends within a line.
    is_torn: bool,
    /// Whether a synchronisation failed and is owed.
    is_unsynced: bool,
}

/// Why a log file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Another process writes it.
    #[error("another process writes it")]
    Locked,
    /// The file system refuses.
    #[error("the file system refuses")]
    Open(#[from] io::Error),
}

impl LogFile {
    /// Opens the log, and goes on behind what stands there. It is rotated when it has grown to
    /// `max_bytes`; of `files` files in all the oldest is dropped.
    pub(super) fn open(path: &Path, max_bytes: u64, files: usize) -> Result<Self, OpenLogError> {
        let mut file = options().create(true).open(path)?;
        lock(&file).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => OpenLogError::Locked,
            _ => OpenLogError::Open(error),
        })?;
        let bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        sync_folder(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            max_bytes,
            older: files.saturating_sub(1).max(1),
            is_torn: last != [b'\n'],
            is_unsynced: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What may not have reached the disk comes first: the log has no holes.
        if self.is_unsynced {
            self.sync()?;
        }
        let written = self.file.write_all(bytes);
        if written.is_ok() {
            self.bytes += bytes.len() as u64;
        } else {
            // The piece is taken back.
            self.is_torn = self.file.set_len(self.bytes).is_err();
        }
        written
    }

    pub(super) fn mend(&mut self) -> io::Result<u64> {
        if !self.is_torn {
            return Ok(0);
        }
        self.bytes = self.file.metadata()?.len();
        self.write(MEND)?;
        self.is_torn = false;
        Ok(1)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        let synced = self.file.sync_data();
        self.is_unsynced = synced.is_err();
        synced
    }

    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let next = self.numbered("new");
        // Left over from a rotation that did not come to its end; it was never written to.
        ignore_absence(fs::remove_file(&next))?;
        let file = options().create_new(true).open(&next)?;
        lock(&file)?;
        for number in (1..self.older).rev() {
            ignore_absence(fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        let before = self.numbered(1);
        fs::rename(&self.path, &before)?;
        if let Err(error) = fs::rename(&next, &self.path) {
            // The old file gets its name back, and goes on.
            fs::rename(&before, &self.path)?;
            return Err(error);
        }
        (self.file, self.bytes) = (file, 0);
        sync_folder(&self.path)
    }

    fn numbered(&self, number: impl std::fmt::Display) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Nobody but the store's own account reads the log from the disk.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

fn lock(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Makes the names in a folder safe from a loss of power.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn ignore_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
