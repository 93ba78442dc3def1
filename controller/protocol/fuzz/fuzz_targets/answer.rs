//! What agent and controller read of the store's answers, refusals among them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_protocol::{CheckAnswer, ErrorAnswer, ResolveAnswer};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = serde_json::from_slice::<ResolveAnswer>(bytes) {
        let written = serde_json::to_vec(&answer).expect("an answer is JSON");
        let read: ResolveAnswer = serde_json::from_slice(&written).expect("our own form is read");
        let values = |answer: &ResolveAnswer| -> Vec<Vec<u8>> {
            answer.env.iter().map(|one| one.value.expose_secret().to_vec()).collect()
        };
        assert!(values(&answer) == values(&read));
    }
    let _ = serde_json::from_slice::<CheckAnswer>(bytes);
    if let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(bytes) {
        let written = serde_json::to_vec(&answer).expect("an answer is JSON");
        assert!(serde_json::from_slice::<ErrorAnswer>(&written).is_ok_and(|read| read == answer));
    }
});
