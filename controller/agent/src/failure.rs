//! How the agent gives up: one message, one exit code, one place that says both.
//!
//! A [`Failure`] is made of text that describes; no function here sees a value.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use watchword_protocol::env_names::WATCHWORD_TERMINATION_LOG;

/// Why the agent ends without having done what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    /// Whether the message is the container's last word; a probe's is not.
    ends_container: bool,
}

/// The agent's own exit codes. An application's are its own: it takes the agent's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The secrets cannot be had, or cannot be handed over: `EX_CONFIG` of sysexits.h.
    Launch = 78,
    /// The program is there and cannot be executed, as in a shell.
    NotExecutable = 126,
    /// The program was not found, as in a shell.
    NotFound = 127,
    /// The command line makes no sense.
    Usage = 2,
}

impl Failure {
    /// The secrets cannot be had, or cannot be handed over.
    pub(crate) fn launch(message: impl Into<String>) -> Self {
        Self::new(Exit::Launch, message)
    }

    /// As `exit` says.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), ends_container: true }
    }

    /// The failure of a probe or a hook: the termination message belongs to the application.
    pub(crate) fn of_a_probe(self) -> Self {
        Self { ends_container: false, ..self }
    }

    /// What it says, for tests.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// How it ends, for tests.
    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on stderr, leaves it as termination message, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let line = line(&self.message);
        _ = writeln!(io::stderr(), "{line}");
        if self.ends_container {
            leave_termination_message(&line);
        }
        self.exit.into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The text without control characters: it may come from the store, and they have no business in a
/// terminal or in a status.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The message in the words of Mesos.
fn line(message: &str) -> String {
    let mut line = format!("Failed to launch container: {}", one_line(message));
    line.truncate(line.floor_char_boundary(MAX_BYTES));
    line
}

/// Best effort: where there is no such file, stderr has said it already.
fn leave_termination_message(line: &str) {
    let path = std::env::var_os(WATCHWORD_TERMINATION_LOG)
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| DEFAULT_TERMINATION_LOG.into());
    // The kubelet has made the file. Making one would leave litter on a machine without kubelet.
    let file = OpenOptions::new().write(true).truncate(true).open(Path::new(&path));
    _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// The default of `terminationMessagePath`.
const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";

/// The kubelet takes no more of a termination message than this.
const MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, line};

    #[test]
    fn a_message_stays_on_one_line() {
        assert_eq!(
            line("no secret `a`\n\u{1b}[31mred"),
            "Failed to launch container: no secret `a`  [31mred"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = line(&"ü".repeat(5000));

        assert!(cut.len() <= MAX_BYTES && cut.len() > MAX_BYTES - 2);
        assert!(cut.ends_with('ü'));
    }
}
