//! The root key: the one key that opens everything, and that the store never keeps.
//!
//! It opens the keyring and nothing else. People and unsealers carry it as *shares*; the plaintext
//! of a share is text, its lower-case hex, as DC/OS and Vault have it. This first form knows one
//! share of one, which is the key itself; splitting it further adds functions here and changes
//! neither the keyring nor any record.

use hkdf::Hkdf;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random;

/// The root key: 32 bytes, boxed so that moves leave no copies, wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(key: &watchword_store::RootKey) -> String { format!("{key:?}") }
/// ```
/// and no `Clone`:
/// ```compile_fail
/// fn copy(key: &watchword_store::RootKey) -> watchword_store::RootKey { key.clone() }
/// ```
pub struct RootKey(SecretBox<[u8; ROOT_KEY_BYTES]>);

impl RootKey {
    /// A new key from the operating system's generator.
    ///
    /// # Errors
    ///
    /// `RandomError` when the system has no randomness to give.
    pub fn generate() -> Result<Self, random::RandomError> {
        let bytes = random::key()?;
        Ok(Self(SecretBox::init_with_mut(|key: &mut [u8; ROOT_KEY_BYTES]| *key = *bytes)))
    }

    /// Reads the only share of a key that was split 1 of 1: 64 hexadecimal digits of either case;
    /// white space around them, such as the newline at the end of a file, is ignored.
    ///
    /// # Errors
    ///
    /// `ParseShareError` when the text is anything else. The text is never part of the error.
    pub fn from_share(text: &str) -> Result<Self, ParseShareError> {
        let digits = text.trim_ascii().as_bytes();
        if digits.len() != 2 * ROOT_KEY_BYTES {
            return Err(ParseShareError::Length { digits: digits.len() });
        }
        let mut bytes = Zeroizing::new([0; ROOT_KEY_BYTES]);
        let mut bad = 0_u8;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]), nibble(pair[1]));
            bad |= (high | low) & 0xf0;
            *byte = (high << 4) | (low & 0x0f);
        }
        if bad != 0 {
            return Err(ParseShareError::NotHex);
        }
        Ok(Self(SecretBox::init_with_mut(|key: &mut [u8; ROOT_KEY_BYTES]| *key = *bytes)))
    }

    /// The only share of this key when it is split 1 of 1: 64 lower-case hexadecimal digits.
    pub fn to_share(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * ROOT_KEY_BYTES));
        for byte in self.0.expose_secret() {
            for nibble in [byte >> 4, byte & 0x0f] {
                text.push(char::from(digit(nibble)));
            }
        }
        text
    }

    /// Whether both are the same key, in a time that does not depend on the bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret().ct_eq(other.0.expose_secret()).into()
    }

    /// The key for one purpose, bound to it by HKDF-SHA256, so that the root key itself never
    /// encrypts anything.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(self.0.expose_secret(), &[purpose])
    }
}

/// Why a text is not the share of a root key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseShareError {
    /// Not 64 digits.
    #[error("a share of the root key has 64 hexadecimal digits, this one has {digits} bytes")]
    Length {
        /// How many bytes there were instead.
        digits: usize,
    },
    /// 64 bytes, but not all of them hexadecimal digits.
    #[error("a share of the root key has hexadecimal digits only")]
    NotHex,
}

/// 32 bytes from `secret` by HKDF-SHA256 without a salt: the input is already uniformly random.
/// `info` is the concatenation of `parts`, of which only the last may vary in length.
#[expect(clippy::expect_used, reason = "HKDF refuses only more than 255 hashes of output")]
pub(crate) fn derive(secret: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // One hash of output cannot be too long. Stopping is right in any case: nothing may ever be
    // encrypted under a key of zeroes.
    Hkdf::<Sha256>::new(None, secret)
        .expand_multi_info(parts, key.as_mut_slice())
        .expect("32 bytes are one hash");
    key
}

/// The value of a hexadecimal digit, or 0xff, without a branch or table that depends on it.
fn nibble(digit: u8) -> u8 {
    let is = |low: u8, high: u8| {
        // All ones when low <= digit <= high: neither difference borrows.
        let outside = (i16::from(digit) - i16::from(low)) | (i16::from(high) - i16::from(digit));
        !((outside >> 15) as u8)
    };
    let (decimal, lower, upper) = (is(b'0', b'9'), is(b'a', b'f'), is(b'A', b'F'));
    (decimal & digit.wrapping_sub(b'0'))
        | (lower & digit.wrapping_sub(b'a' - 10))
        | (upper & digit.wrapping_sub(b'A' - 10))
        | !(decimal | lower | upper)
}

/// The lower-case hexadecimal digit of a value below 16, without a branch or table on it.
fn digit(nibble: u8) -> u8 {
    // The shift gives all ones for 10 and more; `a` is 39 above where `9` would continue.
    let letter = ((9_i16 - i16::from(nibble)) >> 15) as u8;
    b'0' + nibble + (letter & (b'a' - b'0' - 10))
}

/// The length of a root key in bytes.
pub const ROOT_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", ParseShareError::Length { digits: 0 })]
    #[case("00", ParseShareError::Length { digits: 2 })]
    #[case(&"0".repeat(66), ParseShareError::Length { digits: 66 })]
    #[case(&"g".repeat(64), ParseShareError::NotHex)]
    #[case(&"/".repeat(64), ParseShareError::NotHex)]
    #[case(&":".repeat(64), ParseShareError::NotHex)]
    #[case(&"@".repeat(64), ParseShareError::NotHex)]
    #[case(&"`".repeat(64), ParseShareError::NotHex)]
    #[case(&"é".repeat(32), ParseShareError::NotHex)]
    fn what_is_not_a_share_is_refused(#[case] text: &str, #[case] error: ParseShareError) {
        assert_eq!(RootKey::from_share(text).err(), Some(error));
    }

    #[test]
    fn every_byte_is_judged_as_the_standard_library_does() {
        for byte in 0..=u8::MAX {
            let expected =
                char::from(byte).to_digit(16).map_or(0xff, |value| u8::try_from(value).unwrap());

            assert_eq!(nibble(byte), expected, "byte {byte}");
        }
        for value in 0..16_u32 {
            assert_eq!(
                char::from(digit(u8::try_from(value).unwrap())),
                char::from_digit(value, 16).unwrap()
            );
        }
    }

    #[test]
    fn generated_keys_differ() {
        assert!(!RootKey::generate().unwrap().is_same(&RootKey::generate().unwrap()));
    }

    proptest! {
        #[test]
        fn a_share_is_the_lower_case_hex_of_the_key(text in "[0-9a-f]{64}") {
            let key = RootKey::from_share(&text).unwrap();

            let share = key.to_share();
            prop_assert_eq!(share.as_str(), text.as_str());
            prop_assert!(RootKey::from_share(&text.to_uppercase()).unwrap().is_same(&key));
            prop_assert!(RootKey::from_share(&(text + "\n")).unwrap().is_same(&key));
        }
    }
}
