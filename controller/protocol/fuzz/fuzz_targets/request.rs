//! What anybody may send to the store as an agent or as the controller.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_protocol::{CheckRequest, ResolveRequest};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<ResolveRequest>(bytes) {
        let written = serde_json::to_vec(&request).expect("a request is JSON");
        assert!(
            serde_json::from_slice::<ResolveRequest>(&written).is_ok_and(|read| read == request)
        );
    }
    if let Ok(request) = serde_json::from_slice::<CheckRequest>(bytes) {
        let written = serde_json::to_vec(&request).expect("a request is JSON");
        assert!(serde_json::from_slice::<CheckRequest>(&written).is_ok_and(|read| read == request));
    }
});
