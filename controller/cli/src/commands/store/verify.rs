//! `watchword store verify`: does every record open, and is the store what its audit log says?
//!
//! The store is asked first and the log read after, and what the log says of later is taken as what
//! may have happened since; so writers need not stop.

use serde::Serialize;
use watchword_audit::{Held, Ledger, PublicKey, Report};

use super::reached;
use crate::{
    api::{Object, Verified},
    args::{ReachArgs, VerifyStoreArgs, misuse},
    audit::{self, JsonReport},
    commands::audit::{conclude, print as print_log},
    output::{Output, Told, chain, printable},
};

pub(super) async fn run(
    args: VerifyStoreArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let VerifyStoreArgs { store, audit: files, public_key, partial, json } = args;
    let given = public_key
        .map(|key| audit::public_key(&key))
        .transpose()
        .map_err(|error| misuse(&chain(&error)))?;
    let mut store = reached(reach, store, output).await?;
    let verified = store.verify().await?;
    let mut findings = damaged(&verified);
    let mut log = None;
    if !files.is_empty() {
        let key: PublicKey = match given {
            Some(key) => key,
            None => store.audit_key().await?.parse()?,
        };
        let mut ledger = Ledger::new(verified.time);
        log = Some(audit::verify(&files, key, partial, |record| ledger.note(record))?);
        findings.extend(differences(&ledger, &verified, partial));
    }
    let is_log_verified = log.as_ref().is_none_or(|report| audit::is_verified(report, false));
    let outcome = Outcome { records: verified.records(), findings, log, is_log_verified };
    match json.is_wanted() {
        true => output.json(&outcome.for_programs())?,
        false => outcome.print(output)?,
    }
    outcome.conclude(output)
}

/// What was found.
struct Outcome {
    records: usize,
    findings: Vec<Finding>,
    log: Option<Report>,
    is_log_verified: bool,
}

/// Something that is wrong with a secret or a record.
#[derive(Debug, Eq, PartialEq, Serialize)]
struct Finding {
    kind: &'static str,
    /// The name of the record.
    object: String,
    /// The secret's path, if the log says it.
    path: Option<String>,
    message: String,
}

#[derive(Serialize)]
struct JsonOutcome<'a> {
    verified: bool,
    records: usize,
    findings: &'a [Finding],
    log: Option<JsonReport<'a>>,
}

impl Outcome {
    fn is_verified(&self) -> bool {
        self.findings.is_empty() && self.is_log_verified
    }

    fn for_programs(&self) -> JsonOutcome<'_> {
        JsonOutcome {
            verified: self.is_verified(),
            records: self.records,
            findings: &self.findings,
            log: self.log.as_ref().map(|report| JsonReport::new(report, self.is_log_verified)),
        }
    }

    fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        if let Some(report) = &self.log {
            print_log(report, output)?;
            output.line("")?;
        }
        for Finding { object, path, message, .. } in &self.findings {
            let name = match path {
                Some(path) => format!("`{path}` ({object})"),
                None => format!("record {object}"),
            };
            output.line(&printable(&format!("{name}: {message}")))?;
        }
        Ok(())
    }

    /// Says in one sentence how it went.
    fn conclude(&self, output: &mut Output) -> anyhow::Result<()> {
        let log = match &self.log {
            None => Ok(()),
            Some(report) => conclude(report, self.is_log_verified, output),
        };
        match (self.findings.len(), &self.log) {
            (0, None) => output.note(&format!(
                "{} records open; whether they are the newest only the audit log knows (--audit)",
                self.records
            )),
            (0, Some(_)) => {
                output.note(&format!("{} records open and are what the log says", self.records));
            }
            (count, _) => output.error(
                &format!("the store is not what it should be: {count} of {} records", self.records),
                None,
            ),
        }
        match self.is_verified() {
            true => log,
            false => Err(Told.into()),
        }
    }
}

fn damaged(verified: &Verified) -> Vec<Finding> {
    let damage = |object: &Object| {
        Some(Finding {
            kind: "damaged",
            object: object.object.clone(),
            path: None,
            message: object.damage.clone()?,
        })
    };
    verified.objects.iter().filter_map(damage).collect()
}

fn differences<'a>(
    ledger: &'a Ledger,
    verified: &Verified,
    is_partial: bool,
) -> impl Iterator<Item = Finding> + use<'a> {
    let heads = verified.objects.iter().filter(|object| object.is_head());
    let held: Vec<Held> = heads
        .map(|object| Held {
            object: object.object.clone(),
            newest: object.newest,
            deleted: object.deleted,
            is_damaged: object.damage.is_some(),
        })
        .collect();
    ledger.compare(&held, is_partial).into_iter().map(|found| Finding {
        kind: found.kind.as_str(),
        object: found.object,
        path: found.path,
        message: found.kind.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::output::tests::captured;

    /// What a store of three records and nine sound versions answers.
    fn verified() -> Verified {
        let object = |object: &str, damage: Option<&str>| {
            let newest = 1;
            json!({
                "object": object, "sequence": newest, "newest": newest, "deleted": false,
                "damage": damage,
            })
        };
        let head = "3f1d0c9a8b7e6f5d4c3b2a190817263544536271809a0b1c2d3e4f5a";
        let version = format!("{head}.1.0011223344556677");
        let answer = json!({
            "time": Timestamp::UNIX_EPOCH,
            "objects": [
                object("keyring", None),
                object(head, None),
                object(&version, Some("the record is missing")),
            ],
            "sound_versions": 9,
        });
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn only_heads_are_compared_with_the_log() {
        let ledger = Ledger::new(Timestamp::UNIX_EPOCH);

        let found: Vec<Finding> = differences(&ledger, &verified(), false).collect();

        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].object.len()), ("unknown", 56));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let verified = verified();
        let findings = damaged(&verified);
        let records = verified.records();
        let outcome = Outcome { records, findings, log: None, is_log_verified: true };
        let (mut output, data, notes) = captured(false);

        outcome.print(&mut output).unwrap();

        assert!(outcome.conclude(&mut output).is_err());
        insta::assert_snapshot!(format!("{}---\n{}", data.text(), notes.text()), @r"
        record 3f1d0c9a8b7e6f5d4c3b2a190817263544536271809a0b1c2d3e4f5a.1.0011223344556677: the record is missing
        ---
        error: the store is not what it should be: 1 of 12 records
        ");
    }

    #[test]
    fn without_a_log_nobody_can_say_that_records_are_the_newest() {
        let outcome =
            Outcome { records: 3, findings: Vec::new(), log: None, is_log_verified: true };
        let (mut output, _, notes) = captured(false);

        outcome.conclude(&mut output).unwrap();

        let said =
            "3 records open; whether they are the newest only the audit log knows (--audit)\n";
        assert_eq!(notes.text(), said);
    }
}
