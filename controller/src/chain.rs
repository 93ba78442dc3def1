//! Errors in logs: the whole chain of causes as one text.
//!
//! tracing-subscriber's JSON format shows only the outermost message of an error field, so errors
//! are logged as `error = %Chain(&error)`.

use std::{error::Error, fmt, iter};

/// An error with all its causes, outermost first, joined by `: `.
///
/// A cause whose text the message before it already ends with is left out: some libraries print
/// their causes themselves.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        for cause in iter::successors(self.0.source(), |&error| error.source()) {
            let text = cause.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn every_cause_is_said_once_outermost_first() {
        let error =
            Layer { text: "cannot read the certificate", source: io::Error::other("it is gone") };

        assert_eq!(Chain(&error).to_string(), "cannot read the certificate: it is gone");
    }

    #[test]
    fn a_message_that_holds_its_cause_already_is_not_followed_by_it() {
        let error =
            Layer { text: "cannot read: it is gone", source: io::Error::other("it is gone") };

        assert_eq!(Chain(&error).to_string(), "cannot read: it is gone");
    }
}
