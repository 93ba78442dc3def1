//! The secret variables that the container's agent leaves for the agents of its probes and hooks.
//!
//! A probe makes no call: a store that is sealed or gone must not fail it. The file lies on a tmpfs
//! that only this container mounts, and only its user can read it. The format is that of
//! `/proc/PID/environ`: `NAME=VALUE` with a NUL behind each.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::confined::{Directory, FileName};
use crate::environment::Variable;
use crate::failure::Failure;

/// Writes the file at once: a probe sees all variables or none.
pub(crate) fn write(path: &Path, variables: &[Variable]) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        Failure::launch(format!(
            "cannot write the variables for probes, `{}`: {error}",
            path.display()
        ))
    };
    let (directory, name) = split(path)?;
    Directory::open(directory)
        .and_then(|directory| {
            directory.replace(&name, 0o400, |file| {
                variables.iter().try_for_each(|variable| {
                    file.write_all(variable.expose_text().to_bytes_with_nul())
                })
            })
        })
        .map_err(cannot)
}

/// Reads the file; waits for it, because a `postStart` hook may run before the container's agent has
/// its answer.
pub(crate) fn read(path: &Path) -> Result<Vec<Variable>, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match contents(path) {
            Ok(bytes) => return parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                thread::sleep(POLL);
            }
            Err(error) => {
                return Err(Failure::launch(format!(
                    "cannot read the container's variables, `{}`: {error}",
                    path.display()
                )));
            }
        }
    }
}

fn contents(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // The file is complete once it has its name and never changes, so that its size is known.
    let mut contents = Zeroizing::new(vec![0; bytes]);
    file.read_exact(&mut contents)?;
    Ok(contents)
}

fn parse(bytes: &[u8]) -> Result<Vec<Variable>, Failure> {
    bytes
        .split_inclusive(|&byte| byte == 0)
        .map(|text| {
            let text = text.strip_suffix(b"\0").unwrap_or(text);
            let Some(equals) = text.iter().position(|&byte| byte == b'=') else {
                return Err(Failure::launch("the container's variables are damaged"));
            };
            Variable::new(&text[..equals], &text[equals + 1..])
        })
        .collect()
}

fn split(path: &Path) -> Result<(&Path, FileName), Failure> {
    path.parent()
        .zip(path.file_name().and_then(|name| name.to_str()?.parse().ok()))
        .ok_or_else(|| Failure::launch(format!("`{}` is no path of a file", path.display())))
}

/// How long a probe waits for the file. Probes have a timeout of their own, one second by default;
/// this one ends hooks, which have none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a probe looks for the file: rarely missed, and cheaper than a watch that would have to
/// look once anyway.
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::{Variable, read, write};

    proptest! {
        #[test]
        fn what_is_written_is_read(
            variables in proptest::collection::vec(("[A-Z]{1,8}", proptest::collection::vec(1_u8.., 0..50)), 0..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("environment");
            let written: Vec<_> = variables
                .iter()
                .map(|(name, value)| Variable::new(name.as_bytes(), value).ok().unwrap())
                .collect();

            write(&path, &written).ok().unwrap();
            let read = read(&path).ok().unwrap();

            let parts: Vec<_> = read.iter().map(|v| (v.name(), v.expose_value())).collect();
            let expected: Vec<_> = variables.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
            prop_assert_eq!(parts, expected);
            prop_assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o400);
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("environment");
        fs::write(&path, "A=1\0s3cret").unwrap();

        let failure = read(&path).err().unwrap();

        assert_eq!(failure.message(), "the container's variables are damaged");
    }
}
