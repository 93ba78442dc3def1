use std::fs;

use watchword_audit::Verifier;

use super::*;

const SEED: [u8; 32] = [7; 32];

fn args(audit_paths: AuditPaths, audit_failure: OnFailure) -> AuditArgs {
    AuditArgs {
        audit_paths,
        audit_file: None,
        audit_file_bytes: 1 << 20,
        audit_files: 2,
        audit_failure,
    }
}

fn denial() -> Entry<'static> {
    Entry {
        event: Event::Read,
        decision: Decision::Denied,
        subject: Subject::User { name: "alice", uid: None },
        path: Some("shop/db"),
        version: None,
        cause: Some(Cause { code: "denied", message: "no rule for `shop/db`", record: None }),
        unwritten: 0,
    }
}

fn hash(_: &str) -> Option<String> {
    Some("3f1d0c9a".to_owned())
}

#[test]
fn the_count_of_refusals_without_a_line_stands_also_where_paths_are_hashed_and_texts_are_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let file = LogFile::open(&path, 1 << 20, 2).unwrap();
    let sinks = vec![Sink::new("file", file.into(), "store-0").unwrap()];
    let audit = Audit::begin(sinks, &args(AuditPaths::Hashed, OnFailure::Refuse)).unwrap();
    let message = "x".repeat(5000);
    let cause = denial().cause.map(|cause| Cause { message: &message, ..cause });
    let counting = Entry { cause, unwritten: 7, ..denial() };

    audit.write(Timestamp::UNIX_EPOCH, &counting, hash).unwrap();

    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains(r#""unwritten":7"#), "{log}");
}

#[test]
fn hashed_paths_leave_no_path_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let file = LogFile::open(&path, 1 << 20, 2).unwrap();
    let sinks = vec![Sink::new("file", file.into(), "store-0").unwrap()];
    let audit = Audit::begin(sinks, &args(AuditPaths::Hashed, OnFailure::Refuse)).unwrap();

    audit.write(Timestamp::UNIX_EPOCH, &denial(), hash).unwrap();

    let log = fs::read_to_string(path).unwrap();
    assert!(!log.contains("shop"), "{log}");
    let line = log.lines().last().unwrap();
    let expected = r#""subject":{"user":{"name":"alice"}},"object":"3f1d0c9a","code":"denied"}"#;
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn a_sink_that_fails_refuses_unless_it_may_be_gone_on_without() {
    for (on_failure, expected) in [(OnFailure::Refuse, None), (OnFailure::Continue, Some(false))] {
        let (reader, writer) = io::pipe().unwrap();
        let file = fs::File::from(std::os::fd::OwnedFd::from(writer));
        let sinks = vec![Sink::new("stdout", Stream::new(file).into(), "store-0").unwrap()];
        let audit = Audit::begin(sinks, &args(AuditPaths::Clear, on_failure)).unwrap();
        drop(reader);

        let written = audit.write(Timestamp::UNIX_EPOCH, &denial(), hash);

        assert_eq!(written.ok(), expected, "{on_failure:?}");
        assert_eq!((audit.lost.get(), audit.lines.get()), (1, 0));
    }
}

#[test]
fn lines_from_before_the_store_was_unsealed_are_signed_with_the_first_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let file = LogFile::open(&path, 1 << 20, 2).unwrap();
    let sinks = vec![Sink::new("file", file.into(), "store-0").unwrap()];
    let audit = Audit::begin(sinks, &args(AuditPaths::Clear, OnFailure::Refuse)).unwrap();
    let verify = || {
        let key = SigningKey::from_seed(&SEED).unwrap().public();
        let mut verifier = Verifier::new(key, false);
        verifier.push(&fs::read(&path).unwrap(), |_| {});
        let report = verifier.finish(|_| {});
        let chain = &report.chains[0];
        (report.problems.len(), chain.signed, chain.unsigned(), chain.is_closed)
    };

    audit.write(Timestamp::UNIX_EPOCH, &denial(), hash).unwrap();
    assert_eq!(verify(), (1, None, 2, false));

    audit.unsealed(Zeroizing::new(SEED));
    assert_eq!(verify(), (0, Some(2), 0, false));

    audit.write(Timestamp::UNIX_EPOCH, &denial(), hash).unwrap();
    audit.sealing();
    audit.write(Timestamp::UNIX_EPOCH, &denial(), hash).unwrap();
    assert_eq!(verify(), (0, Some(4), 1, false));

    audit.close();
    // Nothing vouches for the end: it could be anybody's.
    assert_eq!(verify(), (0, Some(4), 2, false));
    assert!(audit.write(Timestamp::UNIX_EPOCH, &denial(), hash).is_err());
}
