//! Bodies of ceremonies: `init`, `unseal`, `rekey`, `rotate`, as anybody may send them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_controller::serve::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::ceremony(bytes));
