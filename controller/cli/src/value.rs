//! The value of a secret on its way to the store: where it comes from, and how long it may be.
//!
//! Bytes are taken as they are, to the last newline. Errors name the source, never what it holds.

use zeroize::Zeroizing;

use crate::input::{Input, ReadError};

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
    /// `ValueError` for what cannot be read, is too long, or is not text and should be.
    pub(crate) fn read(self) -> Result<Value, ValueError> {
        match self {
            Self::Argument(text) => {
                let text = Zeroizing::new(text);
                if text.len() > MAX_VALUE_BYTES {
                    let input = "the value".to_owned();
                    return Err(ReadError::TooLong { input, limit: MAX_VALUE_BYTES }.into());
                }
                Ok(Value::Text(text))
            }
            Self::Bytes(input) => Ok(Value::Bytes(input.read(MAX_VALUE_BYTES)?)),
            Self::Text(input) => Ok(Value::Text(input.read_text(MAX_VALUE_BYTES)?)),
        }
    }
}

/// Why there is no value to send.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ValueError(#[from] ReadError);

impl ValueError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match &self.0 {
            ReadError::NotText { .. } => Some("`--file` takes any bytes".to_owned()),
            ReadError::TooLong { limit: MAX_VALUE_BYTES, .. } => {
                Some("that is 1 MiB less 1 KiB, and all that a secret can have".to_owned())
            }
            error => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_file(
        content: &[u8],
        source: impl FnOnce(Input) -> ValueSource,
    ) -> Result<Value, ValueError> {
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
    fn a_value_that_is_too_long_is_refused_wherever_it_comes_from() {
        let longest = read_file(&vec![b'x'; 1_047_552], ValueSource::Bytes);
        let longer = read_file(&vec![b'x'; 1_047_553], ValueSource::Bytes);
        let argument = ValueSource::Argument("x".repeat(1_047_553)).read();

        assert!(longest.is_ok());
        assert!(matches!(longer, Err(ValueError(ReadError::TooLong { .. }))));
        assert!(matches!(argument, Err(ValueError(ReadError::TooLong { .. }))));
    }
}
