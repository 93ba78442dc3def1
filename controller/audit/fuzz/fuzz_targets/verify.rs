//! Logs that anybody wrote: verified without a panic, to the same end however the bytes are cut, and
//! never found whole without the key.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watchword_audit::{PublicKey, SigningKey, Verifier};

/// The key that the log of the corpus was signed with.
static KEY: LazyLock<PublicKey> =
    LazyLock::new(|| SigningKey::from_seed(&[7; 32]).expect("a key").public());

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, log)) = bytes.split_first() else { return };
    let mut whole = Verifier::new(*KEY, false);
    whole.begin_file("log", |_| {});
    whole.push(log, |_| {});
    let mut pieces = Verifier::new(*KEY, false);
    pieces.begin_file("log", |_| {});
    for piece in log.chunks(usize::from(cut).max(1)) {
        pieces.push(piece, |_| {});
    }
    let (whole, pieces) = (whole.finish(|_| {}), pieces.finish(|_| {}));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
});
