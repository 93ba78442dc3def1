//! What stands in heads, in the object of namespaces and in the seal's: from whoever had the key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_store::{SealState, fuzzing};

fuzz_target!(|bytes: &[u8]| {
    fuzzing::head(bytes);
    fuzzing::namespaces(bytes);
    let _ = SealState::parse(bytes);
});
