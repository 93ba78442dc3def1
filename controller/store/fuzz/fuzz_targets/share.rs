//! Shares as people paste them: what is taken for one is the same share when it is written again,
//! and any two of them combine without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_store::{RootKey, Share};

fuzz_target!(|text: &str| {
    let mut shares = Vec::new();
    for line in text.lines() {
        if let Ok(share) = Share::parse(line) {
            let again = Share::parse(&share.to_hex()).ok().expect("our own form is read");
            assert!(share.is_same(&again));
            shares.push(share);
        }
    }
    let _ = RootKey::combine(&shares);
});
