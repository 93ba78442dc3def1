//! Which file `ARGV[0]` means: what the container's runtime would have started.
//!
//! runc looks along the `PATH` of the container's environment with Go's `exec.LookPath`. That takes
//! a name with a `/` as it is, relative to the working directory, and nothing from the working
//! directory otherwise: an empty or a relative entry of `PATH` is not searched.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::failure::{Exit, Failure};

/// Finds the file. `path` is the value of `PATH` in the application's environment.
pub(crate) fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut refused = None;
    for directory in std::env::split_paths(path).filter(|directory| directory.is_absolute()) {
        let candidate = directory.join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // Another directory may have one that can be executed.
            Err(error) => refused = refused.or(Some((candidate, error))),
        }
    }
    Err(match refused {
        Some((candidate, error)) => cannot_start(&candidate, error),
        None => Failure::new(
            Exit::NotFound,
            format!("cannot find `{}` in PATH, which is `{}`", name.display(), path.display()),
        ),
    })
}

/// The failure of the file that was found, in the words and the code of a shell.
pub(crate) fn cannot_start(program: &Path, error: Errno) -> Failure {
    let program = program.display();
    match error {
        Errno::NOENT | Errno::NOTDIR => Failure::new(
            Exit::NotFound,
            format!("cannot start `{program}`: it, or the interpreter it names, does not exist"),
        ),
        Errno::TOOBIG => Failure::launch(format!(
            "cannot start `{program}`: arguments and environment are too large; use files"
        )),
        error => Failure::new(
            Exit::NotExecutable,
            format!("cannot start `{program}`: {}", std::io::Error::from(error)),
        ),
    }
}

fn executable(path: &Path) -> Result<(), Errno> {
    // The effective user's rights, like `execve`'s.
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    // A directory that may be entered passes the check above.
    if path.is_dir() { Err(Errno::ISDIR) } else { Ok(()) }
}

/// What containerd sets where neither the image nor the pod's spec does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::find;
    use crate::failure::Exit;

    #[test]
    fn the_first_executable_along_the_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for (directory, mode) in [("a", 0o644), ("b", 0o755), ("c", 0o755)] {
            file(&folder.path().join(directory), mode);
        }
        fs::create_dir_all(folder.path().join("0/tool")).unwrap();

        let path = ["0", "missing", "a", "b", "c"].map(|name| folder.path().join(name));
        let found = find("tool".as_ref(), Some(&std::env::join_paths(path).unwrap()));

        assert_eq!(found.ok().unwrap(), folder.path().join("b/tool"));
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        for name in ["./tool", "bin/tool", "/bin/tool"] {
            assert_eq!(
                find(name.as_ref(), Some(OsStr::new("/nowhere"))).ok().unwrap(),
                Path::new(name)
            );
        }
    }

    #[test]
    fn empty_and_relative_entries_are_not_the_working_directory() {
        // The tests' working directory is the package's, which has a Cargo.toml.
        for path in ["", ":", ".", "src/..", "::/nowhere"] {
            let failure = find("Cargo.toml".as_ref(), Some(OsStr::new(path))).err().unwrap();
            assert_eq!(failure.exit(), Exit::NotFound, "{path:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_another_failure_than_none() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), 0o644);

        let failure = find("tool".as_ref(), Some(folder.path().as_os_str())).err().unwrap();

        assert_eq!(failure.exit(), Exit::NotExecutable);
    }

    #[test]
    fn without_a_path_the_default_one_is_searched() {
        assert!(find("sh".as_ref(), None).is_ok());
    }

    fn file(directory: &Path, mode: u32) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("tool"), "").unwrap();
        fs::set_permissions(directory.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
    }
}
