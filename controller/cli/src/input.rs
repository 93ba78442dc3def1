//! What is read from a file or from stdin: bytes, at most so many, in memory that is wiped.
//!
//! What is longer than it may be is refused while it is read, so an endless file fills no memory.
//! Errors name the source, never what it holds.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use zeroize::Zeroizing;

/// A file, or stdin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Input {
    /// A file by its path.
    File(PathBuf),
    /// What is piped in.
    Stdin,
}

impl Input {
    /// What a name on the command line means: `-` is stdin.
    pub(crate) fn named(name: PathBuf) -> Self {
        match name.as_os_str() == "-" {
            true => Self::Stdin,
            false => Self::File(name),
        }
    }

    /// Reads all of it, of which there may be `limit` bytes.
    ///
    /// # Errors
    ///
    /// `ReadError` for what cannot be opened or read, or is longer; and for a terminal, because it
    /// shows what is typed.
    pub(crate) fn read(&self, limit: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        match self {
            Self::File(path) => {
                let file = File::open(path)
                    .map_err(|cause| ReadError::Open { input: self.to_string(), cause })?;
                self.read_from(file, limit)
            }
            Self::Stdin if io::stdin().is_terminal() => Err(ReadError::Terminal),
            Self::Stdin => self.read_from(io::stdin().lock(), limit),
        }
    }

    /// The same, of UTF-8 text.
    ///
    /// # Errors
    ///
    /// `ReadError` also for what is not text.
    pub(crate) fn read_text(&self, limit: usize) -> Result<Zeroizing<String>, ReadError> {
        let mut bytes = self.read(limit)?;
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(ReadError::NotText { input: self.to_string() })
            }
        }
    }

    fn read_from(&self, source: impl Read, limit: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        // The whole length at once: a vector that grows leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        source
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| ReadError::Read { input: self.to_string(), cause })?;
        match bytes.len() > limit {
            true => Err(ReadError::TooLong { input: self.to_string(), limit }),
            false => Ok(bytes),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Stdin => f.write_str("stdin"),
        }
    }
}

/// Why there is nothing to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{input} is not UTF-8 text")]
    NotText { input: String },
    #[error("cannot open {input}")]
    Open {
        input: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot read {input}")]
    Read {
        input: String,
        #[source]
        cause: io::Error,
    },
    #[error("stdin is a terminal, which would show what is typed")]
    Terminal,
    #[error("{input} is longer than {limit} bytes")]
    TooLong { input: String, limit: usize },
}

impl ReadError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Terminal => Some("pipe it in, or name a file".to_owned()),
            Self::NotText { .. } | Self::Open { .. } | Self::Read { .. } | Self::TooLong { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::repeat;

    use super::*;

    #[test]
    fn as_much_as_may_be_is_taken_and_one_byte_more_is_not() {
        let longest = Input::Stdin.read_from(repeat(b'x').take(1000), 1000);
        let endless = Input::Stdin.read_from(repeat(b'x'), 1000);

        assert_eq!(longest.map(|bytes| bytes.len()).unwrap(), 1000);
        assert_eq!(endless.err().unwrap().to_string(), "stdin is longer than 1000 bytes");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Input::named("no/such/file".into()).read(1).err().unwrap();

        assert_eq!(error.to_string(), "cannot open `no/such/file`");
    }

    #[test]
    fn a_dash_is_stdin() {
        assert_eq!(Input::named("-".into()), Input::Stdin);
        assert_eq!(Input::named("./-".into()), Input::File("./-".into()));
    }
}
