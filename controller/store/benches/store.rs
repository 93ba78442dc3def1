//! What a read and a write cost: `cargo bench -p watchword-store --features file`.
//!
//! | benchmark | measures |
//! |---|---|
//! | `hot read 256 B` | a read whose head and ciphertext are in memory: unwrap and open |
//! | `seal 256 B`, `open 256 B`, `open 1 MiB` | one record, without store and back end |
//! | `write 256 B to a file` | two transactions with fsync each |

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark that cannot be set up should stop

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use watchword_store::backend::file::FileBackend;
use watchword_store::record::{self, Header, Record};
use watchword_store::{
    Config, ContentType, Custody, Keyring, MAX_VALUE_BYTES, Meta, ObjectName, Precondition,
    RootKey, SecretPath, Store, Value,
};

fn records(criterion: &mut Criterion) {
    let keyring = Keyring::generate(0, &Custody::default()).unwrap();
    let path: SecretPath = "shop/web/db".parse().unwrap();
    let name = format!("{}.1.0123456789abcdef", keyring.head_name(&path));
    let name = ObjectName::parse(&name).unwrap();
    let header = Header { name: name.clone(), version: 1 };
    let metadata = [b'm'; 100];

    criterion.bench_function("seal 256 B", |bencher| {
        bencher.iter(|| record::seal(&keyring, &header, &metadata, black_box(&[7; 256])).unwrap());
    });
    for (label, length) in [("open 256 B", 256), ("open 1 MiB", MAX_VALUE_BYTES)] {
        let sealed = record::seal(&keyring, &header, &metadata, &vec![7; length]).unwrap();
        let mut group = criterion.benchmark_group("records");
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(label, |bencher| {
            bencher.iter(|| {
                let record = Record::parse(black_box(&sealed)).unwrap();
                record.open_value(&keyring, &name).unwrap()
            });
        });
        group.finish();
    }
}

fn stores(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let backend = FileBackend::open(&directory.path().join("store")).unwrap();
    let store = Store::new(backend, Config::default());
    let path: SecretPath = "shop/web/db".parse().unwrap();
    let meta = Meta {
        author: "bench".to_owned(),
        content_type: ContentType::Binary,
        created: 0,
        about: None,
    };
    let value = Value::new(vec![7; 256]);
    let write = || async { store.write(&path, &value, &meta, Precondition::Any).await.unwrap() };
    runtime.block_on(async {
        let key = RootKey::generate().unwrap();
        store.initialize(&key, &Custody::default(), 0).await.unwrap();
        store.unseal(key).await.unwrap();
        write().await;
    });

    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hot read 256 B", |bencher| {
        // One entry into the runtime for all reads, as a server has one for all requests.
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
                let start = std::time::Instant::now();
                for _ in 0..count {
                    black_box(store.read(black_box(&path), None).await.ok().unwrap());
                }
                start.elapsed()
            })
        });
    });
    group.sample_size(20);
    group.bench_function("write 256 B to a file", |bencher| {
        bencher.iter(|| runtime.block_on(write()));
    });
    group.finish();
}

criterion_group!(benches, records, stores);
criterion_main!(benches);
