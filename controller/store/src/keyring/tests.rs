use proptest::prelude::*;

use super::*;
use crate::known_answers::{keyring, keyring_bytes, root_key};

fn custody() -> Custody {
    Keyring::peek(&keyring_bytes()).unwrap().0
}

/// Where the custody's length stands.
const LENGTH_AT: usize = 16 + "keyring".len();

#[test]
fn a_keyring_of_the_known_format_opens() {
    let keyring = keyring();

    assert_eq!(keyring.generation(), 2);
    assert_eq!(keyring.current_term(), 2);
    assert_eq!(keyring.terms().collect::<Vec<_>>(), [(1, 1000), (2, -1)]);
    assert_eq!(*keyring.audit_seed(), [0x55; 32]);
    assert_eq!((keyring.custody().shares, keyring.custody().threshold), (3, 2));
    assert_eq!(keyring.custody().keys, ["c1c0", "c1c1", "c1c2"]);
    assert_eq!(keyring.custody().pgp_fingerprints, ["f0", "f1", "f2"]);
    assert_eq!(
        keyring.head_name(&"shop/db".parse().unwrap()).as_str(),
        "b02b72f4f2f7e593e74c89edc7a0465376f1d4834fdcb5a334d9a249"
    );
}

#[test]
fn open_after_seal_gives_the_same_keyring() {
    let mut first = Keyring::generate(1000, &custody()).unwrap();
    first.rotate(2000).unwrap();
    let path: SecretPath = "shop/db".parse().unwrap();

    let second = Keyring::open(&first.seal(&root_key()).unwrap(), &root_key()).unwrap();

    assert!(first.write() == second.write());
    assert_eq!(first.custody(), second.custody());
    assert_eq!(first.generation(), second.generation());
    assert_eq!(first.head_name(&path), second.head_name(&path));
}

#[test]
fn a_rotation_adds_a_term_and_keeps_names_and_terms() {
    let mut keyring = Keyring::generate(1000, &custody()).unwrap();
    let path: SecretPath = "shop/db".parse().unwrap();
    let name = keyring.head_name(&path);

    assert_eq!(keyring.rotate(2000).unwrap(), 2);
    assert_eq!(keyring.rotate(3000).unwrap(), 3);

    assert_eq!(keyring.terms().collect::<Vec<_>>(), [(1, 1000), (2, 2000), (3, 3000)]);
    assert_eq!(keyring.generation(), 3);
    assert_eq!(keyring.head_name(&path), name);
}

#[test]
fn what_stands_in_the_clear_comes_out_again_byte_for_byte() {
    // With the field that this release does not know.
    let bytes = keyring().seal(&root_key()).unwrap();

    let clear = bytes.len() - keyring().write().len() - NONCE_BYTES - 16;
    assert_eq!(bytes[..clear], keyring_bytes()[..clear]);
}

#[test]
fn the_custody_is_read_without_a_key() {
    assert_eq!(Keyring::peek(&keyring_bytes()).unwrap(), (keyring().custody().clone(), 2));
}

#[test]
fn a_keyring_that_is_entrusted_to_others_keeps_all_keys_and_is_newer() {
    let mut keyring = keyring();

    keyring.entrust(&Custody::default());

    assert_eq!(keyring.custody(), &Custody::default());
    assert_eq!(keyring.generation(), 3);
    assert!(keyring.write() == self::keyring().write());
}

#[test]
fn a_custody_beyond_the_limit_is_neither_written_nor_read() {
    let mut keyring = keyring();
    let mut large = Custody::default();
    large.keys = vec!["c".repeat(MAX_CUSTODY_BYTES)];
    keyring.entrust(&large);

    let refused = keyring.seal(&root_key());

    assert!(matches!(refused, Err(SealKeyringError::Custody { .. })));
    let mut bytes = keyring_bytes();
    bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Keyring::peek(&bytes).err(), Some(OpenKeyringError::Custody));
    assert_eq!(Keyring::open(&bytes, &root_key()).err(), Some(OpenKeyringError::Custody));
}

#[test]
fn another_root_key_does_not_open_it() {
    let other = RootKey::generate().unwrap();

    assert_eq!(Keyring::open(&keyring_bytes(), &other).err(), Some(OpenKeyringError::Decrypt));
}

#[test]
fn a_keyring_that_moves_to_another_root_key_keeps_everything() {
    let other = RootKey::generate().unwrap();
    let moved = Keyring::open(&keyring().seal(&other).unwrap(), &other).unwrap();

    assert!(moved.write() == keyring().write());
}

#[test]
fn no_flipped_bit_opens() {
    let bytes = keyring_bytes();

    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);

        assert!(Keyring::open(&changed, &root_key()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_keyring_that_is_cut_short_or_longer_does_not_open() {
    let bytes = keyring_bytes();

    for length in 0..bytes.len() {
        assert!(Keyring::open(&bytes[..length], &root_key()).is_err());
    }
    assert!(Keyring::open(&[&bytes[..], &[0]].concat(), &root_key()).is_err());
}

#[test]
fn terms_out_of_order_or_none_are_refused() {
    let term = |number: u32| [&number.to_be_bytes()[..], &[0; 8], &[1; 32]].concat();
    let plain = |terms: &[u32]| {
        let count = u32::try_from(terms.len()).unwrap();
        let terms: Vec<u8> = terms.iter().flat_map(|&number| term(number)).collect();
        [&[7; 64][..], &count.to_be_bytes(), &terms].concat()
    };

    let read = |plain: &[u8]| Keyring::read(1, Custody::default(), plain);
    assert!(read(&plain(&[1, 2])).is_ok());
    for bad in [&[][..], &[1, 1], &[2, 1]] {
        assert_eq!(read(&plain(bad)).err(), Some(OpenKeyringError::Terms));
    }
    // A count that promises more than there is fails without reserving room for it.
    let mut greedy = plain(&[1]);
    greedy[64..68].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(read(&greedy).is_err());
}

#[test]
fn data_keys_of_one_term_do_not_unwrap_under_another() {
    let keyring = keyring();
    let (term, wrapped) = keyring.wrap(&DataKey::generate().unwrap());

    assert_eq!(term, 2);
    assert!(keyring.unwrap(2, &wrapped).is_ok());
    assert_eq!(keyring.unwrap(1, &wrapped).err(), Some(OpenError::Unwrap));
    assert_eq!(keyring.unwrap(3, &wrapped).err(), Some(OpenError::FindTerm { term: 3 }));
    assert_eq!(keyring.unwrap(2, &wrapped[..32]).err(), Some(OpenError::Unwrap));
}

proptest! {
    #[test]
    fn random_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Keyring::open(&bytes, &root_key()).is_err());
        prop_assert!(Keyring::peek(&bytes).is_err());
        prop_assert!(
            Keyring::read(1, Custody::default(), &bytes).is_err() || !bytes.is_empty()
        );
    }
}
