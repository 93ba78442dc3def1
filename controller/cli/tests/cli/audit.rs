//! `watchword audit verify`: no store, no cluster, only a log and the key.

use serde_json::Value;

use crate::watchword::Person;

/// A log of every kind of line, and the key that signed it.
const LOG: &str = include_str!("../../../audit/src/known_answers/log.jsonl");
const KEY: &str = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";

#[test]
fn a_log_on_stdin_is_verified_with_a_key_from_a_file() {
    let auditor = Person::without_a_store();
    let key = auditor.file("audit.pub", format!("{KEY}\n").as_bytes());
    let key = key.to_str().unwrap();

    let said = auditor.pipes(
        LOG.as_bytes(),
        &["audit", "verify", "-", "--public-key", key, "--closed", "--output", "json"],
    );

    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(said.stderr, "verified: 8 lines in 1 chain\n");
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["verified"], true);
    assert_eq!(report["chains"][0]["closed"], true);
    assert_eq!(report["chains"][0]["signed"], 7);
}

#[test]
fn rotated_files_are_read_in_their_order() {
    let auditor = Person::without_a_store();
    let half = LOG.match_indices('\n').nth(3).unwrap().0 + 1;
    let older = auditor.file("audit.log.1", &LOG.as_bytes()[..half]);
    let newer = auditor.file("audit.log", &LOG.as_bytes()[half..]);
    let [older, newer] = [&older, &newer].map(|file| file.to_str().unwrap());

    let whole = auditor.runs(&["audit", "verify", older, newer, "--public-key", KEY]);
    let part = auditor.runs(&["audit", "verify", newer, "--public-key", KEY]);
    let allowed = auditor.runs(&["audit", "verify", newer, "--public-key", KEY, "--partial"]);

    assert_eq!((whole.status, part.status, allowed.status), (0, 1, 0), "{whole:?} {part:?}");
    let said = String::from_utf8(part.stdout).unwrap();
    assert!(said.contains("audit.log:1: chain "), "{said}");
    assert!(said.contains("begins with line 4: what came before is not there"), "{said}");
}

#[test]
fn what_is_wrong_is_named_and_fails() {
    let auditor = Person::without_a_store();
    let edited = LOG.replace("\"version\":7}\n", "\"version\":8}\n");

    let said = auditor.pipes(edited.as_bytes(), &["audit", "verify", "-", "--public-key", KEY]);

    assert_eq!(said.status, 1, "{said:?}");
    let found = String::from_utf8(said.stdout).unwrap();
    assert!(found.contains("-:2: chain "), "{found}");
    assert!(found.contains(": line 1 was changed\n"), "{found}");
    assert!(
        said.stderr.starts_with("error: not verified: 2 problems in 8 lines"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_key_that_is_none_is_a_usage_error() {
    let auditor = Person::without_a_store();

    let said = auditor.pipes(b"", &["audit", "verify", "-", "--public-key", "no-such-key"]);

    assert_eq!((said.status, said.stdout.as_slice()), (2, &b""[..]));
    assert!(said.stderr.contains("`no-such-key` is neither a public key nor a file"), "{said:?}");
}
