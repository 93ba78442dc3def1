//! What the path of a request speaks of: a secret, or a folder to list.
//!
//! The path is taken from the URL as it came, decoded once, then parsed. What does not parse (`..`,
//! `//`, a second encoding, a slash at the end of a secret) is refused before anyone is asked
//! whether it is allowed: nobody ever judges a text that means something else to the next one.

use percent_encoding::percent_decode_str;
use watchword_protocol::ErrorCode;
use watchword_store::SecretPath;

use crate::serve::Failure;

/// A secret, or a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// A folder: everything below this path, or, without one, everything.
    Folder(Option<SecretPath>),
    /// A secret.
    Secret(SecretPath),
}

impl Target {
    /// Reads what follows the API's own part of a raw path: `<store>/<path>`. A folder may end with
    /// a slash, a secret may not.
    ///
    /// # Errors
    ///
    /// `NotFound` for another store than the one there is, `BadRequest` for what is no path.
    pub(super) fn parse(rest: &str, is_folder: bool) -> Result<Self, Failure> {
        let (store, path) = rest.split_once('/').unwrap_or((rest, ""));
        known_store(store)?;
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| bad("the path is not UTF-8".to_owned()))?;
        let trimmed = match is_folder {
            true => decoded.strip_suffix('/').unwrap_or(&decoded),
            false => &decoded,
        };
        if trimmed.is_empty() {
            return match is_folder {
                // `//` is not the root.
                true if decoded.is_empty() => Ok(Self::Folder(None)),
                true => Err(bad("a part between slashes is empty".to_owned())),
                false => Err(bad("the path of a secret is missing".to_owned())),
            };
        }
        // A leading slash is for people who type paths; in a URL it would be an empty component.
        if trimmed.starts_with('/') {
            return Err(bad("a part between slashes is empty".to_owned()));
        }
        let path: SecretPath =
            trimmed.parse().map_err(|error| bad(format!("the path is not a secret's: {error}")))?;
        Ok(match is_folder {
            true => Self::Folder(Some(path)),
            false => Self::Secret(path),
        })
    }

    /// The canonical text: empty for the root, and a folder ends with `/`.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Folder(None) => String::new(),
            Self::Folder(Some(path)) => format!("{path}/"),
            Self::Secret(path) => path.to_string(),
        }
    }
}

/// Refuses every store but the one there is.
///
/// # Errors
///
/// `NotFound`.
pub(in crate::serve) fn known_store(store: &str) -> Result<(), Failure> {
    match store {
        "default" => Ok(()),
        _ => Err(Failure::new(
            ErrorCode::NotFound,
            "there is no such store; the only one is `default`",
        )),
    }
}

fn bad(message: String) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("default/shop/db", false, Some("shop/db"))]
    #[case("default/shop%2Fdb", false, Some("shop/db"))]
    #[case("default/%73hop/db", false, Some("shop/db"))]
    #[case("default/shop/", true, Some("shop/"))]
    #[case("default/shop", true, Some("shop/"))]
    #[case("default/", true, Some(""))]
    #[case("default", true, Some(""))]
    #[case("default/", false, None)]
    #[case("default", false, None)]
    #[case("default//", true, None)]
    #[case("default/%2F", true, None)]
    #[case("default/shop/db/", false, None)]
    #[case("default//shop/db", false, None)]
    #[case("default/%2Fshop/db", false, None)]
    #[case("default/shop//db", false, None)]
    #[case("default/shop/%2Fdb", false, None)]
    #[case("default/shop//", true, None)]
    #[case("default/shop/../bank/db", false, None)]
    #[case("default/shop/%2e%2e/bank", false, None)]
    #[case("default/shop/.", true, None)]
    #[case("default/shop%252Fdb", false, None)]
    #[case("default/shop%5Cdb", false, None)]
    #[case("default/shop/db%00", false, None)]
    #[case("default/shop/db%0a", false, None)]
    #[case("default/shop/%ff", false, None)]
    #[case("default/shop/%C0%AE%C0%AE/db", false, None)]
    #[case("default/shop/%E2%80%AE", false, None)]
    #[case("default/sh%C3%B6p/db", false, None)]
    #[case("default/shop/%", false, None)]
    #[case("default/shop/*", false, None)]
    #[case("default/shop/", false, None)]
    #[case("other/shop/db", false, None)]
    #[case("DEFAULT/shop/db", false, None)]
    #[case("default%2Fshop/db", false, None)]
    #[case("", true, None)]
    fn paths_are_decoded_once_and_parsed(
        #[case] rest: &str,
        #[case] is_folder: bool,
        #[case] expected: Option<&str>,
    ) {
        let target = Target::parse(rest, is_folder);

        assert_eq!(target.ok().map(|target| target.text()).as_deref(), expected);
    }

    #[test]
    fn an_overlong_path_is_refused_without_being_said_back() {
        let failure = Target::parse(&format!("default/{}", "a".repeat(60_000)), false).unwrap_err();

        assert!(failure.message.contains("at most 253 bytes"), "{}", failure.message);
        assert!(failure.message.len() < 200);
    }

    proptest! {
        /// Whatever is asked about is canonical: it says the same when it is read again, and it
        /// holds nothing that anyone would decode or resolve once more.
        #[test]
        fn what_parses_is_canonical(rest in "(default/)?[a-z%./0-9A-F]{0,30}", folder: bool) {
            if let Ok(target) = Target::parse(&rest, folder) {
                let text = target.text();
                prop_assert_eq!(&Target::parse(&format!("default/{text}"), folder).unwrap(), &target);
                prop_assert!(!text.contains("//") && !text.contains('%') && !text.contains('.'));
                prop_assert_eq!(text.ends_with('/'), folder && !text.is_empty());
            }
        }

        #[test]
        fn no_path_is_too_strange(rest in ".{0,600}", folder: bool) {
            if let Err(failure) = Target::parse(&rest, folder) {
                prop_assert!(failure.message.len() < 2000);
            }
        }
    }
}
