//! Asking a person for something that the terminal must not show.
//!
//! The terminal is told neither to echo nor to make signals of keys: a program that is killed while
//! nothing is echoed would leave the person a silent terminal. So Ctrl-C comes here as a character,
//! and what the terminal was, it is again whatever happens. rustix, which is in the tree already,
//! does this without `unsafe`; a crate for it would add one more to trust with every passphrase.

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::{Zeroize, Zeroizing};

/// Asks on stderr and reads one line from the terminal that stdin is.
///
/// # Errors
///
/// `PromptError` where nobody can be asked, and where the person gives up.
pub(crate) fn ask(question: &str) -> Result<Zeroizing<String>, PromptError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(PromptError::NoTerminal);
    }
    let mut stderr = io::stderr();
    let silence = Silence::begin(&stdin)?;
    // Without a stderr there is still somebody who types.
    let _ = write!(stderr, "{question}: ");
    // Past the standard library, whose buffer nobody wipes.
    let line = read_line(|key| Ok(rustix::io::read(&stdin, key)?));
    drop(silence);
    // The end of the line was not echoed either.
    let _ = writeln!(stderr);
    line
}

/// Asks on stderr for a yes, which the terminal shows.
///
/// # Errors
///
/// `PromptError` where nobody can be asked, and where the person gives up.
pub(crate) fn confirm(question: &str) -> Result<bool, PromptError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(PromptError::NoTerminal);
    }
    let _ = write!(io::stderr(), "{question} [yes/no]: ");
    let answer = read_line(|key| Ok(rustix::io::read(&stdin, key)?))?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}

/// Whether there is a person to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// A terminal that echoes nothing; dropped, it is as it was.
struct Silence<'a, T: AsFd> {
    terminal: &'a T,
    before: Termios,
}

impl<'a, T: AsFd> Silence<'a, T> {
    fn begin(terminal: &'a T) -> Result<Self, PromptError> {
        let before = termios::tcgetattr(terminal).map_err(io::Error::from)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question is no answer to it.
        termios::tcsetattr(terminal, OptionalActions::Flush, &silent).map_err(io::Error::from)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Silence<'_, T> {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Reads up to the end of a line, minding the keys that a terminal would have minded.
fn read_line(
    mut next: impl FnMut(&mut [u8; 1]) -> io::Result<usize>,
) -> Result<Zeroizing<String>, PromptError> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
    let mut key = [0];
    loop {
        let read = next(&mut key)?;
        match (read, key[0]) {
            (0, _) | (_, b'\n' | b'\r') => break,
            (_, CTRL_D) if line.is_empty() => return Err(PromptError::GivenUp),
            (_, CTRL_C) => return Err(PromptError::GivenUp),
            (_, CTRL_U) => line.zeroize(),
            (_, BACKSPACE | DELETE) => drop(line.pop()),
            (_, key) if line.len() < MAX_LINE_BYTES => line.push(key),
            _ => return Err(PromptError::TooLong),
        }
    }
    key.zeroize();
    match std::str::from_utf8(&line) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(PromptError::NotText),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("nothing was given")]
    GivenUp,
    #[error("stdin is no terminal to ask at")]
    NoTerminal,
    #[error("what was typed is not UTF-8 text")]
    NotText,
    #[error("cannot ask at the terminal")]
    Terminal(#[from] io::Error),
    #[error("what was typed is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

const BACKSPACE: u8 = 0x08;
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// A share has 66 bytes; a passphrase has no limit of its own.
const MAX_LINE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rstest::rstest;

    use super::*;

    fn typed(mut keys: impl Read) -> Result<Zeroizing<String>, PromptError> {
        read_line(|key| keys.read(key))
    }

    #[rstest]
    #[case(b"abc\n", "abc")]
    #[case(b"abc\rdef", "abc")]
    #[case(b"abc", "abc")]
    #[case(b"abx\x7fc\n", "abc")]
    #[case(b"\x08\x7fabc\n", "abc")]
    #[case(b"wrong\x15abc\n", "abc")]
    #[case(b"a\x04bc\n", "a\u{4}bc")]
    #[case(b"\n", "")]
    fn keys_do_what_they_do_in_a_terminal(#[case] keys: &[u8], #[case] expected: &str) {
        assert_eq!(typed(keys).map(|line| line.to_string()).unwrap(), expected);
    }

    #[rstest]
    #[case(b"\x04", "nothing was given")]
    #[case(b"secret\x03", "nothing was given")]
    #[case(b"\xff\n", "what was typed is not UTF-8 text")]
    fn a_person_may_give_up(#[case] keys: &[u8], #[case] expected: &str) {
        assert_eq!(typed(keys).err().unwrap().to_string(), expected);
    }

    #[test]
    fn an_endless_line_fills_no_memory() {
        let error = typed(io::repeat(b'x')).err().unwrap();

        assert!(matches!(error, PromptError::TooLong));
    }
}
