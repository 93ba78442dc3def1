//! How much later an application starts through the agent than by itself.
//!
//! `cargo bench -p watchword-agent` starts `/bin/true` directly and through the agent, in turns,
//! and prints the paired difference: two starts next to each other share the machine's mood. The
//! store is a stub on this machine that answers at once, so that what counts is the agent: its own
//! start, a TLS 1.3 handshake (the stub's half included), one request, `execve`. WATCHWORD_AGENT
//! names another binary to measure, as the one that is released. That one has to be built with
//! AWS_LC_SYS_NO_JITTER_ENTROPY=1: without it aws-lc gathers entropy from the timing of the CPU
//! before its first random number, beside what the kernel gives, for 30 ms of CPU time at each start.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for people at a terminal

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Container, Reply, Store};

fn main() {
    // `cargo test --benches` runs this too: then once is enough to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 500 } else { 1 };
    let store = Store::start(|_, _| Reply::env(&[("PASSWORD", b"correct horse battery staple")]));
    let container = Container::of(&store);
    let cache = container.path("environment");
    let mut fetched = container.agent(&["exec", "--", "/bin/true"]);
    fetched.env("WATCHWORD_ENV_CACHE", &cache);
    let mut cached = container.agent(&["exec", "--cached", "--", "/bin/true"]);
    cached.env("WATCHWORD_ENV_CACHE", &cache);
    let mut direct = Command::new("/bin/true");
    direct.env_clear();

    let mut samples = Vec::new();
    for _ in 0..rounds {
        samples.push([time(&mut direct), time(&mut fetched), time(&mut cached)]);
    }

    println!("{}, {rounds} rounds, in milliseconds", support::binary().display());
    row("direct", samples.iter().map(|sample| millis(sample[0])));
    row("exec", samples.iter().map(|sample| millis(sample[1])));
    row("exec --cached", samples.iter().map(|sample| millis(sample[2])));
    row("exec over direct", samples.iter().map(|sample| millis(sample[1]) - millis(sample[0])));
    row(
        "exec --cached over direct",
        samples.iter().map(|sample| millis(sample[2]) - millis(sample[0])),
    );
}

fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    assert!(command.status().unwrap().success());
    start.elapsed()
}

fn row(name: &str, values: impl Iterator<Item = f64>) {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    println!("{name:26} median {:6.2}   p10 {:6.2}   p90 {:6.2}", at(0.5), at(0.1), at(0.9));
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
