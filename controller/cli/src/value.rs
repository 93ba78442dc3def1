//! The value of a secret on its way to the store: where it comes from, and how long it may be.
//!
//! Bytes are taken as they are, to the last newline. What is longer than the store takes is refused
//! while it is read, so an endless file fills no memory. Errors name the source, never what it holds.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use zeroize::Zeroizing;

/// The longest value, in bytes: 1 MiB less 1 KiB, so that a record with its header fits into one
/// MiB. The store refuses more, too; here it is refused before it is sent.
pub(crate) const MAX_VALUE_BYTES: usize = 1024 * 1024 - 1024;

/// A value, wiped when dropped. It has no `Debug`, so that it cannot be logged.
pub(crate) enum Value {
    /// Any bytes.
    Bytes(Zeroizing<Vec<u8>>),
    /// Text, which other clients can read as JSON.
    Text(Zeroizing<String>),
}

/// Where a value comes from.
pub(crate) enum ValueSource {
    /// The command line holds it.
    Argument(String),
    /// It is what can be read here, whatever it is.
    Bytes(Input),
    /// It is what can be read here, and must be UTF-8.
    Text(Input),
}

impl ValueSource {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// `ReadError` for what cannot be opened or read, is too long, or is not text and should be.
    pub(crate) fn read(self) -> Result<Value, ReadError> {
        match self {
            Self::Argument(text) => {
                let text = Zeroizing::new(text);
                if text.len() > MAX_VALUE_BYTES {
                    return Err(ReadError::TooLong { input: "the value".to_owned() });
                }
                Ok(Value::Text(text))
            }
            Self::Bytes(input) => Ok(Value::Bytes(input.read()?)),
            Self::Text(input) => {
                let mut bytes = input.read()?;
                match String::from_utf8(std::mem::take(&mut *bytes)) {
                    Ok(text) => Ok(Value::Text(Zeroizing::new(text))),
                    Err(error) => {
                        drop(Zeroizing::new(error.into_bytes()));
                        Err(ReadError::NotText { input: input.to_string() })
                    }
                }
            }
        }
    }
}

/// A file, or stdin.
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

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        match self {
            Self::File(path) => {
                let file = File::open(path)
                    .map_err(|cause| ReadError::Open { input: self.to_string(), cause })?;
                self.read_from(file)
            }
            // A terminal shows what is typed, and a value is never an echo.
            Self::Stdin if io::stdin().is_terminal() => Err(ReadError::Terminal),
            Self::Stdin => self.read_from(io::stdin().lock()),
        }
    }

    fn read_from(&self, source: impl Read) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        // The whole length at once: a vector that grows leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE_BYTES + 1));
        source
            .take(MAX_VALUE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| ReadError::Read { input: self.to_string(), cause })?;
        match bytes.len() > MAX_VALUE_BYTES {
            true => Err(ReadError::TooLong { input: self.to_string() }),
            false => Ok(bytes),
        }
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Stdin => f.write_str("stdin"),
        }
    }
}

/// Why there is no value to send.
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
    #[error("{input} is longer than {MAX_VALUE_BYTES} bytes (1 MiB less 1 KiB)")]
    TooLong { input: String },
}

impl ReadError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotText { .. } => Some("`--file` takes any bytes".to_owned()),
            Self::Terminal => Some("pipe the value in, or name a file".to_owned()),
            Self::Open { .. } | Self::Read { .. } | Self::TooLong { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::repeat;

    use super::*;

    fn read_file(
        content: &[u8],
        source: impl FnOnce(Input) -> ValueSource,
    ) -> Result<Value, ReadError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        source(Input::named(file.path().to_owned())).read()
    }

    #[test]
    fn bytes_are_taken_as_they_are() {
        let content = b"\xff\x00 a line\r\n\n";

        let Ok(Value::Bytes(bytes)) = read_file(content, ValueSource::Bytes) else { panic!() };

        assert_eq!(*bytes, content);
    }

    #[test]
    fn text_keeps_its_last_newline() {
        let Ok(Value::Text(text)) = read_file("grün\n".as_bytes(), ValueSource::Text) else {
            panic!()
        };

        assert_eq!(*text, "grün\n");
    }

    #[test]
    fn text_that_is_none_is_refused_with_a_way_out() {
        let Err(error) = read_file(b"\xff", ValueSource::Text) else { panic!() };

        assert!(error.to_string().ends_with("is not UTF-8 text"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("`--file` takes any bytes"));
    }

    #[test]
    fn the_longest_value_is_taken_and_one_byte_more_is_not() {
        let longest = Input::Stdin.read_from(repeat(b'x').take(MAX_VALUE_BYTES as u64));
        let endless = Input::Stdin.read_from(repeat(b'x'));
        let argument = ValueSource::Argument("x".repeat(MAX_VALUE_BYTES + 1)).read();

        assert_eq!(longest.map(|bytes| bytes.len()).unwrap(), 1_047_552);
        assert!(matches!(endless, Err(ReadError::TooLong { .. })));
        assert!(matches!(argument, Err(ReadError::TooLong { .. })));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let Err(error) = ValueSource::Bytes(Input::named("no/such/file".into())).read() else {
            panic!()
        };

        assert_eq!(error.to_string(), "cannot open `no/such/file`");
    }

    #[test]
    fn a_dash_is_stdin() {
        assert!(matches!(Input::named("-".into()), Input::Stdin));
        assert!(matches!(Input::named("./-".into()), Input::File(_)));
    }
}
