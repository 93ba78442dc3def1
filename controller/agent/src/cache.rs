//! The secret variables that the container's agent leaves for the agents of its probes and hooks.
//!
//! A probe makes no call: a store that is sealed or gone must not fail it. The file lies on a tmpfs
//! that only this container mounts, and only its user can read it. The format is that of
//! `/proc/PID/environ`: `NAME=VALUE` with a NUL behind each.
//!
//! Nobody reads it before the container's program has begun. A hook that looks at that program, as
//! one that prints to `/proc/1/fd/1` does, would find the agent, which lets nobody look.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::confined::{Directory, FileName};
use crate::environment::Variable;
use crate::failure::Failure;

/// Keeps the agents of probes and hooks waiting as long as it is held: until the program takes the
/// agent's place, which closes the file, or the agent ends.
#[derive(Debug)]
#[must_use = "it holds up nobody once it is dropped"]
pub(crate) struct Latch(#[expect(dead_code, reason = "held for its lock")] Option<File>);

/// Removes the file that an earlier start of the container has left.
pub(crate) fn forget(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::launch(format!(
            "cannot remove the variables of an earlier start, `{}`: {error}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Writes the file at once: a probe sees all variables or none, and not before the latch is gone.
pub(crate) fn write(path: &Path, variables: &[Variable]) -> Result<Latch, Failure> {
    let cannot = |error: io::Error| {
        Failure::launch(format!(
            "cannot write the variables for probes, `{}`: {error}",
            path.display()
        ))
    };
    let (directory, name) = split(path)?;
    let mut latch = None;
    Directory::open(directory)
        .and_then(|directory| {
            directory.replace(&name, 0o400, |file| {
                // Before it has its name: nobody else has opened it. The copy shares the lock.
                file.lock()?;
                latch = Some(file.try_clone()?);
                variables.iter().try_for_each(|variable| {
                    file.write_all(variable.expose_text().to_bytes_with_nul())
                })
            })
        })
        .map_err(cannot)?;
    Ok(Latch(latch))
}

/// Reads the file; waits for it, because a `postStart` hook may run before the container's agent has
/// its answer, or has been replaced by the program.
pub(crate) fn read(path: &Path) -> Result<Vec<Variable>, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match contents(path) {
            Ok(bytes) => return parse(&bytes),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WouldBlock)
                    && Instant::now() < until =>
            {
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
    file.try_lock_shared().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
    })?;
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

    use super::{ErrorKind, Variable, contents, forget, read, write};

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

            drop(write(&path, &written).ok().unwrap());
            let read = read(&path).ok().unwrap();

            let parts: Vec<_> = read.iter().map(|v| (v.name(), v.expose_value())).collect();
            let expected: Vec<_> = variables.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
            prop_assert_eq!(parts, expected);
            prop_assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o400);
        }
    }

    #[test]
    fn nobody_reads_before_the_latch_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("environment");

        let latch = write(&path, &[]).ok().unwrap();
        let before = contents(&path);
        drop(latch);

        assert_eq!(before.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(contents(&path).is_ok());
    }

    #[test]
    fn what_an_earlier_start_has_left_can_be_forgotten_and_need_not_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("environment");
        drop(write(&path, &[]).ok().unwrap());

        for _ in 0..2 {
            assert!(forget(&path).is_ok());
        }

        assert_eq!(contents(&path).unwrap_err().kind(), ErrorKind::NotFound);
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
