//! OpenPGP keys as anybody may give them for a share: binary in base64, armoured, and private ones. What
//! is taken for a public key can be encrypted to, or says why not.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use watchword_store::openpgp::{PrivateKey, PublicKey};

fuzz_target!(|bytes: &[u8]| {
    let armoured = std::str::from_utf8(bytes).ok().map(str::to_owned);
    for text in [Some(STANDARD.encode(bytes)), armoured].into_iter().flatten() {
        if let Ok(key) = PublicKey::parse(&text, NOW) {
            assert!(PublicKey::parse(&key.to_base64(), NOW).is_ok(), "our own form is read");
            let _ = key.encrypt(b"share");
        }
    }
    let _ = PrivateKey::parse(bytes);
});

/// In the life of the corpus' keys.
const NOW: i64 = 1_800_000_000;
