//! What the init container reads of a pod's spec.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_protocol::FilePlan;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = serde_json::from_slice::<FilePlan>(bytes) {
        let written = serde_json::to_vec(&plan).expect("a plan is JSON");
        assert!(serde_json::from_slice::<FilePlan>(&written).is_ok_and(|read| read == plan));
    }
});
