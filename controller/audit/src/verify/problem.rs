//! What can be wrong with a log, and where.

use std::fmt;

use crate::line::NotALine;

/// A line of a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The file's position among the files, from 0.
    pub file: usize,
    /// The line's number in it, from 1.
    pub line: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// The chain; absent if what stands there is not even a line.
    pub chain: Option<String>,
    /// The line's number in the chain; the first, if there are several.
    pub seq: Option<u64>,
    /// Where it stands; of what is missing, where the next line stands, if there is one.
    pub place: Place,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProblemKind {
    /// The line stands after the one that closes its chain.
    AfterClose,
    /// The line is not what the lines around it say it was.
    Changed,
    /// The line, or the one that follows it, is not what it was.
    ChangedHereOrNext,
    /// The line was put between others of its chain.
    Inserted,
    /// Lines from this one to the one with this number are not there.
    Missing {
        /// The last that is missing.
        to: u64,
    },
    /// The line stands elsewhere than its number says.
    Moved,
    /// The chain's beginning is not there.
    NoBeginning,
    /// It begins like a line of the log and is none.
    NotALine(NotALine),
    /// Nothing in the chain is signed: anybody could have written it.
    NotSigned,
    /// The line is there more than once.
    Repeated,
    /// The signature is missing or not the key's.
    WrongSignature,
}

impl ProblemKind {
    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterClose => "after_close",
            Self::Changed => "changed",
            Self::ChangedHereOrNext => "changed_here_or_next",
            Self::Inserted => "inserted",
            Self::Missing { .. } => "missing",
            Self::Moved => "moved",
            Self::NoBeginning => "no_beginning",
            Self::NotALine(_) => "not_a_line",
            Self::NotSigned => "not_signed",
            Self::Repeated => "repeated",
            Self::WrongSignature => "wrong_signature",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq.unwrap_or_default();
        match self.kind {
            ProblemKind::AfterClose => write!(f, "line {seq} stands after the end of its chain"),
            ProblemKind::Changed => write!(f, "line {seq} was changed"),
            ProblemKind::ChangedHereOrNext => {
                write!(f, "line {seq} or {} was changed", seq.saturating_add(1))
            }
            ProblemKind::Inserted => write!(f, "a line was inserted that says it is {seq}"),
            ProblemKind::Missing { to } if to == seq => {
                write!(f, "line {seq}, before this one, was removed")
            }
            ProblemKind::Missing { to } => {
                write!(f, "lines {seq} to {to}, before this one, were removed")
            }
            ProblemKind::Moved => write!(f, "line {seq} was moved here"),
            ProblemKind::NoBeginning => {
                write!(f, "the chain begins with line {seq}: what came before is not there")
            }
            ProblemKind::NotALine(reason) => write!(f, "what stands here {reason}"),
            ProblemKind::NotSigned => {
                f.write_str("nothing is signed in this chain: it may be anybody's")
            }
            ProblemKind::Repeated => write!(f, "line {seq} is there again"),
            ProblemKind::WrongSignature => {
                write!(f, "the signature in line {seq} is not the key's")
            }
        }
    }
}

/// The problems found so far: the first ones, and how many more.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    more: u64,
}

impl Problems {
    pub(super) fn add(&mut self, kind: ProblemKind, place: Place) {
        self.push(Problem { kind, chain: None, seq: None, place });
    }

    pub(super) fn add_in(&mut self, chain: &str, kind: ProblemKind, seq: u64, place: Place) {
        self.push(Problem { kind, chain: Some(chain.to_owned()), seq: Some(seq), place });
    }

    pub(super) fn into_sorted(mut self) -> (Vec<Problem>, u64) {
        self.found.sort_by_key(|problem| problem.place);
        (self.found, self.more)
    }

    fn push(&mut self, problem: Problem) {
        match self.found.len() < MAX_PROBLEMS {
            true => self.found.push(problem),
            false => self.more += 1,
        }
    }
}

/// How many problems are described.
const MAX_PROBLEMS: usize = 1000;
