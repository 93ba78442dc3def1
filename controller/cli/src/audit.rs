//! An audit log as it is read from files: what `watchword audit verify` and `watchword store verify`
//! have in common.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;
use watchword_audit::{
    ChainReport, ParsePublicKeyError, Problem, ProblemKind, PublicKey, Record, Report, Verifier,
};

/// Reads the key from the command line, or from the file that it names.
///
/// # Errors
///
/// It is neither a key nor a file with one.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, PublicKeyError> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let named = |source| PublicKeyError::Open { name: text.to_owned(), source };
    let mut content = String::new();
    let file = File::open(text).map_err(named)?;
    file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut content).map_err(named)?;
    content.parse().map_err(|source| PublicKeyError::Parse { name: text.to_owned(), source })
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicKeyError {
    #[error("`{name}` is neither a public key nor a file that can be read")]
    Open { name: String, source: io::Error },
    #[error("there is no public key in `{name}`")]
    Parse { name: String, source: ParsePublicKeyError },
}

/// Verifies files, the oldest first, and shows each line to `seen`.
///
/// # Errors
///
/// A file cannot be read.
pub(crate) fn verify(
    files: &[PathBuf],
    key: PublicKey,
    is_partial: bool,
    mut seen: impl FnMut(&Record<'_>),
) -> Result<Report, ReadLogError> {
    let mut verifier = Verifier::new(key, is_partial);
    let mut buffer = vec![0; 1 << 16];
    for file in files {
        let failed = |source| ReadLogError { file: file.clone(), source };
        verifier.begin_file(&file.display().to_string(), &mut seen);
        let mut reader: Box<dyn Read> = match file == Path::new("-") {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(file).map_err(failed)?),
        };
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => verifier.push(&buffer[..count], &mut seen),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(verifier.finish(seen))
}

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit log `{file}`")]
pub(crate) struct ReadLogError {
    file: PathBuf,
    source: io::Error,
}

/// How a chain ends, in words.
pub(crate) fn end(chain: &ChainReport) -> String {
    match (chain.is_closed, chain.says_end) {
        (true, _) => "closed".to_owned(),
        (false, true) => format!("not closed: its end, line {}, is not signed", chain.last),
        (false, false) => format!("not closed after line {}", chain.last),
    }
}

/// Up to which line a chain is signed, in words.
pub(crate) fn signed(chain: &ChainReport) -> String {
    chain.signed.map_or_else(|| "nothing".to_owned(), |seq| format!("up to {seq}"))
}

/// Whether a log is verified; with `closed` to the end of every chain.
pub(crate) fn is_verified(report: &Report, closed: bool) -> bool {
    // A file without a line of the log verifies nothing.
    let is_something = !report.chains.is_empty();
    is_something
        && report.is_verified()
        && (!closed || report.chains.iter().all(|chain| chain.is_closed))
}

/// A report for programs.
#[derive(Serialize)]
pub(crate) struct JsonReport<'a> {
    /// Whether nothing is wrong.
    pub(crate) verified: bool,
    chains: Vec<JsonChain<'a>>,
    problems: Vec<JsonProblem<'a>>,
    more_problems: u64,
    /// Lines of other programs.
    other_lines: u64,
    /// Pieces of lines that a failing sink left, which the log tells of.
    torn_lines: usize,
    /// Files that end within a line.
    cut_files: Vec<String>,
}

#[derive(Serialize)]
struct JsonChain<'a> {
    chain: &'a str,
    lines: u64,
    first: u64,
    last: u64,
    signed: Option<u64>,
    unsigned_lines: u64,
    closed: bool,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    kind: &'static str,
    chain: Option<&'a str>,
    seq: Option<u64>,
    /// The last, of several that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    file: &'a str,
    line: u64,
    message: String,
}

impl<'a> JsonReport<'a> {
    pub(crate) fn new(report: &'a Report, verified: bool) -> Self {
        let file = |index: usize| report.files.get(index).map_or("-", String::as_str);
        let problem = |problem: &'a Problem| JsonProblem {
            kind: problem.kind.as_str(),
            chain: problem.chain.as_deref(),
            seq: problem.seq,
            to: match problem.kind {
                ProblemKind::Missing { to } => Some(to),
                _ => None,
            },
            file: file(problem.place.file),
            line: problem.place.line,
            message: problem.to_string(),
        };
        let chain = |chain: &'a ChainReport| JsonChain {
            chain: &chain.id,
            lines: chain.lines,
            first: chain.first,
            last: chain.last,
            signed: chain.signed,
            unsigned_lines: chain.unsigned(),
            closed: chain.is_closed,
        };
        Self {
            verified,
            chains: report.chains.iter().map(chain).collect(),
            problems: report.problems.iter().map(problem).collect(),
            more_problems: report.more_problems,
            other_lines: report.foreign,
            torn_lines: report.torn.len(),
            cut_files: report.cut.iter().map(|place| file(place.file).to_owned()).collect(),
        }
    }
}

/// A file with a key is a line.
const MAX_KEY_FILE_BYTES: u64 = 4096;
