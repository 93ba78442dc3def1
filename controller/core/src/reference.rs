//! References: how a task definition names a secret, and what `key` takes out of one.
//!
//! `/shop/db` and `shop/db` are one secret: parsing drops one leading slash, and what has been
//! parsed needs no further check anywhere. This module knows nothing of spaces or stores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

/// The name of a secret: 1 to 253 bytes, segments of `A-Z`, `a-z`, `0-9`, `-` and `_` between `/`,
/// without a leading slash.
///
/// Source: the rule of the DC/OS web interface; its CLI accepts one leading slash.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SecretName(String);

impl SecretName {
    /// The name without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the last `/`, by which spaces are judged; empty for a name without one.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        match name.split('/').find(|segment| !is_segment(segment)) {
            None => Ok(Self(name.to_owned())),
            Some("") => Err(NameError::EmptySegment),
            Some(segment) => Err(NameError::BadSegment { segment: segment.to_owned() }),
        }
    }
}

/// Why a text is no name of a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A segment holds something else than letters, digits, `-` and `_`.
    #[error("`{}` is no part of a secret's name; use letters, digits, `-` and `_` between slashes", .segment.escape_debug())]
    BadSegment {
        /// The segment.
        segment: String,
    },
    /// There is no name, or nothing but a slash.
    #[error("the name is empty; use one like `shop/db`")]
    Empty,
    /// Two slashes follow each other, or one is at the end.
    #[error("a part between slashes is empty; use single slashes and none at the end")]
    EmptySegment,
    /// The name is longer than 253 bytes.
    #[error("the name has {bytes} bytes; use at most 253")]
    TooLong {
        /// The length of the name.
        bytes: usize,
    },
}

/// Takes `key` out of a secret's value: the value itself, byte for byte, when there is none, else
/// the text of that member of a JSON object. Of equal members the last counts, as in JavaScript.
///
/// # Errors
///
/// If `key` is asked for and the value is no JSON object, has no such member, or the member is no
/// text. The error says what is there instead, and shows no part of any value.
pub fn pick(value: &[u8], key: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    Picked::of(value, key).get(key).map(|bytes| Zeroizing::new(bytes.to_vec()))
}

/// What keys take out of one value, as [`pick`] does, which is read once for all of them.
pub struct Picked<'a> {
    found: Found<'a>,
    value: &'a [u8],
}

impl<'a> Picked<'a> {
    /// Looks for these keys, and for no others.
    pub fn of(value: &'a [u8], keys: impl IntoIterator<Item = &'a str>) -> Self {
        let members: BTreeMap<_, _> = keys.into_iter().map(|key| (key, None)).collect();
        let found = match std::str::from_utf8(value) {
            // What is skipped would otherwise not be looked at, and bytes that are no text pass for
            // JSON.
            Ok(text) if !members.is_empty() => {
                let mut json = serde_json::Deserializer::from_str(text);
                json.deserialize_any(PickMembers { members })
                    .and_then(|found| {
                        json.end()?;
                        Ok(found)
                    })
                    // The parser's own message could quote the value: it is dropped.
                    .unwrap_or(Found::Other(NOT_JSON))
            }
            _ => Found::Other(NOT_JSON),
        };
        Self { found, value }
    }

    /// What `key`, which was looked for, takes out of the value; all of it without one.
    ///
    /// # Errors
    ///
    /// Those of [`pick`].
    pub fn get(&self, key: Option<&str>) -> Result<&[u8], KeyError> {
        let Some(key) = key else { return Ok(self.value) };
        match &self.found {
            Found::Object { members, names } => match members.get(key) {
                Some(Some(Member::Text(text))) => Ok(text.as_bytes()),
                Some(Some(Member::Other(found))) => {
                    Err(KeyError::NotText { key: key.to_owned(), found })
                }
                Some(None) | None => {
                    Err(KeyError::NoMember { key: key.to_owned(), there: listing(names) })
                }
            },
            Found::Other(found) => Err(KeyError::NotObject { key: key.to_owned(), found }),
        }
    }
}

/// Why a key cannot be taken out of a secret. No part of a value is in any variant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The object has no such member.
    #[error("the secret has no member `{key}`; {there}")]
    NoMember {
        /// What was asked for.
        key: String,
        /// The names of the members that are there, as text.
        there: String,
    },
    /// The secret is no JSON object.
    #[error("the key `{key}` needs a secret that is a JSON object, and this one is {found}")]
    NotObject {
        /// What was asked for.
        key: String,
        /// What is there.
        found: &'static str,
    },
    /// The member is no text.
    #[error("the secret's member `{key}` is {found}; only texts can be taken")]
    NotText {
        /// What was asked for.
        key: String,
        /// What is there.
        found: &'static str,
    },
}

/// What a secret's value turned out to be.
enum Found<'a> {
    /// An object: the members looked for, and the names of all.
    Object { members: BTreeMap<&'a str, Option<Member>>, names: Vec<String> },
    /// Not an object, but what it says.
    Other(&'static str),
}

/// What a member turned out to be.
enum Member {
    Other(&'static str),
    Text(Zeroizing<String>),
}

/// Reads an object and keeps some members; the others are skipped without being stored.
struct PickMembers<'a> {
    members: BTreeMap<&'a str, Option<Member>>,
}

impl<'a, 'de> Visitor<'de> for PickMembers<'a> {
    type Value = Found<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'a>, A::Error> {
        let Self { mut members } = self;
        let mut names = Vec::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match members.get_mut(&*name) {
                Some(member) => *member = Some(map.next_value_seed(ReadMember)?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            names.push(name.into_owned());
        }
        Ok(Found::Object { members, names })
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Found<'a>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other("a JSON list"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON text"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON number"))
    }

    fn visit_unit<E>(self) -> Result<Found<'a>, E> {
        Ok(Found::Other("a JSON null"))
    }
}

/// Reads one member: its text, or what it is instead.
struct ReadMember;

impl<'de> DeserializeSeed<'de> for ReadMember {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadMember {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other("an object"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other("a list"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other("a number"))
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Other("null"))
    }
}

/// The members' names, for a message. Only such as look like names, and only a few: a secret could
/// have been stored as the name of a member by mistake.
fn listing(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .filter(|name| name.len() <= MAX_SHOWN_NAME_BYTES && is_segment(name))
        .take(MAX_SHOWN_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    match (shown.as_slice(), names.len() - shown.len()) {
        ([], 0) => "it is empty".to_owned(),
        ([], others) => format!("it has {others} others"),
        (shown, 0) => format!("it has {}", shown.join(", ")),
        (shown, others) => format!("it has {} and {others} more", shown.join(", ")),
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// As the DC/OS reference suggests: what Kubernetes allows in names of its own.
const MAX_NAME_BYTES: usize = 253;

const NOT_JSON: &str = "something that is not JSON";

/// Enough for a typo to be seen; a message is no listing.
const MAX_SHOWN_NAMES: usize = 10;

/// Longer than any name of a field that a person would type; shorter than most tokens.
const MAX_SHOWN_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn bytes_that_are_no_text_make_no_json_even_where_nobody_looks() {
        let value = b"{\"username\": \"x\", \"other\": {\"\xeb\": 1}}";

        let error = pick(value, Some("username")).err().unwrap();

        assert!(error.to_string().ends_with("something that is not JSON"), "{error}");
    }

    #[test]
    fn several_keys_take_what_each_of_them_takes_alone() {
        let value = br#"{"a": "first", "b": 1, "a": "last"}"#;
        let keys = ["a", "b", "c"];

        let picked = Picked::of(value, keys);

        for key in keys.map(Some).into_iter().chain([None]) {
            let alone = pick(value, key);
            assert_eq!(
                picked.get(key),
                alone.as_ref().map(|bytes| bytes.as_slice()).map_err(Clone::clone)
            );
        }
    }

    #[test]
    fn a_leading_slash_makes_no_difference() {
        let with: SecretName = "/shop/db".parse().unwrap();
        let without: SecretName = "shop/db".parse().unwrap();

        assert_eq!(with, without);
        assert_eq!(with.to_string(), "shop/db");
        assert_eq!(with.parent(), "shop");
    }

    #[rstest]
    #[case("", "the name is empty; use one like `shop/db`")]
    #[case("/", "the name is empty; use one like `shop/db`")]
    #[case("//db", "a part between slashes is empty; use single slashes and none at the end")]
    #[case("shop//db", "a part between slashes is empty; use single slashes and none at the end")]
    #[case("shop/", "a part between slashes is empty; use single slashes and none at the end")]
    #[case(
        "shop/../bank",
        "`..` is no part of a secret's name; use letters, digits, `-` and `_` between slashes"
    )]
    #[case(
        "shop/d\nb",
        "`d\\nb` is no part of a secret's name; use letters, digits, `-` and `_` between slashes"
    )]
    fn a_bad_name_says_what_is_wrong_with_it(#[case] text: &str, #[case] message: &str) {
        let error = text.parse::<SecretName>().unwrap_err();

        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_name_has_at_most_253_bytes() {
        assert!("a".repeat(253).parse::<SecretName>().is_ok());
        assert!(format!("/{}", "a".repeat(253)).parse::<SecretName>().is_ok());
        assert_eq!("a".repeat(254).parse::<SecretName>(), Err(NameError::TooLong { bytes: 254 }));
    }

    #[rstest]
    #[case(r#"{"username": "my-user", "password": "my-password"}"#, "username", "my-user")]
    #[case(r#"{"password": "a\u00e9\n\"b\""}"#, "password", "aé\n\"b\"")]
    #[case(r#"{"a": "first", "b": {"a": "inner"}, "a": "last"}"#, "a", "last")]
    #[case(r#"{"": ""}"#, "", "")]
    fn a_key_takes_the_text_of_a_member(
        #[case] value: &str,
        #[case] key: &str,
        #[case] text: &str,
    ) {
        let picked = pick(value.as_bytes(), Some(key)).unwrap();

        assert_eq!(picked.as_slice(), text.as_bytes());
    }

    #[rstest]
    #[case(r#"{"user": "x"}"#, "the secret has no member `username`; it has `user`")]
    #[case(r"{}", "the secret has no member `username`; it is empty")]
    #[case(
        r#"{"user": 1, "not a name": 2}"#,
        "the secret has no member `username`; it has `user` and 1 more"
    )]
    #[case(r#"{"not a name": 2}"#, "the secret has no member `username`; it has 1 others")]
    #[case(
        r#"{"username": 7}"#,
        "the secret's member `username` is a number; only texts can be taken"
    )]
    #[case(
        r#"{"username": null}"#,
        "the secret's member `username` is null; only texts can be taken"
    )]
    #[case(
        r#"{"username": ["x"]}"#,
        "the secret's member `username` is a list; only texts can be taken"
    )]
    #[case(
        "hunter2",
        "the key `username` needs a secret that is a JSON object, and this one is something that is not JSON"
    )]
    #[case(
        r#"{"username": "x"} trailing"#,
        "the key `username` needs a secret that is a JSON object, and this one is something that is not JSON"
    )]
    #[case(
        r#""hunter2""#,
        "the key `username` needs a secret that is a JSON object, and this one is a JSON text"
    )]
    #[case(
        "[1, 2]",
        "the key `username` needs a secret that is a JSON object, and this one is a JSON list"
    )]
    fn a_key_that_cannot_be_taken_says_what_is_there(#[case] value: &str, #[case] message: &str) {
        let error = pick(value.as_bytes(), Some("username")).err().unwrap();

        assert_eq!(error.to_string(), message);
    }

    proptest! {
        #[test]
        fn parse_and_display_are_inverse(name in "[A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8}){0,5}") {
            let parsed: SecretName = name.parse().unwrap();

            prop_assert_eq!(parsed.to_string(), name);
            prop_assert_eq!(parsed.to_string().parse::<SecretName>().unwrap(), parsed);
        }

        #[test]
        fn any_text_is_a_canonical_name_or_refused(text in "\\PC{0,40}|[a-z/.]{0,20}") {
            if let Ok(name) = text.parse::<SecretName>() {
                prop_assert!(!name.as_str().starts_with('/') && !name.as_str().contains("//"));
                prop_assert!(!name.as_str().contains('.'));
            }
        }

        #[test]
        fn without_a_key_every_value_comes_back_byte_for_byte(value: Vec<u8>) {
            let picked = pick(&value, None).unwrap();

            prop_assert_eq!(picked.as_slice(), value.as_slice());
        }

        #[test]
        fn no_message_shows_a_value(value in "[a-z]{12}") {
            let secret = serde_json::json!({"other": value, "list": [value]}).to_string();

            for key in ["missing", "list"] {
                let error = pick(secret.as_bytes(), Some(key)).err().unwrap();
                prop_assert!(!error.to_string().contains(&value));
            }
            let error = pick(value.as_bytes(), Some("key")).err().unwrap();
            prop_assert!(!error.to_string().contains(&value));
        }
    }
}
