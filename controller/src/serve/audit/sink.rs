//! One sink with the chain that goes to it. Every sink has a chain of its own, so that what one of
//! them fails to take leaves no hole in another.
//!
//! A line either stands in the sink whole, and the chain goes on from it, or it does not, and the
//! chain is as before. Of a write that broke off within a line the piece is taken back, where that is
//! possible; else it is ended, so that nothing is glued to it. The next line that can be written says
//! how many were lost, how many such pieces there are, and why.

use std::io;

use jiff::Timestamp;
use tracing::error;
use watchword_audit::{Chain, Entry, Line, SigningKey};

use super::OpenAuditError;
use super::file::LogFile;
use super::stream::Stream;
use crate::chain::Chain as Causes;

/// A sink and its chain.
pub(super) struct Sink {
    name: &'static str,
    chain: Chain,
    output: Output,
    /// What the log has yet to say of lines that it does not have.
    lost: Lost,
}

#[derive(Default)]
struct Lost {
    lines: u64,
    torn: u64,
    cause: String,
}

/// Where the bytes go.
pub(super) enum Output {
    File(LogFile),
    Stream(Stream),
}

impl Sink {
    pub(super) fn new(
        name: &'static str,
        output: Output,
        replica: &str,
    ) -> Result<Self, OpenAuditError> {
        let mut boot = [0; 8];
        aws_lc_rs::rand::fill(&mut boot).map_err(|_| OpenAuditError::Random)?;
        Ok(Self { name, chain: Chain::new(replica, boot), output, lost: Lost::default() })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Opens the chain.
    pub(super) fn begin(&mut self, time: Timestamp) -> io::Result<()> {
        let torn = self.output.mend()?;
        let line = self.chain.open(time, torn)?;
        self.put(&line)
    }

    /// Writes a line, and a checkpoint if it is time for one.
    pub(super) fn write(
        &mut self,
        time: Timestamp,
        entry: &Entry<'_>,
        object: Option<&str>,
    ) -> io::Result<()> {
        let written = self.write_line(time, entry, object);
        match &written {
            Ok(()) if self.chain.is_checkpoint_due() => self.checkpoint(time),
            Ok(()) => {}
            Err(cause) => {
                self.lost.lines += 1;
                self.lost.cause = cause.to_string();
            }
        }
        written
    }

    /// Signs from now on, and what stands there already.
    pub(super) fn sign_with(&mut self, key: SigningKey, time: Timestamp) {
        self.chain.sign_with(Some(key));
        self.checkpoint(time);
    }

    /// Signs what stands there, and no more from now on.
    pub(super) fn seal(&mut self, time: Timestamp) {
        self.checkpoint(time);
        self.chain.sign_with(None);
    }

    /// Signs what is not signed yet. What fails is tried again after the next line.
    pub(super) fn checkpoint(&mut self, time: Timestamp) {
        let signed =
            self.say_what_was_lost(time).and_then(|()| match self.chain.checkpoint(time)? {
                None => Ok(()),
                Some(line) => self.put(&line).and_then(|()| self.output.sync()),
            });
        self.report(signed, "cannot sign the audit log");
    }

    /// Ends the chain.
    pub(super) fn close(&mut self, time: Timestamp) {
        let closed = self
            .say_what_was_lost(time)
            .and_then(|()| Ok(self.chain.close(time)?))
            .and_then(|line| self.put(&line))
            .and_then(|()| self.output.sync());
        self.report(closed, "cannot close the audit log");
    }

    fn write_line(
        &mut self,
        time: Timestamp,
        entry: &Entry<'_>,
        object: Option<&str>,
    ) -> io::Result<()> {
        self.say_what_was_lost(time)?;
        if self.output.is_full() {
            // Every file ends with a signature, so that it can be verified by itself.
            self.checkpoint(time);
            // A file that grows too long is better than a line that is lost.
            let rotated = self.output.rotate();
            self.report(rotated, "cannot rotate the audit log");
        }
        let line = self.chain.entry(time, entry, object)?;
        self.put(&line)
    }

    fn say_what_was_lost(&mut self, time: Timestamp) -> io::Result<()> {
        self.lost.torn += self.output.mend()?;
        let Lost { lines, torn, cause } = &self.lost;
        if (*lines, *torn) == (0, 0) {
            return Ok(());
        }
        let line = self.chain.lost(time, *lines, *torn, cause)?;
        self.put(&line)?;
        self.lost = Lost::default();
        Ok(())
    }

    fn put(&mut self, line: &Line) -> io::Result<()> {
        self.output.write(line.bytes())?;
        self.chain.written(line);
        Ok(())
    }

    fn report(&self, result: io::Result<()>, what: &str) {
        if let Err(cause) = result {
            error!(sink = self.name, error = %Causes(&cause), "{what}");
        }
    }
}

impl Output {
    /// Writes all or fails; what was written of a line that failed, [`Output::mend`] ends.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    /// Makes sure that the next line begins a line; returns how many pieces stand before it that it
    /// does not tell of yet.
    fn mend(&mut self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.mend(),
            Self::Stream(stream) => stream.mend(),
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::File(file) if file.is_full())
    }

    fn rotate(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.rotate(),
            Self::Stream(_) => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync(),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl From<LogFile> for Output {
    fn from(file: LogFile) -> Self {
        Self::File(file)
    }
}

impl From<Stream> for Output {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

#[cfg(test)]
mod tests;
