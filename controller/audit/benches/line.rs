//! What a line of the audit log costs: made, chained and hashed; a checkpoint's signature; and
//! verifying.
#![allow(clippy::expect_used, missing_docs)] // a bench: what fails here fails loudly

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use watchword_audit::{Chain, Decision, Entry, Event, SigningKey, Subject, Verifier};

fn entry() -> Entry<'static> {
    Entry {
        event: Event::Resolve,
        decision: Decision::Allowed,
        subject: Subject::Container {
            namespace: "shop",
            pod: "web-7d9c5b6f4-x2x9p",
            uid: "0b0f6a52-4a3c-4d55-9a0e-8a3b1f6f9d10",
            container: "web",
            service_account: "default",
        },
        path: Some("shop/db"),
        version: Some(7),
        cause: None,
        unwritten: 0,
    }
}

fn lines(criterion: &mut Criterion) {
    let object = Some("3f1d0c9a8b7e6f5d4c3b2a190817263544536271809a0b1c2d3e4f5a");
    let time = Timestamp::UNIX_EPOCH;
    let mut chain = Chain::new("watchword-store-6c4f7d-x2x9p", [7; 8]);
    criterion.bench_function("a line", |bencher| {
        bencher.iter(|| {
            let line = chain.entry(time, &entry(), object).expect("a line");
            chain.written(&line);
            line
        });
    });

    let key = SigningKey::from_seed(&[7; 32]).expect("a key");
    let public = key.public();
    chain.sign_with(Some(key));
    criterion.bench_function("a checkpoint", |bencher| bencher.iter(|| chain.checkpoint(time)));

    let mut log = Vec::new();
    let mut write = |chain: &mut Chain, line: watchword_audit::Line| {
        log.extend_from_slice(line.bytes());
        chain.written(&line);
    };
    let mut chain = Chain::new("watchword-store-6c4f7d-x2x9p", [8; 8]);
    chain.sign_with(SigningKey::from_seed(&[7; 32]).ok());
    let open = chain.open(time, 0).expect("a line");
    write(&mut chain, open);
    for _ in 0..10_000 {
        let line = chain.entry(time, &entry(), object).expect("a line");
        write(&mut chain, line);
        if chain.is_checkpoint_due() {
            let line = chain.checkpoint(time).expect("a line").expect("a checkpoint");
            write(&mut chain, line);
        }
    }
    criterion.bench_function("10,000 lines verified", |bencher| {
        bencher.iter(|| {
            let mut verifier = Verifier::new(public, false);
            verifier.push(&log, |_| {});
            verifier.finish(|_| {})
        });
    });
}

criterion_group!(benches, lines);
criterion_main!(benches);
