//! `watchword audit …`: the key of the audit log, and its verification, which needs nothing else.
//!
//! What is wrong goes to stdout, one line each, in front of it the place: it is what was asked for.
//! Exit status 0 means verified, which a log that is not closed may be.

use std::path::PathBuf;

use watchword_audit::Report;

use crate::{
    api::Store,
    args::{AuditArgs, AuditCommand, misuse},
    audit::{self, JsonReport, is_verified},
    connect::{Pods, connect},
    output::{Output, Told, WriteError, chain, printable},
};

pub(super) async fn run(args: AuditArgs, output: &mut Output) -> anyhow::Result<()> {
    match args.command {
        AuditCommand::PublicKey { store, reach } => {
            let connection = connect(&reach.target()?, Pods::Ready).await?;
            let key = Store { connection, id: store.store_id }.audit_key().await?;
            Ok(output.line(&printable(&key))?)
        }
        AuditCommand::Verify { files, public_key, partial, closed, output: format } => {
            let report = read(&files, &public_key, partial)?;
            let verified = is_verified(&report, closed);
            match format {
                None => print(&report, output)?,
                Some(_) => output.json(&JsonReport::new(&report, verified))?,
            }
            conclude(&report, verified, output)
        }
    }
}

fn read(files: &[PathBuf], key: &str, is_partial: bool) -> anyhow::Result<Report> {
    let key = audit::public_key(key).map_err(|error| misuse(&chain(&error)))?;
    Ok(audit::verify(files, key, is_partial, |_| {})?)
}

/// Prints chains and problems.
pub(super) fn print(report: &Report, output: &mut Output) -> Result<(), WriteError> {
    for problem in &report.problems {
        let place = report.place(problem.place);
        let chain = problem.chain.as_ref().map(|chain| format!("chain {chain}: "));
        output.line(&printable(&format!("{place}: {}{problem}", chain.unwrap_or_default())))?;
    }
    if report.more_problems > 0 {
        output.line(&format!("… and {} more problems", report.more_problems))?;
    }
    if !report.problems.is_empty() {
        output.line("")?;
    }
    let rows = report.chains.iter().map(|chain| {
        let unsigned = match chain.unsigned() {
            0 => String::new(),
            count => format!(", {count} after it not yet"),
        };
        [
            chain.id.clone(),
            format!("{} to {}", chain.first, chain.last),
            format!("{}{unsigned}", audit::signed(chain)),
            audit::end(chain),
        ]
    });
    output.table(["CHAIN", "LINES", "SIGNED", "END"], rows)
}

/// Says in one sentence how it went.
pub(super) fn conclude(report: &Report, verified: bool, output: &mut Output) -> anyhow::Result<()> {
    for place in &report.cut {
        output.warning(&format!("{}: the file ends within a line", report.place(*place)));
    }
    if !report.torn.is_empty() {
        let pieces = count(report.torn.len() as u64, "piece");
        output
            .note(&format!("{pieces} of lines: what a failing sink left behind, as the log says"));
    }
    let lines: u64 = report.chains.iter().map(|chain| chain.lines).sum();
    let chains = report.chains.len() as u64;
    if verified {
        output.note(&format!("verified: {} in {}", count(lines, "line"), count(chains, "chain")));
        return Ok(());
    }
    let message = match (report.chains.is_empty(), report.is_verified()) {
        (true, _) => "there is no line of an audit log in what was read".to_owned(),
        (false, true) => "not verified: a chain is not closed, or its end is not signed".to_owned(),
        (false, false) => {
            let problems = report.problems.len() as u64 + report.more_problems;
            let [problems, lines, chains] =
                [(problems, "problem"), (lines, "line"), (chains, "chain")]
                    .map(|(number, noun)| count(number, noun));
            format!("not verified: {problems} in {lines} of {chains}")
        }
    };
    output.error(&message, None);
    Err(Told.into())
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use watchword_audit::{Chain, Decision, Entry, Event, Line, SigningKey, Subject};

    use super::*;
    use crate::output::tests::captured;

    fn log() -> Vec<String> {
        let mut chain = Chain::new("watchword-store-0", [1; 8]);
        let mut lines = Vec::new();
        let mut write = |chain: &mut Chain, line: Line| {
            lines.push(String::from_utf8(line.bytes().to_vec()).unwrap());
            chain.written(&line);
        };
        let line = chain.open(Timestamp::UNIX_EPOCH, 0).unwrap();
        write(&mut chain, line);
        chain.sign_with(SigningKey::from_seed(&[7; 32]).ok());
        for number in 0..3 {
            let entry = Entry {
                event: Event::Read,
                decision: Decision::Allowed,
                subject: Subject::User { name: "ann", uid: None },
                path: Some("shop/db"),
                version: Some(1),
                cause: None,
                unwritten: 0,
            };
            let line = chain.entry(Timestamp::UNIX_EPOCH, &entry, None).unwrap();
            write(&mut chain, line);
            if number == 1 {
                let line = chain.checkpoint(Timestamp::UNIX_EPOCH).unwrap().unwrap();
                write(&mut chain, line);
            }
        }
        let line = chain.close(Timestamp::UNIX_EPOCH).unwrap();
        write(&mut chain, line);
        lines
    }

    /// What is said about a log: stdout, stderr, and whether it was verified.
    fn said(log: &[String], closed: bool) -> (String, String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, log.concat()).unwrap();
        let key = SigningKey::from_seed(&[7; 32]).unwrap().public().to_string();
        let mut report = read(&[path], &key, false).unwrap();
        report.files = vec!["audit.log".to_owned()];
        let (mut output, data, notes) = captured(false);

        let verified = is_verified(&report, closed);
        print(&report, &mut output).unwrap();
        let result = conclude(&report, verified, &mut output);

        assert_eq!(result.is_ok(), verified);
        (data.text(), notes.text(), verified)
    }

    #[test]
    fn a_closed_chain_is_verified() {
        let (data, notes, _) = said(&log(), true);

        insta::assert_snapshot!(format!("{data}---\n{notes}"), @r"
        CHAIN                                LINES    SIGNED    END
        watchword-store-0/0101010101010101   0 to 5   up to 5   closed
        ---
        verified: 6 lines in 1 chain
        ");
    }

    #[test]
    fn a_cut_tail_is_not_closed_and_fails_only_if_that_was_asked_for() {
        let mut log = log();
        log.truncate(5);

        let (data, notes, verified) = said(&log, false);

        assert!(verified && !said(&log, true).2);
        insta::assert_snapshot!(format!("{data}---\n{notes}"), @r"
        CHAIN                                LINES    SIGNED                        END
        watchword-store-0/0101010101010101   0 to 4   up to 3, 1 after it not yet   not closed after line 4
        ---
        verified: 5 lines in 1 chain
        ");
    }

    #[test]
    fn a_line_that_was_removed_is_named() {
        let mut log = log();
        log.remove(2);

        let (data, notes, verified) = said(&log, false);

        assert!(!verified);
        insta::assert_snapshot!(format!("{data}---\n{notes}"), @r"
        audit.log:3: chain watchword-store-0/0101010101010101: line 2, before this one, was removed

        CHAIN                                LINES    SIGNED    END
        watchword-store-0/0101010101010101   0 to 5   up to 5   closed
        ---
        error: not verified: 1 problem in 5 lines of 1 chain
        ");
    }

    #[test]
    fn a_file_without_a_log_verifies_nothing() {
        let (_, notes, verified) = said(&["hello\n".to_owned()], false);

        assert!(!verified);
        assert_eq!(notes, "error: there is no line of an audit log in what was read\n");
    }
}
