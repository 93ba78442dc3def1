//! Requests of the Secrets API as anybody may send them: path, query, headers and body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_controller::serve::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::request(bytes));
