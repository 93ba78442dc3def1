//! Where a store is, as people type it: what is read is written as it can be read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_store::Location;

fuzz_target!(|text: &str| {
    if let Ok(location) = text.parse::<Location>() {
        assert_eq!(location.to_string().parse(), Ok(location), "{text:?}");
    }
});
