//! Shares: what people carry of the root key.
//!
//! A share is text, the lower-case hex of its bytes, as DC/OS and Vault have it; base64 is read too.
//! A key that was not split has one share, the 32 bytes of the key itself. The shares of a key that
//! was split have 33, in the layout of Vault's: 32 values, then the number of the part.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::encoding;
use crate::root_key::ROOT_KEY_BYTES;
use crate::shamir::PART_BYTES;

/// A share of a root key; wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(share: &watchword_store::Share) -> String { format!("{share:?}") }
/// ```
/// no `Clone`:
/// ```compile_fail
/// fn copy(share: &watchword_store::Share) -> watchword_store::Share { share.clone() }
/// ```
/// and no `PartialEq`, which would take a time that depends on the bytes:
/// ```compile_fail
/// fn same(a: &watchword_store::Share, b: &watchword_store::Share) -> bool { a == b }
/// ```
pub struct Share(Zeroizing<Vec<u8>>);

impl Share {
    /// Reads a share: hexadecimal digits of either case, or base64. White space around it, such as
    /// the newline at the end of a file, is ignored.
    ///
    /// # Errors
    ///
    /// [`ParseShareError`] when the text is anything else. The text is never part of the error.
    pub fn parse(text: &str) -> Result<Self, ParseShareError> {
        let digits = text.trim_ascii().as_bytes();
        // The length alone tells which it is: 44 digits of base64 hold 32 or 33 bytes, and as hex
        // they would be neither.
        let bytes = match digits.len() {
            length if length == 2 * ROOT_KEY_BYTES || length == 2 * PART_BYTES => {
                encoding::from_hex(digits).ok_or(ParseShareError::NotHex)?
            }
            BASE64_DIGITS => encoding::from_base64(digits).ok_or(ParseShareError::NotBase64)?,
            length => return Err(ParseShareError::Length { digits: length }),
        };
        match bytes.len() {
            ROOT_KEY_BYTES => Ok(Self(bytes)),
            PART_BYTES if bytes[PART_BYTES - 1] != 0 => Ok(Self(bytes)),
            PART_BYTES => Err(ParseShareError::Place),
            // Base64 with two signs of padding.
            _ => Err(ParseShareError::Length { digits: digits.len() }),
        }
    }

    /// The share as people carry it: lower-case hex.
    pub fn to_hex(&self) -> Zeroizing<String> {
        encoding::to_hex(&self.0)
    }

    /// Whether both are the same, in a time that does not depend on the bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Takes over bytes that are a whole key or a part of one.
    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The whole key, if it was not split.
    pub(crate) fn as_whole(&self) -> Option<&[u8; ROOT_KEY_BYTES]> {
        self.0.as_slice().try_into().ok()
    }

    /// The part of the key, if it was split.
    pub(crate) fn as_part(&self) -> Option<&[u8; PART_BYTES]> {
        self.0.as_slice().try_into().ok()
    }
}

/// Why a text is not a share of a root key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseShareError {
    /// Neither 64 nor 66 hexadecimal digits, nor 44 of base64.
    #[error(
        "a share of the root key has 64 or 66 hexadecimal digits, or 44 of base64; this text has {digits} bytes"
    )]
    Length {
        /// How many bytes there were instead.
        digits: usize,
    },
    /// As long as base64 of a share is, and something else.
    #[error("a share of 44 characters must be base64")]
    NotBase64,
    /// As long as hex of a share is, and something else.
    #[error("a share of 64 or 66 characters must be hexadecimal")]
    NotHex,
    /// Ends with zero where the number of the part stands; such a share would be the key.
    #[error("no share of a root key ends with zero")]
    Place,
}

/// 32 and 33 bytes alike, in base64 with its padding.
const BASE64_DIGITS: usize = 44;

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", ParseShareError::Length { digits: 0 })]
    #[case("00", ParseShareError::Length { digits: 2 })]
    #[case(&"0".repeat(65), ParseShareError::Length { digits: 65 })]
    #[case(&"0".repeat(68), ParseShareError::Length { digits: 68 })]
    #[case(&"0".repeat(100_000), ParseShareError::Length { digits: 100_000 })]
    #[case(&"g".repeat(64), ParseShareError::NotHex)]
    #[case(&"/".repeat(64), ParseShareError::NotHex)]
    #[case(&"@".repeat(66), ParseShareError::NotHex)]
    #[case(&"é".repeat(32), ParseShareError::NotHex)]
    #[case(&"0".repeat(66), ParseShareError::Place)]
    #[case(&"-".repeat(44), ParseShareError::NotBase64)]
    #[case(&("A".repeat(42) + "=="), ParseShareError::Length { digits: 44 })]
    #[case(&"A".repeat(44), ParseShareError::Place)]
    fn what_is_not_a_share_is_refused(#[case] text: &str, #[case] error: ParseShareError) {
        assert_eq!(Share::parse(text).err(), Some(error));
    }

    proptest! {
        #[test]
        fn every_form_of_a_share_is_read_and_written_as_lower_case_hex(
            bytes in proptest::collection::vec(any::<u8>(), 32..=33),
        ) {
            prop_assume!(bytes.get(32) != Some(&0));
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();

            for text in [&hex, &hex.to_uppercase(), &STANDARD.encode(&bytes), &format!(" {hex}\n")] {
                let share = Share::parse(text).unwrap();

                prop_assert!(*share.to_hex() == hex);
                prop_assert!(share.is_same(&Share::parse(&hex).unwrap()));
                prop_assert_eq!(share.as_whole().is_some(), bytes.len() == 32);
                prop_assert_eq!(share.as_part().is_some(), bytes.len() == 33);
            }
        }
    }
}
