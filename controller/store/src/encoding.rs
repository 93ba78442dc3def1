//! Hex and base64 of secrets, without a branch or a table that depends on a digit.
//!
//! Libraries look digits up in tables, and which line of a table was touched can be seen from
//! outside the process. Here every digit is judged by arithmetic. What may depend on the input is
//! its length, and whether there is a bad digit anywhere.

use zeroize::Zeroizing;

/// The lower-case hexadecimal digits of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> Zeroizing<String> {
    // Reserved at once: a buffer that grows would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0x0f] {
            text.push(char::from(hex_digit(nibble)));
        }
    }
    text
}

/// The bytes of hexadecimal digits of either case; `None` if one is no such digit, or one is over.
pub(crate) fn from_hex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    let mut bad = 0_u8;
    for &[high, low] in pairs {
        let (high, low) = (hex_value(high), hex_value(low));
        bad |= (high | low) & 0xf0;
        bytes.push((high << 4) | (low & 0x0f));
    }
    (bad == 0).then_some(bytes)
}

/// The bytes of padded standard base64; `None` if it is anything else.
pub(crate) fn from_base64(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (groups, []) = digits.as_chunks::<4>() else { return None };
    let padding = digits.iter().rev().take_while(|&&digit| digit == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(3 * groups.len()));
    let mut bad = 0_u8;
    for (index, group) in groups.iter().enumerate() {
        let is_last = index + 1 == groups.len();
        let mut bits = 0_u32;
        for (place, &digit) in group.iter().enumerate() {
            let is_padding = is_last && place + padding >= 4;
            let value = if is_padding { 0 } else { base64_value(digit) };
            bad |= value & 0xc0;
            bits = (bits << 6) | u32::from(value & 0x3f);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    // One text for one value: the bits that the padding cuts off are zero.
    let kept = bytes.len() - padding.min(bytes.len());
    bad |= bytes[kept..].iter().fold(0, |bits, byte| bits | byte);
    bytes.truncate(kept);
    (bad == 0).then_some(bytes)
}

/// The value of a hexadecimal digit; 0xff for any other byte.
fn hex_value(digit: u8) -> u8 {
    let (decimal, lower, upper) =
        (is(digit, b'0', b'9'), is(digit, b'a', b'f'), is(digit, b'A', b'F'));
    (decimal & digit.wrapping_sub(b'0'))
        | (lower & digit.wrapping_sub(b'a' - 10))
        | (upper & digit.wrapping_sub(b'A' - 10))
        | !(decimal | lower | upper)
}

/// The value of a digit of base64; 0xff for any other byte.
fn base64_value(digit: u8) -> u8 {
    let (upper, lower, decimal) =
        (is(digit, b'A', b'Z'), is(digit, b'a', b'z'), is(digit, b'0', b'9'));
    let (plus, slash) = (is(digit, b'+', b'+'), is(digit, b'/', b'/'));
    (upper & digit.wrapping_sub(b'A'))
        | (lower & digit.wrapping_sub(b'a' - 26))
        | (decimal & digit.wrapping_add(52 - b'0'))
        | (plus & 62)
        | (slash & 63)
        | !(upper | lower | decimal | plus | slash)
}

/// All ones when `low` ≤ `digit` ≤ `high`, else zero.
fn is(digit: u8, low: u8, high: u8) -> u8 {
    // Negative, and so all ones after the shift, when one of the differences is.
    let outside = (i16::from(digit) - i16::from(low)) | (i16::from(high) - i16::from(digit));
    !((outside >> 15) as u8)
}

/// The lower-case hexadecimal digit of a value below 16.
fn hex_digit(nibble: u8) -> u8 {
    // The shift gives all ones for 10 and more; `a` is 39 above where `9` would continue.
    let letter = ((9_i16 - i16::from(nibble)) >> 15) as u8;
    b'0' + nibble + (letter & (b'a' - b'0' - 10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_hexadecimal_digit_is_judged_as_the_standard_library_does() {
        for byte in 0..=u8::MAX {
            let expected =
                char::from(byte).to_digit(16).map_or(0xff, |value| u8::try_from(value).unwrap());

            assert_eq!(hex_value(byte), expected, "byte {byte}");
        }
        for value in 0..16_u32 {
            assert_eq!(
                char::from(hex_digit(u8::try_from(value).unwrap())),
                char::from_digit(value, 16).unwrap()
            );
        }
    }

    #[test]
    fn every_digit_of_base64_has_its_place_in_the_alphabet() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for byte in 0..=u8::MAX {
            let expected = alphabet.iter().position(|&digit| digit == byte);

            let expected = expected.map_or(0xff, |value| u8::try_from(value).unwrap());
            assert_eq!(base64_value(byte), expected, "byte {byte}");
        }
    }

    // The vectors of RFC 4648.
    #[rstest]
    #[case("", "")]
    #[case("Zg==", "f")]
    #[case("Zm8=", "fo")]
    #[case("Zm9v", "foo")]
    #[case("Zm9vYg==", "foob")]
    #[case("Zm9vYmE=", "fooba")]
    #[case("Zm9vYmFy", "foobar")]
    fn base64_is_that_of_the_rfc(#[case] text: &str, #[case] bytes: &str) {
        assert_eq!(from_base64(text.as_bytes()).unwrap().as_slice(), bytes.as_bytes());
    }

    #[rstest]
    #[case("Zg")]
    #[case("Zg=")]
    #[case("Zh==")]
    #[case("Z===")]
    #[case("====")]
    #[case("Zg==Zg==")]
    #[case("Zm9=")]
    #[case("Zm-_")]
    #[case("Zm9v\n")]
    fn other_texts_are_not_base64(#[case] text: &str) {
        assert!(from_base64(text.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn hex_there_and_back_is_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let text = to_hex(&bytes);

            prop_assert!(*from_hex(text.as_bytes()).unwrap() == bytes);
            prop_assert!(*from_hex(text.to_uppercase().as_bytes()).unwrap() == bytes);
        }

        #[test]
        fn one_bad_digit_is_enough(
            text in "[0-9a-f]{2,40}",
            at in any::<prop::sample::Index>(),
            bad in any::<u8>().prop_filter("a digit", |byte| !byte.is_ascii_hexdigit()),
        ) {
            let mut digits = text.into_bytes();
            let at = at.index(digits.len());
            digits[at] = bad;

            prop_assert!(from_hex(&digits).is_none());
        }
    }
}
