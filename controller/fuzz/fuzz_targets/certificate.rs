//! Certificates of clients, and the authorities that vouch for them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_controller::tls::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::certificate(bytes));
