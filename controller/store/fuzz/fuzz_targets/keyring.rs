//! Bytes that somebody put in the keyring's place: never a panic, and they never open.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watchword_store::{Keyring, RootKey};

static KEY: LazyLock<RootKey> = LazyLock::new(|| RootKey::generate().expect("randomness"));

fuzz_target!(|bytes: &[u8]| {
    let _ = Keyring::peek(bytes);
    assert!(Keyring::open(bytes, &KEY).is_err());
});
