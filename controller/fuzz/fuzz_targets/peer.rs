//! Messages between replicas of the store: the hand-over of the key, and forwarded ceremonies.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_controller::serve::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::peer(bytes));
