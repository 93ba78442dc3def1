//! Messages that are said to be encrypted to somebody's key: what comes out was encrypted to it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watchword_store::openpgp::PrivateKey;

static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::parse(include_bytes!("key.gpg")).expect("a key"));

fuzz_target!(|message: &[u8]| {
    if let Ok(plaintext) = KEY.decrypt(message, None) {
        assert_eq!(plaintext.as_slice(), b"share");
    }
});
