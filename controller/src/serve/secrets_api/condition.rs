//! Conditions on the version that is there: `If-Match` and `If-None-Match`.
//!
//! A secret's ETag is its version in quotes. One condition names one version: a list would have to
//! be judged at the moment of the write, and no client needs it.

use axum::http::{HeaderMap, HeaderName, header};
use watchword_protocol::ErrorCode;

use crate::serve::Failure;

/// What a header names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tag {
    /// `*`: any version, as long as there is one.
    Any,
    /// An ETag that no version of ours has.
    Other,
    /// The ETag of this version.
    Version(u64),
}

/// The conditions of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Conditions {
    /// `If-Match`: go on only if this is there.
    pub(super) matches: Option<Tag>,
    /// `If-None-Match`: go on only if this is not there.
    pub(super) none_matches: Option<Tag>,
}

impl Conditions {
    /// Reads both headers.
    ///
    /// # Errors
    ///
    /// `BadRequest` for what is no ETag, or more than one.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        Ok(Self {
            matches: tag(headers, &header::IF_MATCH)?,
            none_matches: tag(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Refuses both conditions where neither means anything.
    ///
    /// # Errors
    ///
    /// `BadRequest`.
    pub(super) fn none(self) -> Result<(), Failure> {
        match self {
            Self { matches: None, none_matches: None } => Ok(()),
            _ => Err(bad("If-Match and If-None-Match mean nothing to this request".to_owned())),
        }
    }

    /// The condition of a request that changes what is there: only `If-Match`.
    ///
    /// # Errors
    ///
    /// `BadRequest`.
    pub(super) fn only_match(self) -> Result<Option<Tag>, Failure> {
        match self.none_matches {
            None => Ok(self.matches),
            Some(_) => Err(bad("If-None-Match goes with GET and PUT; use If-Match".to_owned())),
        }
    }

    /// The condition of a request that reads: only `If-None-Match`.
    ///
    /// # Errors
    ///
    /// `BadRequest`.
    pub(super) fn only_none_match(self) -> Result<Option<Tag>, Failure> {
        match self.matches {
            None => Ok(self.none_matches),
            Some(_) => {
                Err(bad("If-Match goes with PATCH and DELETE; use If-None-Match".to_owned()))
            }
        }
    }

    /// Whether a request that creates has the one condition that it may have, `If-None-Match: *`.
    ///
    /// # Errors
    ///
    /// `BadRequest`.
    pub(super) fn only_absent(self) -> Result<bool, Failure> {
        match self {
            Self { matches: None, none_matches: None } => Ok(false),
            Self { matches: None, none_matches: Some(Tag::Any) } => Ok(true),
            _ => Err(bad("PUT creates: its only condition is `If-None-Match: *`".to_owned())),
        }
    }
}

/// The ETag of a version.
pub(super) fn etag(version: u64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

fn tag(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tag>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = || bad(format!("{name} must be `*` or one ETag, a version in quotes: `\"3\"`"));
    if values.next().is_some() {
        return Err(refused());
    }
    let text = value.to_str().map_err(|_| refused())?.trim();
    if text == "*" {
        return Ok(Some(Tag::Any));
    }
    let (is_weak, quoted) = match text.strip_prefix("W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains('"')).ok_or_else(refused)?;
    // Only the canonical form is a version's; a weak ETag equals none where bytes count.
    let version =
        inner.parse().ok().filter(|version: &u64| !is_weak && version.to_string() == inner);
    Ok(Some(version.map_or(Tag::Other, Tag::Version)))
}

fn bad(message: String) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn parsed(value: &[u8]) -> Result<Option<Tag>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_bytes(value).unwrap());
        Conditions::parse(&headers).map(|conditions| conditions.matches)
    }

    #[rstest]
    #[case("*", Tag::Any)]
    #[case("\"3\"", Tag::Version(3))]
    #[case(" \"3\" ", Tag::Version(3))]
    #[case("\"03\"", Tag::Other)]
    #[case("\"x\"", Tag::Other)]
    #[case("\"\"", Tag::Other)]
    #[case("W/\"3\"", Tag::Other)]
    fn one_etag_is_read(#[case] value: &str, #[case] tag: Tag) {
        assert_eq!(parsed(value.as_bytes()).unwrap(), Some(tag));
    }

    #[rstest]
    #[case(b"3")]
    #[case(b"\"3")]
    #[case(b"\"3\", \"4\"")]
    #[case(b"")]
    #[case(b"\xff")]
    fn what_is_not_one_etag_is_refused(#[case] value: &[u8]) {
        assert_eq!(parsed(value).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn a_header_that_comes_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::IF_MATCH, HeaderValue::from_static("\"1\""));
        headers.append(header::IF_MATCH, HeaderValue::from_static("\"2\""));

        assert!(Conditions::parse(&headers).is_err());
    }

    #[test]
    fn a_condition_that_means_nothing_is_refused_rather_than_forgotten() {
        let some = Some(Tag::Version(1));
        let matching = Conditions { matches: some, none_matches: None };
        let absent = Conditions { matches: None, none_matches: Some(Tag::Any) };
        let differs = Conditions { matches: None, none_matches: some };

        assert_eq!(matching.only_match().unwrap(), some);
        assert!(absent.only_absent().unwrap());
        assert!(!Conditions::default().only_absent().unwrap());
        for refused in [matching.only_absent(), differs.only_absent()] {
            assert!(refused.is_err());
        }
        assert!(absent.only_match().is_err());
        assert_eq!(differs.only_none_match().unwrap(), some);
        assert!(matching.only_none_match().is_err());
        assert!(matching.none().is_err() && absent.none().is_err());
    }

    proptest! {
        #[test]
        fn the_etag_of_a_version_is_read_back(version: u64) {
            let [(_, value)] = etag(version);

            prop_assert_eq!(parsed(value.as_bytes()).unwrap(), Some(Tag::Version(version)));
        }
    }
}
