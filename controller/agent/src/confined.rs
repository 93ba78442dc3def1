//! Files inside one directory and nowhere else.
//!
//! Names and paths are checked when they are made: no `..`, no empty component, no NUL, never
//! absolute. Each file is opened relative to an open directory, with `openat2` and without following
//! links, so that nobody who can write in the directory can turn a write elsewhere.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, open, openat2, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

/// The name of a file: one component of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileName(String);

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        match text {
            "" | "." | ".." => Err(PathError::BadComponent { text: text.to_owned() }),
            _ if text.contains(['/', '\0']) => {
                Err(PathError::BadComponent { text: text.to_owned() })
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// A path below a directory: the directories on the way, and a last component.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RelativePath {
    pub(crate) parents: Vec<FileName>,
    pub(crate) name: FileName,
}

impl FromStr for RelativePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (parents, name) = match text.rsplit_once('/') {
            None => (Vec::new(), text),
            Some((parents, name)) => {
                (parents.split('/').map(str::parse).collect::<Result<_, _>>()?, name)
            }
        };
        Ok(Self { parents, name: name.parse()? })
    }
}

/// Why a text is not a path below a directory.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("`{text}` is no name of a file")]
    BadComponent { text: String },
}

/// An open directory.
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory whose path comes from the pod's spec; links on the way are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// Puts a file in the place of what has that name, or of nothing, at once: whoever looks sees
    /// the old contents or the new. `write` fills it; `mode` is exact, whatever the umask.
    pub(crate) fn replace(
        &self,
        name: &FileName,
        mode: u32,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = format!(".{name}.tmp");
        // What an agent that was killed has left behind. There is one writer per directory.
        self.remove(&temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.open_below(&temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let written = write(&mut file)
            .and_then(|()| Ok(fchmod(&file, Mode::from_raw_mode(mode))?))
            .and_then(|()| Ok(renameat(&self.0, &temporary, &self.0, &name.0)?));
        if written.is_err() {
            // Half a value is of no use, and a full volume should not stay full. The first error is
            // the one to report.
            _ = self.remove(&temporary);
        }
        written
    }

    /// Opens a directory in this one; makes it, writable for all, if there is none.
    pub(crate) fn descend(&self, name: &FileName) -> io::Result<Self> {
        let made = match mkdirat(&self.0, &name.0, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let directory =
            Self(self.open_below(&name.0, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?);
        if made {
            // The umask has taken bits away. A directory that was there keeps the mode it has.
            fchmod(&directory.0, Mode::from_raw_mode(0o777))?;
        }
        Ok(directory)
    }

    /// Makes an empty file to mount over, if there is none.
    pub(crate) fn make_mount_point(&self, name: &FileName) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        match self.open_below(&name.0, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let found = statat(&self.0, &name.0, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(Errno::ISDIR.into()),
            // The mount would land wherever the link leads.
            FileType::Symlink => Err(Errno::LOOP.into()),
            _ => Err(Errno::EXIST.into()),
        }
    }

    fn open_below(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let confined =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode, confined)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use proptest::prelude::*;
    use rstest::rstest;

    use super::{Directory, FileName, RelativePath};

    #[rstest]
    #[case("")]
    #[case(".")]
    #[case("..")]
    #[case("/etc/passwd")]
    #[case("a//b")]
    #[case("a/")]
    #[case("a/../../b")]
    #[case("./a")]
    #[case("a\0")]
    fn what_could_leave_the_directory_is_no_path(#[case] text: &str) {
        assert!(text.parse::<RelativePath>().is_err());
    }

    proptest! {
        #[test]
        fn a_path_is_its_components(components in proptest::collection::vec("[a-z]{1,3}", 1..5)) {
            let path: RelativePath = components.join("/").parse().unwrap();

            let parts: Vec<_> = path.parents.iter().chain([&path.name]).map(FileName::to_string).collect();
            prop_assert_eq!(parts, components);
        }
    }

    #[test]
    fn a_file_is_replaced_and_has_the_mode_that_was_asked_for() {
        let (folder, directory, name) = fixture();

        for contents in ["first", "2"] {
            directory.replace(&name, 0o400, |file| file.write_all(contents.as_bytes())).unwrap();
        }

        let path = folder.path().join("0");
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_other() {
        let (folder, directory, name) = fixture();
        directory.replace(&name, 0o444, |file| file.write_all(b"old")).unwrap();

        let result = directory.replace(&name, 0o444, |_| Err(io::ErrorKind::StorageFull.into()));

        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(folder.path().join("0")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_in_the_way_are_replaced_and_never_followed() {
        let (folder, directory, name) = fixture();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, folder.path().join("0")).unwrap();
        symlink(&target, folder.path().join(".0.tmp")).unwrap();

        directory.replace(&name, 0o400, |file| file.write_all(b"value")).unwrap();

        assert_eq!(fs::read_to_string(target).unwrap(), "untouched");
        assert!(folder.path().join("0").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_linked_directory_is_not_entered() {
        let (folder, directory, _) = fixture();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("etc")).unwrap();

        assert!(directory.descend(&"etc".parse().unwrap()).is_err());
    }

    #[test]
    fn a_directory_that_was_made_is_writable_for_all_and_one_that_was_there_keeps_its_mode() {
        let (folder, directory, _) = fixture();
        fs::create_dir(folder.path().join("old")).unwrap();
        fs::set_permissions(folder.path().join("old"), fs::Permissions::from_mode(0o750)).unwrap();

        for name in ["new", "old", "new"] {
            directory.descend(&name.parse().unwrap()).unwrap();
        }

        let mode = |name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("new") & 0o7777, 0o777);
        assert_eq!(mode("old") & 0o7777, 0o750);
    }

    #[test]
    fn a_mount_point_is_made_once_and_only_where_a_file_can_be() {
        let (folder, directory, name) = fixture();
        fs::create_dir(folder.path().join("directory")).unwrap();
        symlink("0", folder.path().join("link")).unwrap();

        directory.make_mount_point(&name).unwrap();
        fs::write(folder.path().join("0"), "the application's").unwrap();
        directory.make_mount_point(&name).unwrap();

        assert_eq!(fs::read_to_string(folder.path().join("0")).unwrap(), "the application's");
        assert!(directory.make_mount_point(&"directory".parse().unwrap()).is_err());
        assert!(directory.make_mount_point(&"link".parse().unwrap()).is_err());
    }

    fn fixture() -> (tempfile::TempDir, Directory, FileName) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        (folder, directory, "0".parse().unwrap())
    }
}
