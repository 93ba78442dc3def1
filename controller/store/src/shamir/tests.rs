use std::collections::BTreeSet;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn part(hex: &str) -> [u8; PART_BYTES] {
    crate::encoding::from_hex(hex.as_bytes()).unwrap().as_slice().try_into().unwrap()
}

fn combined(parts: &[[u8; PART_BYTES]]) -> [u8; SECRET_BYTES] {
    *combine(&parts.iter().collect::<Vec<_>>()).unwrap()
}

// From FIPS 197, sections 4.2 and 4.2.1, and the tests of Vault's field.
#[rstest]
#[case(0x57, 0x83, 0xc1)]
#[case(0x57, 0x02, 0xae)]
#[case(0x57, 0x10, 0x07)]
#[case(0x57, 0x13, 0xfe)]
#[case(3, 7, 9)]
#[case(3, 0, 0)]
#[case(0, 3, 0)]
#[case(0x53, 0xca, 1)]
fn products_are_those_of_the_field(#[case] a: u8, #[case] b: u8, #[case] product: u8) {
    assert_eq!(multiply(a, b), product);
    assert_eq!(multiply(b, a), product);
}

#[test]
fn products_and_inverses_agree_with_schoolbook_division_for_every_pair() {
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            let mut product = (0..8).fold(0_u16, |sum, bit| {
                sum ^ if b >> bit & 1 == 1 { u16::from(a) << bit } else { 0 }
            });
            for bit in (8..16).rev() {
                if product >> bit & 1 == 1 {
                    product ^= 0x11b << (bit - 8);
                }
            }
            assert_eq!(u16::from(multiply(a, b)), product);
        }
        assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
    }
}

/// The key 00 01 … 1f, 3 of 4, computed by a program of its own with tables of logarithms from the
/// coefficients 0x53 + 7i and 0xff - 11i of byte i.
const KNOWN: [&str; 4] = [
    "acaf8ab5b8bbc6312407022dd0d3dee99c9ffae5e8ebf6e114f7f2ddc0c38e9901",
    "77484986bbe43eeaaf70517eae91f01faa954f003da2e3ec0480a14e330cb6d902",
    "2bf0ae0c74aa2bf31de1922ea97281a634efff7f07d33434343241f79e45f8fdca",
    "bf55a2e1ea426caba25c3b950ce65b809d77a8bdb69a4e813191f6dcfc16830eff",
];

#[test]
fn parts_of_the_known_format_give_the_known_key() {
    let secret: [u8; 32] = std::array::from_fn(|index| index as u8);
    let parts = KNOWN.map(part);

    for leave_out in 0..4 {
        let three: Vec<_> = (0..4).filter(|&index| index != leave_out).map(|i| parts[i]).collect();
        assert_eq!(combined(&three), secret);
    }
    assert_eq!(combined(&parts), secret);
}

#[test]
fn the_known_coefficients_give_the_known_parts() {
    let secret: [u8; 32] = std::array::from_fn(|index| index as u8);
    let coefficients = [
        Zeroizing::new(std::array::from_fn(|index| (0x53 + 7 * index) as u8)),
        Zeroizing::new(std::array::from_fn(|index| (0xff_usize.wrapping_sub(11 * index)) as u8)),
    ];

    for known in KNOWN.map(part) {
        assert_eq!(evaluate(&secret, &coefficients, place(&known))[..], known[..SECRET_BYTES]);
    }
}

#[test]
fn a_line_worked_by_hand_meets_its_parts() {
    // f(x) = 0x53 + 0xca·x: f(1) = 0x53 ^ 0xca = 0x99; 2·0xca = 0x194 ^ 0x11b = 0x8f, so
    // f(2) = 0x53 ^ 0x8f = 0xdc.
    let values = |place| evaluate(&[0x53; 32], &[Zeroizing::new([0xca; 32])], place);

    assert_eq!(*values(1), [0x99; 32]);
    assert_eq!(*values(2), [0xdc; 32]);
}

#[test]
fn one_part_of_a_line_says_nothing() {
    // Whatever the secret is, over all coefficients every value comes out exactly once.
    for secret in [0, 1, 0x53, 0xff] {
        let values: BTreeSet<u8> = (0..=u8::MAX)
            .map(|coefficient| evaluate(&[secret; 32], &[Zeroizing::new([coefficient; 32])], 7)[0])
            .collect();

        assert_eq!(values.len(), 256);
    }
}

#[test]
fn two_parts_of_a_parabola_say_nothing() {
    // As above, for the pairs of values at two places; 32 of the 65,536 coefficients at a time.
    for secret in [0, 0xa7] {
        let mut pairs = BTreeSet::new();
        for first in 0..=u8::MAX {
            for block in 0..8_u8 {
                let second = std::array::from_fn(|index| 32 * block + index as u8);
                let coefficients = [Zeroizing::new([first; 32]), Zeroizing::new(second)];
                let at = |place| evaluate(&[secret; 32], &coefficients, place);
                pairs.extend(at(3).iter().zip(at(200).iter()).map(|(&a, &b)| (a, b)));
            }
        }

        assert_eq!(pairs.len(), 65_536);
    }
}

#[test]
fn places_are_all_numbers_but_zero_each_once_and_in_no_order() {
    let (first, second) = (places().unwrap(), places().unwrap());

    assert_eq!(first.iter().copied().collect::<BTreeSet<u8>>(), (1..=255).collect());
    assert_ne!(first, second);
}

#[test]
fn every_place_comes_first_about_as_often_as_every_other() {
    // A hundred times each; from a fair source fewer than 30 or more than 200 never come.
    let mut counts = [0_u32; 256];
    for _ in 0..255 * 100 {
        counts[1 + below(255).unwrap()] += 1;
    }

    assert!(counts[1..].iter().all(|count| (30..=200).contains(count)), "{counts:?}");
}

#[test]
fn no_parts_and_parts_of_one_place_are_refused() {
    let a = part(KNOWN[0]);
    let mut b = part(KNOWN[1]);
    b[SECRET_BYTES] = a[SECRET_BYTES];

    assert_eq!(combine(&[]).err(), Some(CombineError::TooFew));
    assert_eq!(combine(&[&a, &b]).err(), Some(CombineError::Repeated));
}

proptest! {
    #[test]
    fn any_threshold_parts_in_any_order_give_the_secret_and_fewer_do_not(
        secret in any::<[u8; 32]>(),
        parts in 2_u8..=20,
        threshold in any::<prop::sample::Index>(),
        order in any::<[prop::sample::Index; 20]>(),
    ) {
        let threshold = 2 + threshold.index(usize::from(parts) - 1);
        let split = split(&secret, parts, u8::try_from(threshold).unwrap()).unwrap();
        let mut split: Vec<[u8; PART_BYTES]> =
            split.iter().map(|part| part.as_slice().try_into().unwrap()).collect();
        for (index, other) in order.iter().enumerate().take(split.len()) {
            let other = other.index(split.len());
            split.swap(index, other);
        }

        for count in 1..=split.len() {
            prop_assert_eq!(combined(&split[..count]) == secret, count >= threshold);
        }
    }

    #[test]
    fn a_changed_part_changes_the_secret(at in 0..SECRET_BYTES, change in 1..=u8::MAX) {
        let mut parts = KNOWN.map(part);
        parts[1][at] ^= change;

        let got = combined(&parts[..3]);

        prop_assert_ne!(got[at], u8::try_from(at).unwrap());
    }
}

#[test]
fn the_largest_split_works() {
    let split = split(&[0x5c; 32], 255, 255).unwrap();
    let parts: Vec<[u8; PART_BYTES]> =
        split.iter().map(|part| part.as_slice().try_into().unwrap()).collect();

    assert_eq!(combined(&parts), [0x5c; 32]);
}
