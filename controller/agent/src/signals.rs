//! Ending at once when the kubelet, or a person, says so.
//!
//! The kernel does not deliver a signal to PID 1 that it has no handler for: without this a pod
//! that waits for a sealed store would use up its whole grace period.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use crate::failure::Failure;

/// Lets the process end with 128 + the signal's number at any point, a blocked system call
/// included; `execve` sets every handler back to the default.
///
/// More than SIGTERM, because an image may name another signal as its `STOPSIGNAL`.
pub(crate) fn end_on_termination() -> Result<(), Failure> {
    let ignored = ignored();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        // What was ignored must stay so: a handler would come out of `execve` as the default.
        if ignored & mask(signal) == 0 {
            let always = Arc::new(AtomicBool::new(true));
            flag::register_conditional_shutdown(signal, 128 + signal, always)
                .map_err(|error| Failure::launch(format!("cannot handle signals: {error}")))?;
        }
    }
    // Rust's runtime ignores SIGPIPE, and an ignored signal stays ignored across `execve`; one with
    // a handler, any handler, becomes the default again.
    flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Failure::launch(format!("cannot handle signals: {error}")))?;
    Ok(())
}

/// The signals that are ignored, as the bits that the kernel shows; none if it shows nothing.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

fn mask(signal: i32) -> u64 {
    1 << (signal - 1)
}
