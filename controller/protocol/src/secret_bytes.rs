//! A value on its way from the store to a container.
//!
//! The type guarantees that the bytes are wiped when dropped and that they can be looked at in one
//! way only, which review can search for. It refuses to be printed, cloned and compared.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The bytes of one secret, any bytes, exact to the last newline; standard base64 in JSON.
///
/// It serialises, because this is the one type in which a value travels. Everything else that would
/// let a value slip out does not compile:
/// ```compile_fail
/// fn log(value: &watchword_protocol::SecretBytes) -> String { format!("{value:?}") }
/// ```
/// ```compile_fail
/// fn show(value: &watchword_protocol::SecretBytes) -> String { format!("{value}") }
/// ```
/// ```compile_fail
/// fn copy(value: &watchword_protocol::SecretBytes) -> watchword_protocol::SecretBytes { value.clone() }
/// ```
/// ```compile_fail
/// fn same(a: watchword_protocol::SecretBytes, b: watchword_protocol::SecretBytes) -> bool { a == b }
/// ```
/// The answers that hold values follow suit:
/// ```compile_fail
/// fn log(answer: &watchword_protocol::ResolveAnswer) -> String { format!("{answer:?}") }
/// ```
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over without copying them; they are wiped when this is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes of the value.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes the value has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is the empty one, which is a value like others.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(&*self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64Visitor)
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = SecretBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretBytes, E> {
        // Sized in advance: a vector that grows leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        // The decoder's own message quotes a byte of the value.
        let length = STANDARD
            .decode_slice(text, &mut bytes)
            .map_err(|_| E::custom("the value is not base64"))?;
        bytes.truncate(length);
        Ok(SecretBytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SecretBytes;

    proptest! {
        #[test]
        fn every_value_survives_the_wire(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = serde_json::to_string(&SecretBytes::new(bytes.clone())).unwrap();

            let value: SecretBytes = serde_json::from_str(&text).unwrap();

            prop_assert_eq!(value.expose_secret(), &bytes[..]);
        }

        #[test]
        fn what_is_not_base64_is_refused_and_never_quoted(text in "[!-~&&[^\"\\\\]]{1,40}\\*") {
            let error = serde_json::from_str::<SecretBytes>(&format!("\"{text}\"")).err().unwrap();

            prop_assert!(error.to_string().starts_with("the value is not base64 at line 1"));
        }
    }
}
