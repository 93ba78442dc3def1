//! Files that this program makes: readable by their owner only, and whole or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Makes a file of these bytes, which is on the disk when this returns; one that is there already
/// is left as it is.
///
/// # Errors
///
/// `FileError` when there is one, or it cannot be made; then there is none of it.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |cause| FileError::new(path, cause);
    let mut file = private().create_new(true).open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    match written.and_then(|()| sync_folder(path)) {
        Ok(()) => Ok(()),
        Err(cause) => {
            remove(path);
            Err(failed(cause))
        }
    }
}

/// Removes a file that was made a moment ago. If it stays, it is a file that nobody needs.
pub(crate) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// A file that takes its name when it is whole; until then, and forever if it never is, what had
/// the name keeps it.
pub(crate) struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Draft {
    /// Begins the file that will be called `path`.
    ///
    /// # Errors
    ///
    /// `FileError` when nothing can be written beside it.
    pub(crate) fn begin(path: &Path) -> Result<Self, FileError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let draft = path.with_file_name(name);
        let file = private().read(true).create_new(true).open(&draft);
        let file = file.map_err(|cause| FileError::new(&draft, cause))?;
        Ok(Self { file, draft, path: path.to_owned(), kept: false })
    }

    /// The file, to write to and to read what was written.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// `FileError` when it cannot have it.
    pub(crate) fn keep(mut self) -> Result<(), FileError> {
        let renamed = self.file.sync_all().and_then(|()| fs::rename(&self.draft, &self.path));
        renamed.map_err(|cause| FileError::new(&self.path, cause))?;
        self.kept = true;
        sync_folder(&self.path).map_err(|cause| FileError::new(&self.path, cause))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.draft);
        }
    }
}

/// A file could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`", path = .path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl FileError {
    fn new(path: &Path, cause: io::Error) -> Self {
        Self { path: path.to_owned(), cause }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self.cause.kind() {
            io::ErrorKind::AlreadyExists => {
                Some("name a file that is not there yet: this one is left as it is".to_owned())
            }
            _ => None,
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// A name is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");

        create(&path, b"x").unwrap();

        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"x".to_vec(), 0o600));
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "first").unwrap();

        let error = create(&path, b"second").unwrap_err();

        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert!(error.hint().unwrap().contains("not there yet"));
    }

    #[test]
    fn a_draft_that_is_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        fs::write(&path, "older").unwrap();

        let mut draft = Draft::begin(&path).unwrap();
        draft.file().write_all(b"half").unwrap();
        drop(draft);

        assert_eq!(fs::read(&path).unwrap(), b"older");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_draft_that_is_kept_has_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        fs::write(&path, "older").unwrap();

        let mut draft = Draft::begin(&path).unwrap();
        draft.file().write_all(b"newer").unwrap();
        draft.keep().unwrap();

        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"newer".to_vec(), 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
