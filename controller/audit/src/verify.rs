//! Verifying: a stream of lines in, a report out. All that it needs is the public key.
//!
//! # What is read
//!
//! One stream, of one file or several in their order, in which the lines of any number of chains
//! stand among each other and among lines of other programs. A line of ours is recognised by how it
//! begins, and may have anything before that: `kubectl logs --prefix --timestamps` and the files of
//! container runtimes verify as they are. What stands after it belongs to it, up to the line feed.
//!
//! # What is found
//!
//! Every line names the hash of the one before, so a line that was removed, changed, inserted or put
//! elsewhere breaks the chain there, and is named. A checkpoint signs everything before it; so what
//! stands before the last one was written by the store. After it anybody could have gone on: the
//! report says how many lines that are, and a chain whose end is not there is called not closed.
//!
//! What cannot be found in a log alone is a whole chain that is missing; the store knows what it
//! wrote, which is what [`crate::Ledger`] is for.

mod chain;
mod problem;

use std::collections::BTreeMap;

pub use problem::{Place, Problem, ProblemKind};

use self::chain::State;
use self::problem::Problems;
use crate::key::PublicKey;
use crate::line::{BEGINNING, MAX_LINE_BYTES, NotALine, Record, hash, is_signed_by};

/// Verifies a log, piece by piece. Memory is bounded by the number of chains and of problems.
pub struct Verifier {
    key: PublicKey,
    /// Whether chains may begin anywhere, because older files were thrown away.
    is_partial: bool,
    chains: BTreeMap<String, State>,
    problems: Problems,
    files: Vec<String>,
    place: Place,
    /// The line that is being read, as far as it is kept.
    line: Vec<u8>,
    line_bytes: usize,
    foreign: u64,
    torn: u64,
    broken: Vec<Place>,
    cut: Vec<Place>,
}

impl Verifier {
    /// Verifies with this key. With `is_partial` chains may begin anywhere, because older files were
    /// thrown away.
    pub fn new(key: PublicKey, is_partial: bool) -> Self {
        Self {
            key,
            is_partial,
            chains: BTreeMap::new(),
            problems: Problems::default(),
            files: Vec::new(),
            place: Place { file: 0, line: 0 },
            line: Vec::new(),
            line_bytes: 0,
            foreign: 0,
            torn: 0,
            broken: Vec::new(),
            cut: Vec::new(),
        }
    }

    /// Goes on with another file.
    pub fn begin_file(&mut self, name: &str, seen: impl FnMut(&Record<'_>)) {
        self.end_file(seen);
        self.place = Place { file: self.files.len(), line: 0 };
        self.files.push(name.to_owned());
    }

    /// Takes the next bytes of the file, cut anywhere; shows each line of ours to `seen`.
    pub fn push(&mut self, bytes: &[u8], mut seen: impl FnMut(&Record<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.keep(&rest[..end]);
            rest = &rest[end + 1..];
            self.end_line(true, &mut seen);
        }
        self.keep(rest);
    }

    /// Ends, and says what was found.
    pub fn finish(mut self, seen: impl FnMut(&Record<'_>)) -> Report {
        self.end_file(seen);
        // Pieces that the log itself tells of are what a sink left that broke off within a line.
        let told = u64::try_from(self.broken.len()).is_ok_and(|count| count <= self.torn);
        if !told {
            for place in std::mem::take(&mut self.broken) {
                self.problems.add(ProblemKind::NotALine(NotALine::Json), place);
            }
        }
        let chains = self.chains.into_iter();
        let chains = chains.map(|(id, state)| state.end(id, &mut self.problems)).collect();
        let (problems, more_problems) = self.problems.into_sorted();
        Report {
            chains,
            problems,
            more_problems,
            files: self.files,
            foreign: self.foreign,
            torn: self.broken,
            cut: self.cut,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT_BYTES - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.line_bytes += bytes.len();
    }

    fn end_file(&mut self, mut seen: impl FnMut(&Record<'_>)) {
        if self.line_bytes > 0 {
            self.end_line(false, &mut seen);
        }
    }

    fn end_line(&mut self, is_whole: bool, seen: &mut impl FnMut(&Record<'_>)) {
        self.place.line += 1;
        let line = std::mem::take(&mut self.line);
        let is_all = std::mem::take(&mut self.line_bytes) == line.len();
        match line.windows(BEGINNING.len()).position(|window| window == BEGINNING) {
            None => self.foreign += 1,
            Some(_) if !is_all => self.not_a_line(NotALine::TooLong, is_whole),
            Some(start) => match Record::parse(&line[start..]) {
                Err(reason) => self.not_a_line(reason, is_whole),
                Ok(record) => {
                    self.take(&record, &line[start..]);
                    seen(&record);
                }
            },
        }
        // The same memory for the next line.
        self.line = line;
        self.line.clear();
    }

    fn not_a_line(&mut self, reason: NotALine, is_whole: bool) {
        match reason {
            _ if !is_whole => self.cut.push(self.place),
            NotALine::Json if self.broken.len() < MAX_BROKEN => self.broken.push(self.place),
            _ => self.problems.add(ProblemKind::NotALine(reason), self.place),
        }
    }

    fn take(&mut self, record: &Record<'_>, bytes: &[u8]) {
        self.torn = self.torn.saturating_add(record.torn);
        let signature = record.is_signed().then(|| is_signed_by(&self.key, bytes)).flatten();
        let line = chain::Line { record, hash: hash(bytes), place: self.place, signature };
        match self.chains.get_mut(&*record.chain) {
            Some(state) => state.take(&line, &mut self.problems),
            None => {
                let state = State::begin(&line, self.is_partial, &mut self.problems);
                self.chains.insert(record.chain.clone().into_owned(), state);
            }
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The chains, by name.
    pub chains: Vec<ChainReport>,
    /// What is wrong, in the order of places.
    pub problems: Vec<Problem>,
    /// How many more are wrong, of which only the number is known.
    pub more_problems: u64,
    /// The names of the files.
    pub files: Vec<String>,
    /// How many lines of other programs there were.
    pub foreign: u64,
    /// Pieces of lines that a failing sink left behind; the log tells of them.
    pub torn: Vec<Place>,
    /// Files that end within a line.
    pub cut: Vec<Place>,
}

impl Report {
    /// Whether nothing is wrong. Chains may still be not closed.
    pub fn is_verified(&self) -> bool {
        self.problems.is_empty()
    }

    /// A place as people write it: `FILE:LINE`.
    pub fn place(&self, place: Place) -> String {
        let file = self.files.get(place.file).map_or("-", String::as_str);
        format!("{file}:{}", place.line)
    }
}

/// What is known of one chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChainReport {
    /// Replica and boot.
    pub id: String,
    /// The number of its first line that is there.
    pub first: u64,
    /// The number of its last line that is there.
    pub last: u64,
    /// Where that is.
    pub last_place: Place,
    /// How many lines are there.
    pub lines: u64,
    /// The number of the last line that is signed: what stands up to there was written by the store.
    pub signed: Option<u64>,
    /// Whether its end is there, and signed. If not, it goes on, was cut, or its replica was killed.
    pub is_closed: bool,
    /// Whether a line says that it is the end, signed or not. A store that ends sealed has nothing to
    /// sign with; but whoever cuts the log can write such a line as well.
    pub says_end: bool,
}

impl ChainReport {
    /// How many lines no signature covers.
    pub fn unsigned(&self) -> u64 {
        self.signed.map_or(self.lines, |signed| self.last.saturating_sub(signed))
    }
}

/// How much of a line is kept: a whole one of ours, with what may stand before it.
const MAX_KEPT_BYTES: usize = 2 * MAX_LINE_BYTES;

/// How many broken lines are remembered for what the log may yet say of them.
const MAX_BROKEN: usize = 10_000;

#[cfg(test)]
mod tests;
