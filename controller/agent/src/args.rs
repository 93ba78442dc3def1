//! The command line.
//!
//! Read by hand: the agent is called by pod specs, not by people, and clap would make the binary a
//! fifth of a megabyte larger. ARGV is bytes, not text, and is handed on as it is.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What is printed after a usage error.
pub(crate) const USAGE: &str = "\
usage: agent exec [--cached] -- ARGV…
       agent files
       agent copy DIR
       agent version";

/// What the agent is asked to do.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Copy this binary into a directory.
    Copy { directory: PathBuf },
    /// Start `argv`, which is not empty, with the secret variables: fetched, or those that another
    /// agent of this container has left in the cache.
    Exec { argv: Vec<OsString>, cached: bool },
    /// Write the files of the plan.
    Files,
    /// Print the version.
    Version,
}

/// Reads the arguments, without the program's own name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let name = args.next().ok_or(UsageError::NoCommand)?;
    let command = match name.to_str() {
        Some("copy") => {
            Command::Copy { directory: args.next().ok_or(UsageError::NoDirectory)?.into() }
        }
        Some("exec") => {
            let mut next = args.next();
            let cached = next.as_deref() == Some(OsStr::new("--cached"));
            if cached {
                next = args.next();
            }
            if next.as_deref() != Some(OsStr::new("--")) {
                return Err(UsageError::NoSeparator);
            }
            let argv: Vec<_> = args.by_ref().collect();
            if argv.is_empty() {
                return Err(UsageError::NoProgram);
            }
            Command::Exec { argv, cached }
        }
        Some("files") => Command::Files,
        Some("version" | "--version") => Command::Version,
        _ => return Err(UsageError::UnknownCommand { name }),
    };
    match args.next() {
        None => Ok(command),
        Some(argument) => Err(UsageError::Unexpected { argument }),
    }
}

/// Why the command line makes no sense.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("no command given")]
    NoCommand,
    #[error("`copy` needs a directory")]
    NoDirectory,
    #[error("`exec` needs a program after `--`")]
    NoProgram,
    #[error("`exec` needs `--` before the program")]
    NoSeparator,
    #[error("unexpected argument `{}`", argument.display())]
    Unexpected { argument: OsString },
    #[error("unknown command `{}`", name.display())]
    UnknownCommand { name: OsString },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use rstest::rstest;

    use super::{Command, UsageError, parse};

    #[rstest]
    #[case(&["copy", "/watchword"], Command::Copy { directory: "/watchword".into() })]
    #[case(&["exec", "--", "sh", "-c", "x"], exec(&["sh", "-c", "x"], false))]
    #[case(&["exec", "--cached", "--", "probe"], exec(&["probe"], true))]
    #[case(&["exec", "--", "--cached", "--"], exec(&["--cached", "--"], false))]
    #[case(&["files"], Command::Files)]
    #[case(&["version"], Command::Version)]
    fn commands_are_read(#[case] args: &[&str], #[case] command: Command) {
        assert_eq!(parse(args.iter().map(OsString::from)), Ok(command));
    }

    #[rstest]
    #[case(&[], UsageError::NoCommand)]
    #[case(&["copy"], UsageError::NoDirectory)]
    #[case(&["exec"], UsageError::NoSeparator)]
    #[case(&["exec", "sh"], UsageError::NoSeparator)]
    #[case(&["exec", "--"], UsageError::NoProgram)]
    #[case(&["exec", "--cached", "--"], UsageError::NoProgram)]
    #[case(&["files", "x"], UsageError::Unexpected { argument: "x".into() })]
    #[case(&["resolve"], UsageError::UnknownCommand { name: "resolve".into() })]
    fn what_makes_no_sense_is_refused(#[case] args: &[&str], #[case] error: UsageError) {
        assert_eq!(parse(args.iter().map(OsString::from)), Err(error));
    }

    #[test]
    fn arguments_need_not_be_utf8() {
        let odd = OsString::from_vec(vec![0xff, b'=', 0x80]);

        let command = parse(["exec".into(), "--".into(), odd.clone()]);

        assert_eq!(command, Ok(Command::Exec { argv: vec![odd], cached: false }));
    }

    fn exec(argv: &[&str], cached: bool) -> Command {
        Command::Exec { argv: argv.iter().map(OsString::from).collect(), cached }
    }
}
