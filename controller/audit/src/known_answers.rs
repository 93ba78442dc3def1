//! The format, byte for byte: logs that were written by older releases have to verify for ever.

use jiff::Timestamp;

use crate::{Cause, Chain, Decision, Entry, Event, Line, SigningKey, Subject, Verifier};

/// A log of every kind of line. A change of these bytes is a change of the format.
const LOG: &str = include_str!("known_answers/log.jsonl");

#[test]
fn a_log_is_written_byte_for_byte_as_ever() {
    let time: Timestamp = "2026-11-24T00:00:00.5Z".parse().unwrap();
    let mut chain = Chain::new("watchword-store-6c4f7d-x2x9p", [0x5f; 8]);
    let mut log = Vec::new();
    let mut write = |chain: &mut Chain, line: Line| {
        log.extend_from_slice(line.bytes());
        chain.written(&line);
    };
    let line = chain.open(time, 1).unwrap();
    write(&mut chain, line);
    let release = Entry {
        event: Event::Resolve,
        decision: Decision::Allowed,
        subject: Subject::Container {
            namespace: "shop",
            pod: "web-0",
            uid: "0b0f6a52-4a3c-4d55-9a0e-8a3b1f6f9d10",
            container: "web",
            service_account: "default",
        },
        path: Some("shop/db"),
        version: Some(7),
        cause: None,
        unwritten: 0,
    };
    let line = chain.entry(time, &release, Some("3f1d0c9a")).unwrap();
    write(&mut chain, line);
    let denial = Entry {
        event: Event::Read,
        decision: Decision::Denied,
        subject: Subject::User { name: "eve\n\"\u{1b}[2J", uid: Some("42") },
        path: Some("shop/db"),
        version: None,
        cause: Some(Cause {
            code: "denied",
            message: "`eve` may not read `shop/db`",
            record: None,
        }),
        unwritten: 0,
    };
    let line = chain.entry(time, &denial, None).unwrap();
    write(&mut chain, line);
    let damage = Entry {
        subject: Subject::Nobody { container: None },
        cause: Some(Cause { code: "unavailable", message: "", record: Some("3f1d0c9a.7.00") }),
        ..denial
    };
    let line = chain.entry(time, &damage, None).unwrap();
    write(&mut chain, line);
    let line = chain.lost(time, 2, 1, "no space left on device").unwrap();
    write(&mut chain, line);
    chain.sign_with(SigningKey::from_seed(&[7; 32]).ok());
    let line = chain.checkpoint(time).unwrap().unwrap();
    write(&mut chain, line);
    let seal = Entry { event: Event::Seal, subject: Subject::Store {}, ..release.without_path() };
    let line = chain.entry(time, &seal, None).unwrap();
    write(&mut chain, line);
    let line = chain.close(time).unwrap();
    write(&mut chain, line);

    assert_eq!(String::from_utf8(log).unwrap(), LOG);
}

#[test]
fn the_log_of_an_older_release_verifies() {
    let key = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=".parse().unwrap();
    let mut verifier = Verifier::new(key, false);
    verifier.push(LOG.as_bytes(), |_| {});

    let report = verifier.finish(|_| {});

    assert!(report.is_verified(), "{:?}", report.problems);
    assert!(report.chains[0].is_closed);
}
