//! Values: the bytes that the store exists to keep.
//!
//! A value is exact to the last byte and wiped when it is dropped. It can be neither printed nor
//! compared nor copied by accident; [`Value::expose_secret`] is the one way to its bytes, a word
//! that review can search for.

use zeroize::Zeroizing;

/// The bytes of a secret, wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(value: &watchword_store::Value) -> String { format!("{value:?}") }
/// ```
/// no `Display`:
/// ```compile_fail
/// fn print(value: &watchword_store::Value) -> String { value.to_string() }
/// ```
/// no `Clone`, so that there is one copy to wipe:
/// ```compile_fail
/// fn copy(value: &watchword_store::Value) -> watchword_store::Value { value.clone() }
/// ```
/// no `PartialEq`, which would take a time that depends on the bytes:
/// ```compile_fail
/// fn same(a: &watchword_store::Value, b: &watchword_store::Value) -> bool { a == b }
/// ```
/// and no `Serialize`:
/// ```compile_fail
/// fn json(value: &watchword_store::Value) -> String { serde_json::to_string(value).unwrap() }
/// ```
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Takes `bytes` over; they are wiped, the spare capacity included, when the value is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the moment that they are needed.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Hands the bytes on in a buffer that still wipes itself.
    pub fn into_exposed(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// Whether there are no bytes: an empty value is a value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Zeroizing<Vec<u8>>> for Value {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

/// The largest value that any store takes: 1 MiB less 1 KiB, so that a record with its header and
/// metadata, in base64, fits one object of every back end.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024 - 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_exact_to_the_last_newline() {
        let value = Value::new(b"-----END KEY-----\n".to_vec());

        assert_eq!(value.expose_secret(), b"-----END KEY-----\n");
        assert_eq!(value.len(), 18);
        assert!(!value.is_empty());
    }
}
