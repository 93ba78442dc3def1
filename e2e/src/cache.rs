//! Where things are kept between runs: built tools, built images, clusters.
//!
//! Everything is below one folder, so that removing the folder undoes all of it:
//!
//! ```text
//! tools/<module>-<stamp>/    binaries of one Go module
//! images/<stamp>/            test programs and image archives
//! clusters/<name>/           one cluster; kept while it runs, and after a failure
//! locks/<name>               empty
//! ```

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

/// The folder that holds everything that outlives a run.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// `$WATCHWORD_CACHE`, or `watchword` below `$XDG_CACHE_HOME` or `~/.cache`.
    ///
    /// # Errors
    ///
    /// If none of the three variables is set, or the folder cannot be made.
    pub fn from_env() -> Result<Self> {
        let Some(folder) = folder(|name| env::var_os(name)) else {
            bail!("no folder for the cluster: set WATCHWORD_CACHE or HOME");
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the cache folder `{}`", folder.display()))?;
        // Absolute and without links: the same path is used inside the node.
        let folder = fs::canonicalize(&folder)
            .with_context(|| format!("cannot resolve `{}`", folder.display()))?;
        Ok(Self(folder))
    }

    /// A cache in a folder of one's own.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where binaries of Go modules are kept.
    pub fn tools(&self) -> PathBuf {
        self.0.join("tools")
    }

    /// Where test programs and image archives are kept.
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Where locks are kept, one empty file for each cluster.
    pub fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    /// Where clusters are kept, one folder for each.
    pub fn clusters(&self) -> PathBuf {
        self.0.join("clusters")
    }
}

fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WATCHWORD_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("watchword")))
        .or_else(|| Some(set("HOME")?.join(".cache/watchword")))
}

/// The name of a local cluster: 1 to 40 of `a-z`, `0-9` and `-`, so that it can be a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("watchword".to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > 40 || !text.bytes().all(allowed) {
            bail!("cluster name `{text}`: use 1 to 40 of a-z, 0-9 and -");
        }
        Ok(Self(text.to_owned()))
    }
}

/// An exclusive lock on a file; other processes wait for it, and it ends with this value or with
/// the process, whichever comes first.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever has it; `waiting` is called once before a wait.
    ///
    /// # Errors
    ///
    /// If the file or its folder cannot be made.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        let file =
            File::create(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            waiting();
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock `{}`", path.display()))?;
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(set: &[(&str, &str)]) -> Option<PathBuf> {
        folder(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn our_own_variable_goes_before_the_desktops_and_that_before_home() {
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let own = ("WATCHWORD_CACHE", "/w");

        assert_eq!(folder_with(&[home, xdg, own]), Some(PathBuf::from("/w")));
        assert_eq!(folder_with(&[home, xdg]), Some(PathBuf::from("/x/watchword")));
        assert_eq!(folder_with(&[home]), Some(PathBuf::from("/home/a/.cache/watchword")));
        assert_eq!(folder_with(&[]), None);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let folder = folder_with(&[("WATCHWORD_CACHE", ""), ("HOME", "/home/a")]);

        assert_eq!(folder, Some(PathBuf::from("/home/a/.cache/watchword")));
    }

    #[test]
    fn a_cluster_name_cannot_leave_its_folder() {
        for bad in ["", "..", "a/b", "A", "a b", &"a".repeat(41)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        assert_eq!("ci-2".parse::<ClusterName>().unwrap().as_str(), "ci-2");
    }

    #[test]
    fn a_lock_is_free_again_once_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lock");

        drop(Lock::take(&path, || panic!("nobody has it")).unwrap());
        drop(Lock::take(&path, || panic!("nobody has it any more")).unwrap());
    }
}
