//! What the store must hold, if the log is true: the comparison that finds what was put back past
//! the store, which no record can tell of itself.
//!
//! Versions of a secret grow by one and are never used twice, not even after a deletion, which keeps
//! the number. So the log needs no order between replicas and no clock: the highest version that was
//! ever written, read or deleted is the least that the store may hold.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::line::Record;

/// What a log says of the secrets in a store.
#[derive(Debug, Default)]
pub struct Ledger {
    secrets: BTreeMap<String, Known>,
    /// When the store was asked: what the log says of later may or may not be in its answer.
    asked: Timestamp,
    /// Whether the log goes on behind that.
    is_later: bool,
}

#[derive(Debug, Default)]
struct Known {
    path: Option<String>,
    /// The highest version that there was when the store was asked.
    newest: u64,
    /// The highest version that there has been since.
    later: u64,
    /// The version at which it was deleted last.
    deleted: Option<u64>,
    /// Attempts of which it is not known how they went.
    open_writes: u64,
    open_deletes: u64,
}

/// A secret as the store holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// The name of its head.
    pub object: String,
    /// The highest version that there ever was.
    pub newest: u64,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Whether its head does not open: then nothing else is known of it.
    pub is_damaged: bool,
}

/// Something in which store and log differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The name of the head.
    pub object: String,
    /// The path, if the log says it.
    pub path: Option<String>,
}

/// In what store and log differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FindingKind {
    /// The store is ahead of a log that should know.
    #[error("the store holds version {held}, the log knows {known}: it is not complete")]
    Ahead {
        /// What the store holds.
        held: u64,
        /// What the log knows.
        known: u64,
    },
    /// It is deleted, and the log does not know of that.
    #[error("the store says that it is deleted, the log knows of no deletion")]
    DeletedUnknown,
    /// There is no record of it.
    #[error("the log knows version {known}, the store has no record: it was removed")]
    Missing {
        /// What the log knows.
        known: u64,
    },
    /// An older record was put back.
    #[error("the store holds version {held}, the log knows {known}: an older record was put back")]
    PutBack {
        /// What the store holds.
        held: u64,
        /// What the log knows.
        known: u64,
    },
    /// It was deleted, and is there.
    #[error("it was deleted at version {at}, and is there again: an older record was put back")]
    Undeleted {
        /// The version at which it was deleted.
        at: u64,
    },
    /// The log knows nothing of it.
    #[error("the log knows nothing of it: it is not complete")]
    Unknown,
}

impl FindingKind {
    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ahead { .. } => "ahead",
            Self::DeletedUnknown => "deleted_unknown",
            Self::Missing { .. } => "missing",
            Self::PutBack { .. } => "put_back",
            Self::Undeleted { .. } => "undeleted",
            Self::Unknown => "unknown",
        }
    }
}

impl Ledger {
    /// A ledger for what a store answered when it was asked at this time, by its clock.
    pub fn new(asked: Timestamp) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Takes a line of the log.
    pub fn note(&mut self, record: &Record<'_>) {
        let is_later = record.time > self.asked;
        self.is_later |= is_later;
        let Some(object) = record.object.as_deref() else { return };
        let known = self.secrets.entry(object.to_owned()).or_default();
        if known.path.is_none() {
            known.path = record.path.as_deref().map(str::to_owned);
        }
        let (writes, deletes) = match &*record.event {
            "create" | "update" | "rollback" => (&mut known.open_writes, None),
            "delete" => (&mut known.open_deletes, Some(&mut known.deleted)),
            _ => {
                if let (Some("allowed"), Some(version)) =
                    (record.decision.as_deref(), record.version)
                {
                    known.see(version, is_later);
                }
                return;
            }
        };
        match (record.decision.as_deref(), record.version) {
            (Some("attempted"), _) => *writes += 1,
            (Some("allowed"), version) => {
                *writes = writes.saturating_sub(1);
                let version = version.unwrap_or_default();
                match deletes {
                    // Whether the answer knows of it is not known.
                    Some(_) if is_later => known.open_deletes += 1,
                    Some(deleted) => *deleted = (*deleted).max(Some(version)),
                    None => {}
                }
                known.see(version, is_later);
            }
            _ => {}
        }
    }

    /// Compares. With `is_partial` the log need not know of everything, because older parts of it
    /// were thrown away.
    pub fn compare(&self, held: &[Held], is_partial: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        for held in held {
            let known = self.secrets.get(&held.object).filter(|known| known.is_of_a_secret());
            let kind = match known {
                _ if held.is_damaged => None,
                None if is_partial => None,
                None => Some(FindingKind::Unknown),
                Some(known) => self.judge(known, held),
            };
            let path = known.and_then(|known| known.path.clone());
            findings.extend(kind.map(|kind| Finding { kind, object: held.object.clone(), path }));
        }
        let held: BTreeSet<&str> = held.iter().map(|held| held.object.as_str()).collect();
        for (object, known) in &self.secrets {
            if known.newest > 0 && !held.contains(object.as_str()) {
                let kind = FindingKind::Missing { known: known.newest };
                let path = known.path.clone();
                findings.push(Finding { kind, object: object.clone(), path });
            }
        }
        findings
    }

    fn judge(&self, known: &Known, held: &Held) -> Option<FindingKind> {
        let most = known.newest.max(known.later).saturating_add(known.open_writes);
        // An empty head is what tidying up leaves where a head was removed.
        if held.newest == 0 && known.newest > 0 {
            return Some(FindingKind::Missing { known: known.newest });
        }
        if held.newest < known.newest {
            return Some(FindingKind::PutBack { held: held.newest, known: known.newest });
        }
        match known.deleted {
            Some(at) if !held.deleted && held.newest <= at => {
                return Some(FindingKind::Undeleted { at });
            }
            _ => {}
        }
        // A log that ends before the store was asked cannot know what happened since.
        if !self.is_later {
            return None;
        }
        if held.newest > most {
            return Some(FindingKind::Ahead { held: held.newest, known: most });
        }
        let is_deletion_known = known.open_deletes > 0 || known.deleted >= Some(held.newest);
        (held.deleted && !is_deletion_known).then_some(FindingKind::DeletedUnknown)
    }
}

impl Known {
    fn see(&mut self, version: u64, is_later: bool) {
        let seen = if is_later { &mut self.later } else { &mut self.newest };
        *seen = (*seen).max(version);
    }

    /// Whether there has ever been a secret: people also ask for paths that have none.
    fn is_of_a_secret(&self) -> bool {
        self.newest > 0 || self.later > 0 || self.open_writes > 0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{Chain, Decision, Entry, Event, Subject};
    use Decision::{Allowed, Attempted, Failed};
    use Event::{Create, Delete, Read, Update};

    const OBJECT: &str = "3f1d0c9a";

    /// A ledger of a log of these lines, one a second; the store was asked at `asked` seconds.
    fn ledger(asked: i64, lines: &[(Event, Decision, u64)]) -> Ledger {
        let mut ledger = Ledger::new(Timestamp::from_second(asked).unwrap());
        let chain = Chain::new("store-0", [1; 8]);
        for (second, (event, decision, version)) in lines.iter().enumerate() {
            let entry = Entry {
                event: *event,
                decision: *decision,
                subject: Subject::Store {},
                path: Some("shop/db"),
                version: (*version > 0).then_some(*version),
                cause: None,
                unwritten: 0,
            };
            let time = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
            let line = chain.entry(time, &entry, Some(OBJECT)).unwrap();
            let bytes = line.bytes().strip_suffix(b"\n").unwrap();
            ledger.note(&Record::parse(bytes).unwrap());
        }
        ledger
    }

    fn held(newest: u64, deleted: bool) -> Vec<Held> {
        vec![Held { object: OBJECT.to_owned(), newest, deleted, is_damaged: false }]
    }

    const WRITTEN: &[(Event, Decision, u64)] = &[
        (Create, Attempted, 0),
        (Create, Allowed, 1),
        (Update, Attempted, 0),
        (Update, Allowed, 2),
    ];
    const DELETED: &[(Event, Decision, u64)] =
        &[(Create, Allowed, 1), (Delete, Attempted, 0), (Delete, Allowed, 1)];
    const MADE_AGAIN: &[(Event, Decision, u64)] =
        &[(Create, Allowed, 1), (Delete, Allowed, 1), (Create, Allowed, 2)];
    const CRASHED: &[(Event, Decision, u64)] =
        &[(Create, Allowed, 1), (Update, Attempted, 0), (Delete, Attempted, 0)];
    const FAILED: &[(Event, Decision, u64)] =
        &[(Create, Allowed, 1), (Update, Attempted, 0), (Update, Failed, 0)];

    #[rstest]
    #[case(WRITTEN, held(2, false), None)]
    #[case(WRITTEN, held(1, false), Some(FindingKind::PutBack { held: 1, known: 2 }))]
    #[case(WRITTEN, held(2, true), Some(FindingKind::DeletedUnknown))]
    #[case(WRITTEN, held(3, false), Some(FindingKind::Ahead { held: 3, known: 2 }))]
    #[case(WRITTEN, vec![], Some(FindingKind::Missing { known: 2 }))]
    #[case(WRITTEN, held(0, true), Some(FindingKind::Missing { known: 2 }))]
    #[case(&[(Read, Allowed, 4)], held(3, false), Some(FindingKind::PutBack { held: 3, known: 4 }))]
    #[case(DELETED, held(1, true), None)]
    #[case(DELETED, held(1, false), Some(FindingKind::Undeleted { at: 1 }))]
    #[case(DELETED, vec![], Some(FindingKind::Missing { known: 1 }))]
    #[case(MADE_AGAIN, held(2, false), None)]
    #[case(MADE_AGAIN, held(1, true), Some(FindingKind::PutBack { held: 1, known: 2 }))]
    #[case(CRASHED, held(1, false), None)]
    #[case(CRASHED, held(2, false), None)]
    #[case(CRASHED, held(1, true), None)]
    #[case(FAILED, held(2, false), None)]
    #[case(FAILED, held(1, false), None)]
    #[case(&[(Read, Failed, 0)], vec![], None)]
    #[case(&[], held(1, false), Some(FindingKind::Unknown))]
    fn store_and_log_are_compared(
        #[case] log: &[(Event, Decision, u64)],
        #[case] held: Vec<Held>,
        #[case] expected: Option<FindingKind>,
    ) {
        let mut ledger = ledger(100, log);
        ledger.is_later = true;

        let found = ledger.compare(&held, false);

        assert_eq!(found.iter().map(|one| one.kind).collect::<Vec<_>>(), Vec::from_iter(expected));
    }

    #[test]
    fn what_was_written_after_the_store_was_asked_may_or_may_not_be_in_its_answer() {
        let ledger = ledger(1, &[WRITTEN, &[(Delete, Allowed, 2)]].concat());

        for held in [held(1, false), held(2, false), held(2, true)] {
            assert_eq!(ledger.compare(&held, false), []);
        }
    }

    #[test]
    fn a_log_that_ends_before_the_store_was_asked_need_not_know_everything() {
        assert_eq!(ledger(100, WRITTEN).compare(&held(7, true), false), []);
    }

    #[test]
    fn a_part_of_a_log_need_not_know_every_secret() {
        assert_eq!(ledger(100, &[]).compare(&held(7, true), true), []);
    }
}
