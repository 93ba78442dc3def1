//! Taking a key out of a secret whose value anybody wrote: no panic, and what comes out is what a
//! parser of JSON finds there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_core::reference::pick;

fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (key, value) = rest.split_at(rest.len().min(usize::from(length)));
    let Ok(key) = std::str::from_utf8(key) else { return };
    match pick(value, Some(key)) {
        Ok(picked) => {
            // It reads all of it, where we skip what is not asked for: numbers out of range, say.
            if let Ok(json) = serde_json::from_slice::<serde_json::Value>(value) {
                assert_eq!(json[key].as_str().map(str::as_bytes), Some(picked.as_slice()));
            }
            assert!(std::str::from_utf8(value).is_ok());
        }
        Err(error) => drop(error.to_string()),
    }
    assert_eq!(pick(value, None).ok().as_deref().map(Vec::as_slice), Some(value));
});
