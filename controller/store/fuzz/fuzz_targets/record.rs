//! Bytes that somebody wrote into the back end: never a panic, and nothing of them opens.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watchword_store::record::Record;
use watchword_store::{Custody, Keyring};

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::generate(0, &Custody::default()).expect("randomness"));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::parse(bytes) {
        let name = record.header().name.clone();
        assert!(record.open_metadata(&KEYRING, &name).is_err());
        assert!(record.open_value(&KEYRING, &name).is_err());
    }
});
