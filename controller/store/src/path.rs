//! Secret paths: the names that secrets have in the store.
//!
//! `/shop/db` and `shop/db` are one secret: parsing drops one leading slash. What has been parsed
//! needs no further check anywhere. This module knows nothing of values, spaces or back ends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The path of a secret: 1 to 253 bytes, segments of `A-Z`, `a-z`, `0-9`, `-` and `_` between `/`.
///
/// Source: the rule of the DC/OS web interface.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretPath(String);

impl SecretPath {
    /// The path as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this path lies below `directory`, by whole segments; no path lies below itself.
    pub fn is_below(&self, directory: &Self) -> bool {
        self.0.strip_prefix(&directory.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for SecretPath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, ParsePathError> {
        let path = text.strip_prefix('/').unwrap_or(text);
        if path.is_empty() {
            return Err(ParsePathError::Empty);
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(ParsePathError::TooLong { bytes: path.len() });
        }
        match path.split('/').find(|segment| !is_segment(segment)) {
            None => Ok(Self(path.to_owned())),
            Some("") => Err(ParsePathError::EmptySegment),
            Some(segment) => Err(ParsePathError::BadSegment { segment: segment.to_owned() }),
        }
    }
}

impl TryFrom<String> for SecretPath {
    type Error = ParsePathError;

    fn try_from(text: String) -> Result<Self, ParsePathError> {
        text.parse()
    }
}

impl From<SecretPath> for String {
    fn from(path: SecretPath) -> Self {
        path.0
    }
}

impl AsRef<str> for SecretPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the path of a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePathError {
    /// A segment holds a byte outside `A-Z`, `a-z`, `0-9`, `-` and `_`.
    #[error(
        "the segment `{segment}` may hold only letters, digits, dashes and underscores (`A-Za-z0-9-_`)"
    )]
    BadSegment {
        /// The first such segment.
        segment: String,
    },
    /// Nothing is left after the leading slash.
    #[error("the path of a secret must not be empty")]
    Empty,
    /// Two slashes in a row, or one at the end.
    #[error("the path of a secret must not have an empty segment or end with a slash")]
    EmptySegment,
    /// More than [`MAX_PATH_BYTES`].
    #[error("the path of a secret may have at most {MAX_PATH_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// The length without a leading slash.
        bytes: usize,
    },
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The longest path in bytes, without a leading slash.
pub const MAX_PATH_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("db", "db")]
    #[case("/db", "db")]
    #[case("shop/db", "shop/db")]
    #[case("/shop/web/DB_pass-word0", "shop/web/DB_pass-word0")]
    fn a_leading_slash_makes_no_difference(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(text.parse::<SecretPath>().unwrap().as_str(), canonical);
    }

    #[rstest]
    #[case("", ParsePathError::Empty)]
    #[case("/", ParsePathError::Empty)]
    #[case("//db", ParsePathError::EmptySegment)]
    #[case("shop//db", ParsePathError::EmptySegment)]
    #[case("shop/db/", ParsePathError::EmptySegment)]
    #[case("shop/../db", ParsePathError::BadSegment { segment: "..".to_owned() })]
    #[case("shop%2Fdb", ParsePathError::BadSegment { segment: "shop%2Fdb".to_owned() })]
    #[case("shop/d b", ParsePathError::BadSegment { segment: "d b".to_owned() })]
    #[case("shop/dé", ParsePathError::BadSegment { segment: "dé".to_owned() })]
    #[case("shop/db\n", ParsePathError::BadSegment { segment: "db\n".to_owned() })]
    fn what_is_not_a_path_is_refused(#[case] text: &str, #[case] error: ParsePathError) {
        assert_eq!(text.parse::<SecretPath>().unwrap_err(), error);
    }

    #[test]
    fn a_path_has_at_most_253_bytes() {
        assert!("a".repeat(253).parse::<SecretPath>().is_ok());
        assert!(format!("/{}", "a".repeat(253)).parse::<SecretPath>().is_ok());
        assert_eq!(
            "a".repeat(254).parse::<SecretPath>().unwrap_err(),
            ParsePathError::TooLong { bytes: 254 }
        );
    }

    #[rstest]
    #[case("shop/db", "shop", true)]
    #[case("shop/web/db", "shop", true)]
    #[case("shopping/db", "shop", false)]
    #[case("shop", "shop", false)]
    fn directories_are_compared_by_whole_segments(
        #[case] path: &str,
        #[case] directory: &str,
        #[case] below: bool,
    ) {
        let path: SecretPath = path.parse().unwrap();

        assert_eq!(path.is_below(&directory.parse().unwrap()), below);
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(text in "[A-Za-z0-9_-]{1,9}(/[A-Za-z0-9_-]{1,9}){0,4}") {
            let path: SecretPath = text.parse().unwrap();

            prop_assert_eq!(path.to_string().parse::<SecretPath>().unwrap(), path);
        }

        #[test]
        fn parsing_never_panics_and_agrees_with_serde(text in ".{0,300}") {
            let parsed = text.parse::<SecretPath>().ok();
            let json = serde_json::to_string(&text).unwrap();

            prop_assert_eq!(serde_json::from_str::<SecretPath>(&json).ok(), parsed);
        }
    }
}
