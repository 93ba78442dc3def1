use std::ops::Range;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use rstest::rstest;

use super::*;
use crate::{Cause, Chain, Decision, Entry, Event, SigningKey, Subject};

const SEED: [u8; 32] = [7; 32];

fn key() -> PublicKey {
    SigningKey::from_seed(&SEED).unwrap().public()
}

fn entry(path: &str) -> Entry<'_> {
    Entry {
        event: Event::Update,
        decision: Decision::Allowed,
        subject: Subject::User { name: "alice", uid: None },
        path: Some(path),
        version: Some(3),
        cause: None,
        unwritten: 0,
    }
}

/// A chain with `entries` lines between its first and its last, a checkpoint after each `every`.
fn chain(boot: u8, entries: usize, every: usize) -> Vec<String> {
    let time: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
    let mut chain = Chain::new("store-0", [boot; 8]);
    let mut lines = Vec::new();
    let mut write = |chain: &mut Chain, line: crate::Line| {
        lines.push(String::from_utf8(line.bytes().to_vec()).unwrap());
        chain.written(&line);
    };
    let line = chain.open(time, 0).unwrap();
    write(&mut chain, line);
    chain.sign_with(SigningKey::from_seed(&SEED).ok());
    for number in 0..entries {
        let line = chain.entry(time, &entry(&format!("shop/{number}")), Some("ab")).unwrap();
        write(&mut chain, line);
        if (number + 1) % every == 0 {
            let line = chain.checkpoint(time).unwrap().unwrap();
            write(&mut chain, line);
        }
    }
    let line = chain.close(time).unwrap();
    write(&mut chain, line);
    lines
}

fn verify(log: &str) -> Report {
    verify_partial(log, false)
}

fn verify_partial(log: &str, is_partial: bool) -> Report {
    let mut verifier = Verifier::new(key(), is_partial);
    verifier.begin_file("audit.log", |_| {});
    verifier.push(log.as_bytes(), |_| {});
    verifier.finish(|_| {})
}

/// What is wrong: kind, number in the chain, line of the file.
fn found(report: &Report) -> Vec<(ProblemKind, Option<u64>, u64)> {
    report.problems.iter().map(|one| (one.kind, one.seq, one.place.line)).collect()
}

#[test]
fn a_whole_chain_is_verified_and_closed() {
    let report = verify(&chain(1, 250, 100).concat());

    assert!(report.is_verified(), "{:?}", report.problems);
    let [chain] = &report.chains[..] else { panic!("{:?}", report.chains) };
    assert_eq!((chain.first, chain.last, chain.lines), (0, 253, 254));
    assert_eq!((chain.signed, chain.is_closed, chain.unsigned()), (Some(253), true, 0));
}

#[test]
fn a_cut_tail_is_not_closed() {
    let mut lines = chain(1, 12, 5);
    lines.truncate(10);

    let report = verify(&lines.concat());

    assert!(report.is_verified(), "{:?}", report.problems);
    assert!(!report.chains[0].is_closed);
    assert_eq!((report.chains[0].last, report.chains[0].unsigned()), (9, 3));
}

#[test]
fn an_end_that_is_not_signed_does_not_close_a_chain() {
    // As a store writes it that ends sealed, and as anybody can who cuts the log there.
    let mut chain = Chain::new("store-0", [1; 8]);
    let mut lines = Vec::new();
    let mut write = |chain: &mut Chain, line: crate::Line| {
        lines.push(String::from_utf8(line.bytes().to_vec()).unwrap());
        chain.written(&line);
    };
    let open = chain.open(Timestamp::UNIX_EPOCH, 0).unwrap();
    write(&mut chain, open);
    chain.sign_with(SigningKey::from_seed(&SEED).ok());
    let checkpoint = chain.checkpoint(Timestamp::UNIX_EPOCH).unwrap().unwrap();
    write(&mut chain, checkpoint);
    chain.sign_with(None);
    let close = chain.close(Timestamp::UNIX_EPOCH).unwrap();
    write(&mut chain, close);

    let report = verify(&lines.concat());

    assert!(report.is_verified(), "{:?}", report.problems);
    let [chain] = &report.chains[..] else { panic!("{:?}", report.chains) };
    assert_eq!((chain.is_closed, chain.says_end, chain.unsigned()), (false, true, 1));
}

#[test]
fn a_file_that_ends_within_a_line_is_cut_there() {
    let log = chain(1, 12, 5).concat();

    let report = verify(&log[..log.len() - 30]);

    assert!(report.is_verified(), "{:?}", report.problems);
    assert_eq!(report.cut, [Place { file: 0, line: 16 }]);
    assert!(!report.chains[0].is_closed);
}

#[test]
fn what_was_removed_is_named() {
    let mut lines = chain(1, 12, 5);
    lines.drain(3..5);

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Missing { to: 4 }, Some(3), 4)]);
    assert_eq!(report.problems[0].to_string(), "lines 3 to 4, before this one, were removed");
}

#[rstest]
#[case("\"alice\"", "\"mallory\"")]
#[case("\"prev\":\"", "\"prev\":\"0")]
#[case("\"version\":3", "\"version\":4")]
#[case("\"seq\":3", "\"seq\":5")]
fn a_changed_line_is_named(#[case] from: &str, #[case] to: &str) {
    let mut lines = chain(1, 12, 5);
    lines[3] = lines[3].replace(from, to);

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Changed, Some(3), 4)]);
}

#[test]
fn a_line_that_was_changed_before_a_checkpoint_is_named() {
    let mut lines = chain(1, 12, 5);
    lines[5] = lines[5].replace("alice", "mallory");

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Changed, Some(5), 6)]);
}

#[test]
fn a_line_that_was_moved_is_named() {
    let mut lines = chain(1, 12, 5);
    let line = lines.remove(3);
    lines.insert(8, line);

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Moved, Some(3), 9)]);
}

#[test]
fn a_line_that_was_inserted_is_named() {
    let mut lines = chain(1, 12, 5);
    // A forger can compute the hash of the line before.
    let forged = lines[3].replace("alice", "mallory");
    lines.insert(3, forged);

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Inserted, Some(3), 4)]);
}

#[test]
fn a_line_that_is_there_twice_is_named() {
    let mut lines = chain(1, 12, 5);
    lines.insert(9, lines[4].clone());

    let report = verify(&lines.concat());

    assert_eq!(found(&report), [(ProblemKind::Repeated, Some(4), 10)]);
}

#[test]
fn a_line_behind_the_end_is_named() {
    let mut lines = chain(1, 3, 5);
    let last = lines[3].replace("\"seq\":3", "\"seq\":5");
    lines.push(last);

    let report = verify(&lines.concat());

    assert!(found(&report).contains(&(ProblemKind::AfterClose, Some(5), 6)), "{report:?}");
}

#[test]
fn another_key_verifies_nothing() {
    let mut verifier = Verifier::new(SigningKey::from_seed(&[8; 32]).unwrap().public(), false);
    verifier.push(chain(1, 3, 5).concat().as_bytes(), |_| {});

    let report = verifier.finish(|_| {});

    assert_eq!(
        found(&report),
        [(ProblemKind::WrongSignature, Some(4), 5), (ProblemKind::NotSigned, Some(0), 5)]
    );
}

#[test]
fn a_chain_that_nobody_signed_is_not_verified() {
    let mut lines = chain(1, 3, 5);
    lines.truncate(4);

    assert_eq!(found(&verify(&lines.concat())), [(ProblemKind::NotSigned, Some(0), 4)]);
}

#[test]
fn a_beginning_may_be_missing_if_one_says_so() {
    let mut lines = chain(1, 12, 5);
    lines.drain(..4);

    assert_eq!(found(&verify(&lines.concat())), [(ProblemKind::NoBeginning, Some(4), 1)]);
    assert!(verify_partial(&lines.concat(), true).is_verified());
}

#[test]
fn prefixes_other_programs_and_other_chains_do_not_disturb() {
    let [one, two] = [chain(1, 12, 5), chain(2, 9, 4)];
    let mut log = String::new();
    for (number, line) in one.iter().enumerate() {
        log += &format!("[pod/store-0/store] 2026-11-24T00:00:00.000000001Z {line}");
        log += "{\"level\":\"INFO\",\"kind\":\"audit\"}\n\n";
        log += two.get(number).map_or("", String::as_str);
    }

    let report = verify(&log);

    assert!(report.is_verified(), "{:?}", report.problems);
    assert_eq!(report.chains.len(), 2);
    assert!(report.chains.iter().all(|chain| chain.is_closed));
    assert_eq!(report.foreign, 2 * 16);
}

#[test]
fn a_chain_goes_on_over_files() {
    let lines = chain(1, 12, 5);
    let mut verifier = Verifier::new(key(), false);
    verifier.begin_file("audit.log.1", |_| {});
    verifier.push(lines[..7].concat().as_bytes(), |_| {});
    verifier.begin_file("audit.log", |_| {});
    verifier.push(lines[8..].concat().as_bytes(), |_| {});

    let report = verifier.finish(|_| {});

    assert_eq!(found(&report), [(ProblemKind::Missing { to: 7 }, Some(7), 1)]);
    assert_eq!(report.place(report.problems[0].place), "audit.log:1");
}

#[test]
fn a_torn_line_is_no_problem_where_the_log_tells_of_it() {
    let time = Timestamp::UNIX_EPOCH;
    let mut chain = Chain::new("store-0", [1; 8]);
    let mut log = String::new();
    let mut write = |chain: &mut Chain, before: &str, line: crate::Line| {
        log += before;
        log += std::str::from_utf8(line.bytes()).unwrap();
        chain.written(&line);
    };
    let line = chain.open(time, 0).unwrap();
    write(&mut chain, "", line);
    chain.sign_with(SigningKey::from_seed(&SEED).ok());
    let line = chain.lost(time, 1, 1, "no space left on device").unwrap();
    write(&mut chain, "{\"kind\":\"audit\",\"v\":1,\"cha\n", line);
    let line = chain.close(time).unwrap();
    write(&mut chain, "", line);

    let report = verify(&log);
    assert!(report.is_verified(), "{:?}", report.problems);
    assert_eq!(report.torn, [Place { file: 0, line: 2 }]);

    let report = verify(&format!("{{\"kind\":\"audit\",\"v\":1,\"cha\n{log}"));
    assert_eq!(found(&report).len(), 2);
}

#[test]
fn lines_are_bounded_whatever_stands_in_them() {
    let long = "\u{1}\"\n".repeat(3000);
    let chain = Chain::new(&"p".repeat(300), [1; 8]);
    let entry = Entry {
        event: Event::Resolve,
        decision: Decision::Failed,
        subject: Subject::Container {
            namespace: &long,
            pod: &long,
            uid: &long,
            container: &long,
            service_account: &long,
        },
        path: Some(&long),
        version: Some(u64::MAX),
        cause: Some(Cause { code: &long, message: &long, record: Some(&long) }),
        unwritten: u64::MAX,
    };

    let line = chain.entry(Timestamp::MAX, &entry, Some(&long)).unwrap();

    assert!(line.bytes().len() <= MAX_LINE_BYTES, "{}", line.bytes().len());
    let feeds = line.bytes().iter().filter(|byte| **byte < b' ').count();
    assert_eq!(feeds, 1);
}

/// One edit of a log.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Repeat(Index, Index),
    Swap(Index),
    Byte(Index, Index, u8),
    Forge(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<Index>().prop_map(Edit::Remove),
        any::<(Index, Index)>().prop_map(|(line, to)| Edit::Repeat(line, to)),
        any::<Index>().prop_map(Edit::Swap),
        any::<(Index, Index, u8)>().prop_map(|(line, at, byte)| Edit::Byte(line, at, byte)),
        any::<Index>().prop_map(Edit::Forge),
    ]
}

/// Makes the edit among the lines in front of the last checkpoint; returns the numbers that a
/// problem may name, or nothing if nothing has changed.
fn apply(edit: &Edit, lines: &mut Vec<Vec<u8>>, last: usize) -> Option<Range<usize>> {
    match edit {
        Edit::Remove(index) => {
            let line = index.index(last);
            lines.remove(line);
            Some(line..line + 2)
        }
        Edit::Repeat(index, to) => {
            let line = index.index(last);
            let to = to.index(last);
            let copy = lines[line].clone();
            lines.insert(to, copy);
            Some(line..line + 1)
        }
        Edit::Swap(index) => {
            let line = index.index(last - 1);
            lines.swap(line, line + 1);
            Some(line..line + 2)
        }
        Edit::Byte(index, at, byte) => {
            let line = index.index(last + 1);
            let at = at.index(lines[line].len());
            let before = std::mem::replace(&mut lines[line][at], *byte);
            (before != *byte).then_some(line..line + 2)
        }
        Edit::Forge(index) => {
            let line = index.index(last);
            let text = String::from_utf8(lines[line].clone()).unwrap();
            let forged = text.replace("store-0", "store-1").replace("\"event\"", "\"event\" ");
            lines.insert(line, forged.into_bytes());
            Some(0..lines.len())
        }
    }
}

proptest! {
    #[test]
    fn any_edit_in_front_of_a_signature_is_found_and_named(
        entries in 5usize..40, every in 2usize..7, edit in edit(),
    ) {
        let mut lines: Vec<_> = chain(1, entries, every).into_iter().map(String::into_bytes).collect();
        let last = lines.len() - 1;
        let Some(named) = apply(&edit, &mut lines, last) else { return Ok(()) };

        let mut verifier = Verifier::new(key(), false);
        verifier.push(&lines.concat(), |_| {});
        let report = verifier.finish(|_| {});

        // Of the last line no more can be said than that the end is not there, or not signed; in a
        // short chain the only signature went with it.
        let is_whole = |chain: &ChainReport| chain.is_closed && chain.unsigned() == 0;
        let only_unsigned = report.problems.iter().all(|it| it.kind == ProblemKind::NotSigned);
        if only_unsigned && named.contains(&last) {
            prop_assert!(!report.chains.iter().all(is_whole));
            return Ok(());
        }
        prop_assert!(!report.is_verified());
        let names = |problem: &Problem| {
            let seq = problem.seq.and_then(|seq| usize::try_from(seq).ok());
            let line = usize::try_from(problem.place.line).unwrap() - 1;
            seq.is_some_and(|seq| named.contains(&seq)) || named.contains(&line)
        };
        prop_assert!(report.problems.iter().any(names), "{edit:?}: {:?}", report.problems);
    }

    #[test]
    fn however_the_bytes_come_the_report_is_the_same(
        entries in 1usize..20, cuts in proptest::collection::vec(1usize..300, 1..50),
    ) {
        let log = chain(1, entries, 3).concat();
        let mut verifier = Verifier::new(key(), false);
        verifier.begin_file("audit.log", |_| {});
        let mut rest = log.as_bytes();
        for cut in cuts {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            verifier.push(piece, |_| {});
            rest = left;
        }
        verifier.push(rest, |_| {});

        prop_assert_eq!(verifier.finish(|_| {}), verify(&log));
    }

    #[test]
    fn no_bytes_make_it_panic(pieces in proptest::collection::vec(
        prop_oneof![
            any::<Vec<u8>>(),
            Just(br#"{"kind":"audit","v":1,"chain":"a/b","seq":18446744073709551615,"prev":"","time":"2026-11-24T00:00:00Z","event":"close"}"#.to_vec()),
            Just(br#"{"kind":"audit","v":1,"chain":"a/b","seq":0,"prev":"","time":"2026-11-24T00:00:00Z","event":"checkpoint","signature":"A"}"#.to_vec()),
            Just(b"\n".to_vec()),
        ],
        0..40,
    )) {
        let mut verifier = Verifier::new(key(), false);
        for piece in pieces {
            verifier.push(&piece, |_| {});
        }
        verifier.finish(|_| {});
    }
}
