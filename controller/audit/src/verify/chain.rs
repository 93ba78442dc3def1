//! One chain as it is verified: what the next line must be, and which line is to blame if it is not.
//!
//! If two neighbours do not fit, either the first was changed, or the hash in the second. The line
//! after tells which: it knows the hash of the second. Until then the doubt is kept.

use super::ChainReport;
use super::problem::{Place, ProblemKind, Problems};
use crate::line::{CLOSE, Hash, NO_HASH, OPEN, Record};

/// A line that was read.
pub(super) struct Line<'a> {
    pub(super) record: &'a Record<'a>,
    pub(super) hash: Hash,
    pub(super) place: Place,
    /// Whether the signature is right, of a line that has one.
    pub(super) signature: Option<bool>,
}

/// A chain up to some line.
pub(super) struct State {
    first: u64,
    /// Whether the beginning need not be there.
    is_partial: bool,
    lines: u64,
    /// The number of the last line.
    last: u64,
    /// The lines that say that they are the last: more than one if one was inserted.
    claims: Vec<Claim>,
    /// The line before, if the last one does not fit it and it is open which was changed.
    doubt: Option<Place>,
    /// Numbers that were passed over, with where the line after them stands.
    gaps: Vec<Gap>,
    signed: Option<u64>,
    /// The line that says that it is the end, and whether a signature vouches for that.
    closed: Option<(u64, bool)>,
}

struct Claim {
    hash: Hash,
    place: Place,
    /// Whether it has been said that it was changed.
    is_known_changed: bool,
    /// Whether a signature vouches for it.
    is_signed: bool,
}

struct Gap {
    from: u64,
    to: u64,
    place: Place,
}

impl State {
    pub(super) fn begin(line: &Line<'_>, is_partial: bool, problems: &mut Problems) -> Self {
        let Record { chain, seq, event, .. } = line.record;
        let (mut gaps, mut is_known_changed) = (Vec::new(), false);
        match (*seq, &**event) {
            (0, OPEN) if line.record.follows(&NO_HASH) => {}
            (0, _) => {
                is_known_changed = true;
                problems.add_in(chain, ProblemKind::Changed, 0, line.place);
            }
            _ => gaps.push(Gap { from: 0, to: *seq - 1, place: line.place }),
        }
        let mut state = Self {
            first: *seq,
            is_partial,
            lines: 0,
            last: *seq,
            claims: Vec::new(),
            doubt: None,
            gaps,
            signed: None,
            closed: None,
        };
        state.go_on(line, is_known_changed, problems);
        state
    }

    pub(super) fn take(&mut self, line: &Line<'_>, problems: &mut Problems) {
        let Record { chain, seq, .. } = line.record;
        if self.closed.is_some_and(|(closed, _)| *seq > closed) {
            problems.add_in(chain, ProblemKind::AfterClose, *seq, line.place);
        }
        let next = self.last.saturating_add(1);
        let fits = self.claims.iter().position(|claim| line.record.follows(&claim.hash));
        match (*seq == next, fits) {
            (true, Some(fitting)) => {
                self.settle(chain, fitting, problems);
                // The last line is what this one says it is: so the one before was changed.
                if let Some(place) = self.doubt.take() {
                    problems.add_in(chain, ProblemKind::Changed, self.last - 1, place);
                }
                self.go_on(line, false, problems);
            }
            (true, None) => self.go_on_in_doubt(line, problems),
            // It stands where it belongs: it is its number that was changed.
            (false, Some(fitting)) => {
                self.settle(chain, fitting, problems);
                if let Some(place) = self.doubt.take() {
                    problems.add_in(chain, ProblemKind::Changed, self.last - 1, place);
                }
                problems.add_in(chain, ProblemKind::Changed, next, line.place);
                self.last = next;
                self.claims.clear();
                self.go_on_as(next, line, true, problems);
            }
            (false, None) if *seq > next => {
                self.settle(chain, 0, problems);
                self.leave_doubt(chain, problems);
                self.gaps.push(Gap { from: next, to: *seq - 1, place: line.place });
                self.go_on(line, false, problems);
            }
            (false, None) => self.look_back(line, problems),
        }
    }

    /// Says what is still open, and what the chain is.
    pub(super) fn end(mut self, id: String, problems: &mut Problems) -> ChainReport {
        let last_place =
            self.claims.first().map_or(Place { file: 0, line: 0 }, |claim| claim.place);
        self.settle(&id, 0, problems);
        self.leave_doubt(&id, problems);
        for gap in std::mem::take(&mut self.gaps) {
            self.report(&id, &gap, problems);
        }
        if self.signed.is_none() {
            problems.add_in(&id, ProblemKind::NotSigned, self.first, last_place);
        }
        let Self { first, lines, last, signed, closed, .. } = self;
        let is_closed = closed.is_some_and(|(_, is_signed)| is_signed);
        let says_end = closed.is_some();
        ChainReport { id, first, last, last_place, lines, signed, is_closed, says_end }
    }

    /// The last line does not fit: this one, or that one, was changed.
    fn go_on_in_doubt(&mut self, line: &Line<'_>, problems: &mut Problems) {
        let chain = &line.record.chain;
        self.settle(chain, 0, problems);
        let Some(last) = self.claims.first() else { return };
        let (place, is_signed) = (last.place, last.is_signed);
        let mut is_known_changed = false;
        if last.is_known_changed {
            self.doubt = None;
        } else if self.doubt.take().is_some() {
            // It fits neither neighbour.
            problems.add_in(chain, ProblemKind::Changed, self.last, place);
        } else if is_signed {
            is_known_changed = true;
            problems.add_in(chain, ProblemKind::Changed, line.record.seq, line.place);
        } else if line.signature == Some(true) {
            problems.add_in(chain, ProblemKind::Changed, self.last, place);
        } else {
            self.doubt = Some(place);
        }
        self.go_on(line, is_known_changed, problems);
    }

    /// A line whose number has been passed.
    fn look_back(&mut self, line: &Line<'_>, problems: &mut Problems) {
        let Record { chain, seq, .. } = line.record;
        self.lines += 1;
        self.check_signature(line, problems);
        let is_new = self.claims.iter().all(|claim| claim.hash != line.hash);
        if *seq == self.last && is_new && self.claims.len() < MAX_CLAIMS {
            self.claims.push(Claim {
                hash: line.hash,
                place: line.place,
                is_known_changed: false,
                is_signed: line.signature == Some(true),
            });
            return;
        }
        let gap = self.gaps.iter().position(|gap| (gap.from..=gap.to).contains(seq));
        let Some(gap) = gap else {
            problems.add_in(chain, ProblemKind::Repeated, *seq, line.place);
            return;
        };
        problems.add_in(chain, ProblemKind::Moved, *seq, line.place);
        let Gap { from, to, place } = self.gaps.swap_remove(gap);
        if from < *seq {
            self.gaps.push(Gap { from, to: *seq - 1, place });
        }
        if *seq < to {
            self.gaps.push(Gap { from: *seq + 1, to, place });
        }
    }

    fn go_on(&mut self, line: &Line<'_>, is_known_changed: bool, problems: &mut Problems) {
        self.claims.clear();
        self.go_on_as(line.record.seq, line, is_known_changed, problems);
    }

    fn go_on_as(
        &mut self,
        seq: u64,
        line: &Line<'_>,
        is_known_changed: bool,
        problems: &mut Problems,
    ) {
        self.lines += 1;
        self.last = seq;
        self.check_signature(line, problems);
        let is_signed = line.signature == Some(true);
        if is_signed {
            self.signed = Some(seq);
        }
        if line.record.event == CLOSE {
            self.closed = Some((seq, is_signed));
        }
        self.claims.push(Claim { hash: line.hash, place: line.place, is_known_changed, is_signed });
        if self.gaps.len() > MAX_GAPS {
            let gap = self.gaps.remove(0);
            self.report(&line.record.chain, &gap, problems);
        }
    }

    fn check_signature(&self, line: &Line<'_>, problems: &mut Problems) {
        let Record { chain, seq, .. } = line.record;
        // A chain that ends while the store is sealed has no key to sign its end with.
        let may_lack = line.record.event == CLOSE && line.signature.is_none();
        if line.record.is_signed() && line.signature != Some(true) && !may_lack {
            problems.add_in(chain, ProblemKind::WrongSignature, *seq, line.place);
        }
    }

    /// Of several lines that say that they are the last, one is; the others were inserted.
    fn settle(&mut self, chain: &str, fitting: usize, problems: &mut Problems) {
        if self.claims.len() < 2 {
            return;
        }
        let kept = self.claims.swap_remove(fitting);
        for claim in self.claims.drain(..) {
            problems.add_in(chain, ProblemKind::Inserted, self.last, claim.place);
        }
        self.claims.push(kept);
    }

    /// Says what is not there.
    fn report(&self, chain: &str, gap: &Gap, problems: &mut Problems) {
        let Gap { from, to, place } = *gap;
        match to < self.first {
            true if self.is_partial => {}
            true if from == 0 => {
                problems.add_in(chain, ProblemKind::NoBeginning, to + 1, place);
            }
            _ => problems.add_in(chain, ProblemKind::Missing { to }, from, place),
        }
    }

    fn leave_doubt(&mut self, chain: &str, problems: &mut Problems) {
        if let Some(place) = self.doubt.take() {
            problems.add_in(chain, ProblemKind::ChangedHereOrNext, self.last - 1, place);
        }
    }
}

/// How many lines with one number are told apart.
const MAX_CLAIMS: usize = 8;

/// How many gaps are remembered for lines that come later.
const MAX_GAPS: usize = 1000;
