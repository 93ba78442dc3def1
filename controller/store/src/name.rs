//! Object names: what the things in a back end are called.
//!
//! | object | name |
//! |---|---|
//! | the keyring | `keyring` |
//! | the uids of namespaces | `namespaces` |
//! | the seal state | `seal` |
//! | the head of a path | 56 hexadecimal digits: HMAC-SHA256 of the path under the name key, cut to 28 bytes |
//! | one version of a path | the head's name, `.`, the version in decimal, `.`, 16 random hexadecimal digits |
//!
//! All are DNS names, as Kubernetes wants them, and a head's name fits a label's value (63 bytes).
//! Who reads the back end learns how many secrets and versions there are, but no path; who does not
//! have the name key cannot even test a guess. The random digits make every version's name unique:
//! what is stored under a name never changes in meaning, and two writers never meet on one.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::path::SecretPath;
use crate::random::{self, RandomError};

/// The name of an object in a back end; always one of the forms above.
///
/// Clones share the text: an unsealed store knows hundreds of thousands of names, in several places.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// The name of the keyring.
    pub fn keyring() -> Self {
        Self(KEYRING.into())
    }

    /// The name of the object that knows the uids of namespaces.
    pub fn namespaces() -> Self {
        Self(NAMESPACES.into())
    }

    /// The name of the seal state.
    pub fn seal() -> Self {
        Self(SEAL.into())
    }

    /// The name of the head of `path`, under the keyring's name key.
    pub(crate) fn head(name_key: &[u8; 32], path: &SecretPath) -> Self {
        Self(keyed_hash(name_key, path.as_str()).into())
    }

    /// A new, unique name for `version` of the path that `head` belongs to.
    pub(crate) fn version(head: &Self, version: u64) -> Result<Self, RandomError> {
        let random = hex(&random::bytes::<SUFFIX_BYTES>()?);
        Ok(Self(format!("{head}.{version}.{random}").into()))
    }

    /// Reads a name that a back end lists; `None` for what is not ours.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |part: &str, bytes: usize| {
            part.len() == 2 * bytes
                && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('.');
        let head = parts.next()?;
        let ours = match (parts.next(), parts.next(), parts.next()) {
            (None, None, None) => {
                matches!(head, KEYRING | NAMESPACES | SEAL) || is_hex(head, HEAD_BYTES)
            }
            (Some(version), Some(random), None) => {
                is_hex(head, HEAD_BYTES)
                    && is_hex(random, SUFFIX_BYTES)
                    // Only the canonical form, so that no two names mean the same.
                    && version.parse::<u64>().is_ok_and(|number| number.to_string() == version)
            }
            _ => false,
        };
        ours.then(|| Self(text.into()))
    }

    /// Which of the forms this is.
    pub fn kind(&self) -> ObjectKind {
        match &*self.0 {
            KEYRING => ObjectKind::Keyring,
            NAMESPACES => ObjectKind::Namespaces,
            SEAL => ObjectKind::Seal,
            name if name.contains('.') => ObjectKind::Version,
            _ => ObjectKind::Head,
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The head that a version belongs to; itself for other kinds.
    pub(crate) fn head_of(&self) -> Self {
        Self(self.0.split('.').next().unwrap_or_default().into())
    }

    /// The number of a version; `None` for other kinds.
    pub(crate) fn version_number(&self) -> Option<u64> {
        self.0.split('.').nth(1)?.parse().ok()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for ObjectName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ObjectName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("not the name of an object of the store"))
    }
}

/// What kinds of objects there are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ObjectKind {
    /// What versions a path has; the object that decides.
    Head,
    /// The keys of all terms.
    Keyring,
    /// Which uid each namespace had.
    Namespaces,
    /// Whether the store should be open.
    Seal,
    /// One version of a value.
    Version,
}

impl ObjectKind {
    /// A word for labels and messages: `head`, `keyring`, `namespaces`, `seal` or `version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Keyring => "keyring",
            Self::Namespaces => "namespaces",
            Self::Seal => "seal",
            Self::Version => "version",
        }
    }
}

/// The hash of a path, of a secret or a folder, under the keyring's name key.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
pub(crate) fn keyed_hash(name_key: &[u8; 32], path: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(name_key).expect("HMAC takes any key");
    mac.update(b"watchword path\0");
    mac.update(path.as_bytes());
    hex(&mac.finalize().into_bytes()[..HEAD_BYTES])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for nibble in [byte >> 4, byte & 0x0f] {
            // A nibble is always a digit of base 16.
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
        }
        text
    })
}

const KEYRING: &str = "keyring";
const NAMESPACES: &str = "namespaces";
const SEAL: &str = "seal";

/// 224 bits: no two paths meet, and the text stays below the 63 bytes of a label's value.
const HEAD_BYTES: usize = 28;

const SUFFIX_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn path() -> SecretPath {
        "shop/db".parse().unwrap()
    }

    #[test]
    fn names_are_stable() {
        // Known answer: were this to change, every stored secret would be lost from sight.
        // printf 'watchword path\0shop/db' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…
        assert_eq!(
            ObjectName::head(&[7; 32], &path()).as_str(),
            "b02b72f4f2f7e593e74c89edc7a0465376f1d4834fdcb5a334d9a249"
        );
    }

    #[test]
    fn every_name_that_is_made_can_be_read_and_is_a_dns_name() {
        let head = ObjectName::head(&[1; 32], &path());
        let version = ObjectName::version(&head, u64::MAX).unwrap();

        for (name, kind) in [
            (ObjectName::keyring(), ObjectKind::Keyring),
            (ObjectName::namespaces(), ObjectKind::Namespaces),
            (ObjectName::seal(), ObjectKind::Seal),
            (head.clone(), ObjectKind::Head),
            (version.clone(), ObjectKind::Version),
        ] {
            assert_eq!(ObjectName::parse(name.as_str()), Some(name.clone()));
            assert_eq!(name.kind(), kind);
            assert!(name.as_str().len() <= 253);
            assert!(
                name.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
            );
        }
        assert_eq!((version.head_of(), version.version_number()), (head.clone(), Some(u64::MAX)));
        assert_eq!(head.version_number(), None);
        assert!(head.as_str().len() <= 63);
    }

    #[test]
    fn two_names_for_one_version_differ() {
        let head = ObjectName::head(&[1; 32], &path());

        assert_ne!(ObjectName::version(&head, 1).unwrap(), ObjectName::version(&head, 1).unwrap());
    }

    #[rstest]
    #[case("")]
    #[case("keyring.1.0123456789abcdef")]
    #[case("Keyring")]
    #[case("seal.1.0123456789abcdef")]
    #[case("00")]
    #[case("00000000000000000000000000000000000000000000000000000000.01.0123456789abcdef")]
    #[case("00000000000000000000000000000000000000000000000000000000.+1.0123456789abcdef")]
    #[case("00000000000000000000000000000000000000000000000000000000.1.0123456789abcdeF")]
    #[case("00000000000000000000000000000000000000000000000000000000.1.0123456789abcdef.")]
    #[case("0000000000000000000000000000000000000000000000000000000G")]
    fn other_names_are_not_ours(#[case] text: &str) {
        assert_eq!(ObjectName::parse(text), None);
    }

    proptest! {
        #[test]
        fn different_paths_or_keys_have_different_names(
            a in "[a-z]{1,4}(/[a-z]{1,4}){0,2}",
            b in "[a-z]{1,4}(/[a-z]{1,4}){0,2}",
        ) {
            let [x, y]: [SecretPath; 2] = [a.parse().unwrap(), b.parse().unwrap()];

            prop_assert_eq!(
                ObjectName::head(&[1; 32], &x) == ObjectName::head(&[1; 32], &y),
                x == y
            );
            prop_assert_ne!(ObjectName::head(&[1; 32], &x), ObjectName::head(&[2; 32], &x));
        }
    }
}
