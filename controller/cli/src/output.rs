//! What the program says: data to stdout, everything else to stderr.
//!
//! Meaning never hangs on colour, which only the words `error` and `warning` have, only on a
//! terminal, and not when `NO_COLOR` is set. Text that came from elsewhere is stripped of control characters before a
//! terminal sees it. The one thing printed as it is, byte for byte, is a value that was asked for.

use std::{
    env,
    error::Error,
    io::{self, ErrorKind, IsTerminal, Write},
    iter,
    process::ExitCode,
};

use comfy_table::{Table, TableStyle};
use serde::Serialize;

use crate::{api, connect, input, new_file, value};

/// The exit status of what was refused or failed.
const FAILED: u8 = 1;

/// The two streams, and what is known of them.
pub(crate) struct Output {
    data: Box<dyn Write>,
    notes: Box<dyn Write>,
    /// Whether a person reads the data.
    pub(crate) terminal: bool,
    colour: bool,
}

impl Output {
    /// Stdout and stderr.
    pub(crate) fn standard() -> Self {
        // https://no-color.org: any value but an empty one.
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            data: Box::new(io::stdout()),
            notes: Box::new(io::stderr()),
            terminal: io::stdout().is_terminal(),
            colour: io::stderr().is_terminal() && !no_colour,
        }
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.data.write_all(bytes).and_then(|()| self.data.flush()).map_err(WriteError)
    }

    /// Where data goes, for what is written in pieces.
    pub(crate) fn data(&mut self) -> &mut impl Write {
        &mut self.data
    }

    /// Prints one line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), WriteError> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Prints JSON for programs, indented for the people who write them.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), WriteError> {
        let written = serde_json::to_writer_pretty(&mut self.data, value).map_err(io::Error::from);
        written
            .and_then(|()| self.data.write_all(b"\n"))
            .and_then(|()| self.data.flush())
            .map_err(WriteError)
    }

    /// Prints columns under a header, as kubectl does.
    pub(crate) fn table<const N: usize>(
        &mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), WriteError> {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_header(header);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// Says what was done. A stderr that is gone keeps nobody from having done it.
    pub(crate) fn note(&mut self, note: &str) {
        let _ = writeln!(self.notes, "{note}");
    }

    /// Says what went wrong and, after an empty line, what to do about it.
    pub(crate) fn error(&mut self, message: &str, hint: Option<&str>) {
        let label = match self.colour {
            true => "\u{1b}[1;31merror\u{1b}[0m",
            false => "error",
        };
        self.note(&format!("{label}: {}", printable(message)));
        if let Some(hint) = hint {
            self.note(&format!("\nhint: {}", printable(hint)));
        }
    }

    /// Says what the person should know, though nothing went wrong.
    pub(crate) fn warning(&mut self, message: &str) {
        let label = match self.colour {
            true => "\u{1b}[1;33mwarning\u{1b}[0m",
            false => "warning",
        };
        self.note(&format!("{label}: {}", printable(message)));
    }

    /// Ends the program because of `error`: a closed pipe is a success, usage is 2, the rest is 1.
    pub(crate) fn fail(&mut self, error: &anyhow::Error) -> ExitCode {
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(WriteError::is_closed_pipe)) {
            return ExitCode::SUCCESS;
        }
        if let Some(usage) = error.downcast_ref() {
            return self.usage(usage);
        }
        if error.downcast_ref::<Told>().is_none() {
            self.error(&chain(error.as_ref()), hint(error).as_deref());
        }
        ExitCode::from(FAILED)
    }

    /// Prints what clap says: help and version to stdout with status 0, the rest to stderr with 2.
    pub(crate) fn usage(&mut self, error: &clap::Error) -> ExitCode {
        // clap colours by itself and by the same rules; a closed pipe is not an error.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

/// The program failed and has said all there is to say.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(crate) struct Told;

/// Stdout did not take what was written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub(crate) struct WriteError(#[source] io::Error);

impl WriteError {
    fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// An error with its causes, outermost first, joined by `: `.
///
/// Some libraries repeat the cause in the message; a cause that has just been said is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |&error| error.source()).fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if said.is_empty() {
            return cause;
        }
        if !said.ends_with(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
        said
    })
}

/// Text without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// What to do about an error, if something in its chain knows.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<api::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<connect::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<value::ValueError>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<input::ReadError>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<new_file::FileError>() {
            error.hint()
        } else {
            None
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, io, rc::Rc};

    use anyhow::anyhow;

    use super::*;

    /// What a stream has received.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Rc<RefCell<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output whose streams, data first, can be looked at.
    pub(crate) fn captured(terminal: bool) -> (Output, Captured, Captured) {
        let (data, notes) = (Captured::default(), Captured::default());
        let output = Output {
            data: Box::new(data.clone()),
            notes: Box::new(notes.clone()),
            terminal,
            colour: false,
        };
        (output, data, notes)
    }

    #[test]
    fn an_error_is_one_chain_on_stderr() {
        let (mut output, data, notes) = captured(false);

        output.fail(&anyhow!("no such file").context("cannot open `x`"));

        assert_eq!(data.text(), "");
        assert_eq!(notes.text(), "error: cannot open `x`: no such file\n");
    }

    #[test]
    fn a_hint_stands_apart() {
        let (mut output, _, notes) = captured(false);

        output
            .fail(&anyhow::Error::new(input::ReadError::Terminal).context("cannot read the value"));

        insta::assert_snapshot!(notes.text(), @r"
        error: cannot read the value: stdin is a terminal, which would show what is typed

        hint: pipe it in, or name a file
        ");
    }

    #[test]
    fn a_cause_that_was_just_said_is_not_said_again() {
        let error = anyhow!("gone").context("service error: gone").context("cannot connect");

        assert_eq!(chain(error.as_ref()), "cannot connect: service error: gone");
    }

    #[test]
    fn what_others_say_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
    }

    #[test]
    fn colour_is_only_for_the_label() {
        let (mut output, _, notes) = captured(true);
        output.colour = true;

        output.error("no", None);

        assert_eq!(notes.text(), "\u{1b}[1;31merror\u{1b}[0m: no\n");
    }

    #[test]
    fn a_table_has_no_trailing_blanks() {
        let (mut output, data, _) = captured(true);

        output
            .table(["NAME", "VERSION"], [["shop/db".into(), "12".into()], ["x".into(), "".into()]])
            .unwrap();

        assert_eq!(data.text(), "NAME      VERSION\nshop/db   12\nx\n");
    }
}
