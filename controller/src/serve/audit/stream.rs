//! Standard output as a sink: what the container runtime keeps, and `kubectl logs` shows.
//!
//! The descriptor is written to directly, without a buffer, so that it is known how much of a line
//! went out. A reader that does not read must not hang the store for ever: a line is written when
//! the pipe has room for it, which is waited for once and then no more until there is.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A descriptor that lines are written to.
pub(super) struct Stream {
    file: File,
    /// Whether a piece of a line has gone out that nothing ends.
    is_torn: bool,
    /// Whether the reader has been waited for in vain.
    is_stalled: bool,
    patience: Duration,
}

impl Stream {
    /// Standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub(super) fn new(file: File) -> Self {
        Self { file, is_torn: false, is_stalled: false, patience: PATIENCE }
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.write_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    self.is_torn |= rest.len() < bytes.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    pub(super) fn mend(&mut self) -> io::Result<u64> {
        if !self.is_torn {
            return Ok(0);
        }
        // Should this break off as well, the next one ends the same piece.
        let mut rest = MEND;
        while !rest.is_empty() {
            rest = &rest[self.write_some(rest)?..];
        }
        self.is_torn = false;
        Ok(1)
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for_room()?;
        match self.file.write(bytes) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// A pipe that has room has room for a whole line: Linux counts it in pages.
    fn wait_for_room(&mut self) -> io::Result<()> {
        let patience = if self.is_stalled { Duration::ZERO } else { self.patience };
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut descriptors = [PollFd::new(&self.file, PollFlags::OUT)];
        let ready = match poll(&mut descriptors, Some(&timeout)) {
            Ok(ready) => ready,
            // A signal: writing may now wait as long as it takes, which it rarely does.
            Err(rustix::io::Errno::INTR) => 1,
            Err(error) => return Err(error.into()),
        };
        self.is_stalled = ready == 0;
        match self.is_stalled {
            true => Err(io::Error::new(ErrorKind::TimedOut, "nobody reads the log")),
            false => Ok(()),
        }
    }
}

/// What ends a piece of a line: no line can end so.
pub(super) const MEND: &[u8] = b" (cut short)\n";

/// How long a reader is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
