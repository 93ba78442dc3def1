use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::known_answers::{METADATA, VALUE, keyring, record_bytes, record_name};

fn header() -> Header {
    Header { name: record_name(), version: 7 }
}

/// Opens both parts, as a reader that trusts nothing would.
fn open(
    bytes: &[u8],
    keyring: &Keyring,
    name: &ObjectName,
) -> Result<(Vec<u8>, Vec<u8>), OpenError> {
    let record = Record::parse(bytes)?;
    Ok((record.open_metadata(keyring, name)?.to_vec(), record.open_value(keyring, name)?.to_vec()))
}

#[test]
fn the_format_is_the_known_one() {
    let sealed =
        seal_with(DataKey::from_bytes([0x33; 32]), &keyring(), &header(), METADATA, VALUE).unwrap();

    assert_eq!(sealed, record_bytes());
}

#[test]
fn a_record_of_the_known_format_opens() {
    let (metadata, value) = open(&record_bytes(), &keyring(), &record_name()).unwrap();

    assert_eq!(metadata, METADATA);
    assert_eq!(value, VALUE);
    let bytes = record_bytes();
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.header(), &header());
    assert_eq!(record.term(), 2);
}

#[test]
fn no_flipped_bit_opens() {
    let (keyring, name, bytes) = (keyring(), record_name(), record_bytes());

    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);

        let opened = Record::parse(&changed).map_err(OpenError::from).and_then(|record| {
            let metadata = record.open_metadata(&keyring, &name);
            let value = record.open_value(&keyring, &name);
            // A flip in one part leaves the other one as it was; both never open.
            metadata.and(value)
        });
        assert!(opened.is_err(), "bit {bit} was flipped, and the record opened");
    }
}

#[test]
fn a_record_that_is_cut_short_or_followed_by_bytes_is_refused() {
    let bytes = record_bytes();

    for length in 0..bytes.len() {
        assert_eq!(Record::parse(&bytes[..length]).unwrap_err(), ParseRecordError::Truncated);
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Record::parse(&longer).unwrap_err(), ParseRecordError::Trailing { bytes: 1 });
}

#[rstest]
#[case(0, b'X', ParseRecordError::Magic)]
#[case(4, 0, ParseRecordError::Format { format: 0 })]
#[case(4, 2, ParseRecordError::Format { format: 2 })]
#[case(5, 0, ParseRecordError::Kind { kind: 0 })]
#[case(5, 2, ParseRecordError::Name)]
#[case(5, 3, ParseRecordError::Name)]
#[case(5, 4, ParseRecordError::Name)]
#[case(5, 5, ParseRecordError::Name)]
#[case(5, 6, ParseRecordError::Kind { kind: 6 })]
#[case(16, b'G', ParseRecordError::Name)]
#[case(16, 0xff, ParseRecordError::Name)]
fn what_is_not_known_is_refused(
    #[case] at: usize,
    #[case] byte: u8,
    #[case] error: ParseRecordError,
) {
    let mut bytes = record_bytes();
    bytes[at] = byte;

    assert_eq!(Record::parse(&bytes).unwrap_err(), error);
}

#[test]
fn a_keyring_is_not_a_record() {
    assert_eq!(
        Record::parse(&crate::known_answers::keyring_bytes()).unwrap_err(),
        ParseRecordError::Kind { kind: 3 }
    );
}

#[test]
fn a_record_never_opens_under_another_name() {
    let keyring = keyring();
    let other = ObjectName::version(&record_name().head_of(), 7).unwrap();

    // Put under another name as it is …
    assert_eq!(
        open(&record_bytes(), &keyring, &other).unwrap_err(),
        OpenError::Misplaced { found: record_name() }
    );
    // … or with that name written into it.
    let mut renamed = record_bytes();
    renamed[16..16 + other.as_str().len()].copy_from_slice(other.as_str().as_bytes());
    assert_eq!(open(&renamed, &keyring, &other).unwrap_err(), OpenError::Decrypt);
}

#[test]
fn parts_of_two_records_never_open_together() {
    let keyring = keyring();
    let make = |value: &[u8]| seal(&keyring, &header(), METADATA, value).unwrap();
    let (one, two) = (make(b"one"), make(b"two"));
    // Same lengths throughout, so every border is the same.
    let wrapped = 16 + record_name().as_str().len() + 4;
    let metadata = wrapped + WRAPPED_BYTES;
    let value = one.len() - (3 + TAG_BYTES);

    for border in [wrapped, metadata, value] {
        let mixed = [&one[..border], &two[border..]].concat();
        let opened = open(&mixed, &keyring, &record_name());

        match border {
            // All that follows the header is the second record's, which has the same header.
            border if border == wrapped => assert_eq!(opened.unwrap().1, b"two"),
            _ => assert_eq!(opened.unwrap_err(), OpenError::Decrypt, "border {border}"),
        }
    }
}

#[test]
fn metadata_and_value_cannot_change_places() {
    let keyring = keyring();
    let bytes = seal(&keyring, &header(), b"abc", b"xyz").unwrap();
    let part = 4 + 3 + TAG_BYTES;
    let start = bytes.len() - 2 * part;

    let swapped = [&bytes[..start], &bytes[start + part..], &bytes[start..start + part]].concat();

    assert_eq!(open(&swapped, &keyring, &record_name()).unwrap_err(), OpenError::Decrypt);
}

#[test]
fn a_record_of_an_unknown_term_says_so() {
    let mut keyring = keyring();
    keyring.rotate(2000).unwrap();
    let bytes = seal(&keyring, &header(), METADATA, VALUE).unwrap();

    assert_eq!(
        open(&bytes, &crate::known_answers::keyring(), &record_name()).unwrap_err(),
        OpenError::FindTerm { term: 3 }
    );
}

#[test]
fn records_of_older_terms_open_after_a_rotation() {
    let mut keyring = keyring();
    keyring.rotate(2000).unwrap();

    assert_eq!(open(&record_bytes(), &keyring, &record_name()).unwrap().1, VALUE);
}

#[test]
fn a_changed_term_does_not_open() {
    // Term 1 exists, but its key-encryption key is another one.
    let mut bytes = record_bytes();
    let term = 16 + record_name().as_str().len();
    bytes[term..term + 4].copy_from_slice(&1_u32.to_be_bytes());

    assert_eq!(open(&bytes, &keyring(), &record_name()).unwrap_err(), OpenError::Unwrap);
}

#[test]
fn equal_values_have_unlike_records() {
    let keyring = keyring();

    assert_ne!(
        seal(&keyring, &header(), METADATA, VALUE).unwrap(),
        seal(&keyring, &header(), METADATA, VALUE).unwrap()
    );
}

#[test]
fn a_sealed_record_holds_no_plaintext() {
    let canary = b"canary-3f1d2c";
    let bytes = seal(&keyring(), &header(), canary, &canary.repeat(50)).unwrap();

    assert!(!bytes.windows(canary.len()).any(|window| window == canary));
}

proptest! {
    #[test]
    fn open_after_seal_gives_the_same(
        metadata in proptest::collection::vec(any::<u8>(), 0..300),
        value in proptest::collection::vec(any::<u8>(), 0..3000),
        version in any::<u64>(),
    ) {
        let keyring = keyring();
        let header = Header { name: record_name(), version };
        let bytes = seal(&keyring, &header, &metadata, &value).unwrap();

        let record = Record::parse(&bytes).unwrap();

        prop_assert_eq!(record.header(), &header);
        prop_assert_eq!(open(&bytes, &keyring, &record_name()).unwrap(), (metadata, value));
    }

    #[test]
    fn headers_are_canonical(version in any::<u64>(), suffix in "[0-9a-f]{16}", head in "[0-9a-f]{56}") {
        let name = ObjectName::parse(&format!("{head}.{version}.{suffix}")).unwrap();
        let header = Header { name, version };
        let bytes = header.to_bytes();
        let mut reader = Reader(&bytes);

        prop_assert_eq!(Header::read(&mut reader).unwrap(), header);
        prop_assert!(reader.end().is_ok());
    }

    #[test]
    fn random_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, &keyring(), &record_name()).is_err());
    }

    #[test]
    fn random_bytes_after_a_good_header_never_open(
        rest in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = [header().to_bytes(), rest].concat();

        prop_assert!(open(&bytes, &keyring(), &record_name()).is_err());
    }

    #[test]
    fn no_change_of_several_bytes_opens(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..6),
    ) {
        let mut bytes = record_bytes();
        for (index, change) in changes {
            let at = index.index(bytes.len());
            bytes[at] ^= change;
        }
        prop_assume!(bytes != record_bytes());

        prop_assert!(open(&bytes, &keyring(), &record_name()).is_err());
    }
}
