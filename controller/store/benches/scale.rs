//! What a large store costs: `cargo bench -p watchword-store --features file --bench scale`.
//!
//! 100,000 secrets of 256 bytes are written to a file in memory, where no disk is in the way. Each
//! figure then comes from a process of its own, which opens that file as a store does that starts.
//!
//! | figure | is |
//! |---|---|
//! | unseal to first read | from the root key to the first value, the file being open |
//! | first list of N | every head fetched from the file and opened |
//! | list of N | the same again, heads in memory |
//! | read of each | N different secrets once, ciphertext from the file: head name, unwrap, open |
//! | read of each again | the same, ciphertext in memory as far as the cache holds it |
//! | resident | what the process then has in memory, and how much of it is not the file's cache |
//!
//! Time is the CPU's own (`/proc/self/schedstat`), so that others on the machine disturb less.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)] // for people at a terminal

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tokio::runtime::{Builder, Runtime};
use watchword_store::backend::file::FileBackend;
use watchword_store::{
    Config, ContentType, Custody, Meta, Precondition, RootKey, SecretPath, Share, Store, Value,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.as_slice() {
        [_, word, folder, count] if word == CHILD => {
            measure(Path::new(folder), count.parse().unwrap());
        }
        _ => parent(),
    }
}

/// Makes stores, and has each measured.
fn parent() {
    for count in [10_000, 100_000] {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        runtime().block_on(fill(folder.path(), count));
        // The fastest of three: what is slower was disturbed.
        for _ in 0..3 {
            let program = env::current_exe().unwrap();
            let mut child = Command::new(program);
            child.arg(CHILD).arg(folder.path()).arg(count.to_string());
            assert!(child.status().unwrap().success());
        }
    }
}

async fn fill(folder: &Path, count: usize) {
    let store = Store::new(FileBackend::open(&folder.join("store")).unwrap(), Config::default());
    store.initialize(&root_key(), &Custody::default(), 0).await.unwrap();
    store.unseal(root_key()).await.unwrap();
    let meta = Meta {
        author: "grace".to_owned(),
        content_type: ContentType::Text,
        created: 0,
        about: None,
    };
    let value = Value::new(vec![b'x'; 256]);
    for number in 0..count {
        store.write(&path(number), &value, &meta, Precondition::Create).await.unwrap();
    }
}

fn measure(folder: &Path, count: usize) {
    let runtime = runtime();
    let before = resident();
    let store = Store::new(FileBackend::open(&folder.join("store")).unwrap(), Config::default());
    runtime.block_on(async {
        let start = cpu_ns();
        store.unseal(root_key()).await.unwrap();
        store.read(&path(0), None).await.ok().unwrap();
        let unseal = cpu_ns() - start;

        let list = async || {
            let start = cpu_ns();
            assert_eq!(store.list(None).await.unwrap().entries.len(), count);
            cpu_ns() - start
        };
        let (first, again) = (list().await, list().await);
        let read = async || {
            let start = cpu_ns();
            for number in 0..count {
                store.read(&path(number), None).await.ok().unwrap();
            }
            (cpu_ns() - start) / u64::try_from(count).unwrap()
        };
        let (cold, warm) = (read().await, read().await);
        println!(
            "{count:>7} secrets: unseal to first read {:.2} ms, first list {:.1} ms, list {:.1} ms, \
             read of each {:.2} µs, again {:.2} µs, resident {:.1} MB ({:.1} MB before)",
            millis(unseal),
            millis(first),
            millis(again),
            millis(cold) * 1e3,
            millis(warm) * 1e3,
            resident(),
            before,
        );
    });
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

fn root_key() -> RootKey {
    RootKey::combine(&[Share::parse(&"5c".repeat(32)).ok().unwrap()]).ok().unwrap()
}

fn path(number: usize) -> SecretPath {
    format!("team-{}/service-{}/secret-{number}", number % 50, number % 1000).parse().unwrap()
}

/// The CPU time of all threads so far.
fn cpu_ns() -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .map(|thread| {
            let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

/// Memory that is resident and no file's, in MB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn millis(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// The first argument of a process that measures.
const CHILD: &str = "measure";
