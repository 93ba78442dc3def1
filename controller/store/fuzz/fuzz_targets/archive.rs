//! Backups that anybody wrote: checked and read without a panic, to the same end however the bytes are
//! cut, and what is read passes the check.

#![no_main]

use std::convert::Infallible;

use futures::executor::block_on;
use futures::stream;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use watchword_store::archive;
use watchword_store::backend::memory::MemoryBackend;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, backup)) = bytes.split_first() else { return };
    judge(backup, cut);
    // Nobody guesses a checksum, but anybody can make one.
    if let Some(body) = backup.len().checked_sub(32).map(|length| &backup[..length]) {
        judge(&[body, Sha256::digest(body).as_slice()].concat(), cut);
    }
});

fn judge(backup: &[u8], cut: u8) {
    let whole = || stream::iter([Ok::<_, Infallible>(backup)]);
    let pieces = stream::iter(backup.chunks(usize::from(cut).max(1)).map(Ok::<_, Infallible>));
    let checked = block_on(archive::check(whole()));
    let cut = block_on(archive::check(pieces));
    assert_eq!(checked.as_ref().ok(), cut.as_ref().ok());
    let backend = MemoryBackend::default();
    let read = block_on(archive::read(&backend, whole()));
    let Ok(summary) = read else { return };
    assert_eq!(Some(&summary), checked.as_ref().ok(), "what is read passes the check");
}
