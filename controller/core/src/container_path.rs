//! Container paths: where a secret file appears in its container.
//!
//! Mesos does not check them; here a path names one file, cannot leave the sandbox and has one
//! spelling, so that two volumes in each other's way are found by comparing.

use std::fmt;

use crate::pod::SANDBOX;

/// The path of one file: relative to the sandbox, or absolute. `a//b/./c` and `a/b/c` are equal, and
/// so are `a` and `/mnt/mesos/sandbox/a`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerPath {
    in_sandbox: bool,
    /// Without a slash at either end.
    path: String,
}

impl ContainerPath {
    /// Reads what `container_path` says.
    ///
    /// # Errors
    ///
    /// If the path names no file, could leave the sandbox, or cannot be mounted.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(PathError::Nul);
        }
        // A mount path with a colon is refused by the API server, with a text that helps nobody.
        if text.contains(':') {
            return Err(PathError::Colon { path: text.to_owned() });
        }
        if text.split('/').any(|component| component == "..") {
            return Err(PathError::Leaves { path: text.to_owned() });
        }
        if text.ends_with('/') {
            return Err(PathError::Directory { path: text.to_owned() });
        }
        if text.split('/').any(|component| component.len() > MAX_COMPONENT_BYTES) {
            return Err(PathError::LongComponent);
        }
        let path = Self::normal(text);
        if path.path.is_empty() {
            return Err(PathError::Directory { path: text.to_owned() });
        }
        match RESERVED.iter().find(|reserved| is_below(&path.absolute(), reserved)) {
            None => Ok(path),
            Some(reserved) => Err(PathError::Reserved { path: text.to_owned(), reserved }),
        }
    }

    /// The nearest path to a text that `parse` refuses, for what must go on in spite of it.
    pub(crate) fn nearest(text: &str) -> Self {
        let harmless: String = text.chars().filter(|one| !matches!(one, '\0' | ':')).collect();
        let components = harmless.split('/').filter(|one| *one != "..").collect::<Vec<_>>();
        match Self::normal(&components.join("/")) {
            path if path.path.is_empty() => Self { in_sandbox: true, path: "invalid".to_owned() },
            path => path,
        }
    }

    fn normal(text: &str) -> Self {
        let path = text
            .split('/')
            .filter(|component| !component.is_empty() && *component != ".")
            .collect::<Vec<_>>()
            .join("/");
        if !text.starts_with('/') {
            return Self { in_sandbox: true, path };
        }
        match path.strip_prefix(&SANDBOX[1..]).map(|rest| (rest, rest.strip_prefix('/'))) {
            Some(("", _)) => Self { in_sandbox: true, path: String::new() },
            Some((_, Some(below))) => Self { in_sandbox: true, path: below.to_owned() },
            Some((_, None)) | None => Self { in_sandbox: false, path },
        }
    }

    /// The path as the container sees it.
    pub fn absolute(&self) -> String {
        if self.in_sandbox { format!("{SANDBOX}/{}", self.path) } else { format!("/{}", self.path) }
    }

    /// The path relative to the sandbox, if it lies there.
    pub fn in_sandbox(&self) -> Option<&str> {
        self.in_sandbox.then_some(self.path.as_str())
    }

    /// Whether one of the two files would have to be a directory for the other, or is the other.
    pub fn is_in_the_way_of(&self, other: &Self) -> bool {
        let (one, two) = (self.absolute(), other.absolute());
        is_below(&one, &two) || is_below(&two, &one)
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.absolute())
    }
}

/// Why a text is no path of a secret file. The message begins with the path in quotes, where there
/// is one to show.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// It holds a colon.
    #[error("{path:?} holds a colon, which no mount can; use a path without \":\"")]
    Colon {
        /// The path.
        path: String,
    },
    /// It names a directory.
    #[error("{path:?} names a directory; use the path of a file, because one secret is one file")]
    Directory {
        /// The path.
        path: String,
    },
    /// There is none.
    #[error("the path is empty; use the path of a file, such as \"etc/password\"")]
    Empty,
    /// It could lead out of the sandbox.
    #[error("{path:?} leaves the sandbox; use a path without \"..\"")]
    Leaves {
        /// The path.
        path: String,
    },
    /// A component is too long for a file's name.
    #[error("a part between slashes has more than 255 bytes; use shorter names")]
    LongComponent,
    /// It holds a NUL byte.
    #[error("the path holds a NUL byte; use a path without it")]
    Nul,
    /// Watchword or the kernel is there already.
    #[error("{path:?} lies below {reserved:?}, which is not the task's; use another path")]
    Reserved {
        /// The path.
        path: String,
        /// What it lies below.
        reserved: &'static str,
    },
    /// It is longer than the kernel allows.
    #[error("the path has {bytes} bytes; use at most 4095")]
    TooLong {
        /// The length of the path.
        bytes: usize,
    },
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where the agent, its token and its cache are mounted, and where the kernel lets nobody mount.
const RESERVED: [&str; 8] = [
    "/dev",
    "/proc",
    "/run/watchword",
    "/run/watchword-env",
    "/sys",
    "/var/run/watchword",
    "/var/run/watchword-env",
    "/watchword",
];

/// `PATH_MAX` of Linux, less the terminating NUL.
const MAX_PATH_BYTES: usize = 4095;

/// `NAME_MAX` of Linux.
const MAX_COMPONENT_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("my_secret", "/mnt/mesos/sandbox/my_secret", Some("my_secret"))]
    #[case(
        "etc/some/my_secret",
        "/mnt/mesos/sandbox/etc/some/my_secret",
        Some("etc/some/my_secret")
    )]
    #[case("/etc/my_secret", "/etc/my_secret", None)]
    #[case("/mnt/mesos/sandbox/a", "/mnt/mesos/sandbox/a", Some("a"))]
    #[case("/mnt/mesos/sandbox2/a", "/mnt/mesos/sandbox2/a", None)]
    #[case(".//a/./b", "/mnt/mesos/sandbox/a/b", Some("a/b"))]
    #[case("..a/b..", "/mnt/mesos/sandbox/..a/b..", Some("..a/b.."))]
    fn a_path_has_one_spelling(
        #[case] text: &str,
        #[case] absolute: &str,
        #[case] in_sandbox: Option<&str>,
    ) {
        let path = ContainerPath::parse(text).unwrap();

        assert_eq!(path.absolute(), absolute);
        assert_eq!(path.in_sandbox(), in_sandbox);
    }

    #[rstest]
    #[case("", r#"the path is empty; use the path of a file, such as "etc/password""#)]
    #[case("../x", r#""../x" leaves the sandbox; use a path without "..""#)]
    #[case("/a/../etc/passwd", r#""/a/../etc/passwd" leaves the sandbox; use a path without "..""#)]
    #[case(
        "a/",
        r#""a/" names a directory; use the path of a file, because one secret is one file"#
    )]
    #[case(".", r#""." names a directory; use the path of a file, because one secret is one file"#)]
    #[case("/", r#""/" names a directory; use the path of a file, because one secret is one file"#)]
    #[case(
        "/mnt/mesos/sandbox",
        r#""/mnt/mesos/sandbox" names a directory; use the path of a file, because one secret is one file"#
    )]
    #[case("a:b", r#""a:b" holds a colon, which no mount can; use a path without ":""#)]
    #[case("a\0b", "the path holds a NUL byte; use a path without it")]
    #[case(
        "/watchword/agent",
        r#""/watchword/agent" lies below "/watchword", which is not the task's; use another path"#
    )]
    #[case(
        "//proc/self/mem",
        r#""//proc/self/mem" lies below "/proc", which is not the task's; use another path"#
    )]
    fn a_bad_path_says_what_is_wrong_with_it(#[case] text: &str, #[case] message: &str) {
        let error = ContainerPath::parse(text).unwrap_err();

        assert_eq!(error.to_string(), message);
    }

    #[rstest]
    #[case("a", "a", true)]
    #[case("a", "/mnt/mesos/sandbox//a", true)]
    #[case("a", "a/b", true)]
    #[case("a", "ab", false)]
    #[case("a", "/a", false)]
    fn paths_are_in_each_others_way_by_components(
        #[case] one: &str,
        #[case] two: &str,
        #[case] expected: bool,
    ) {
        let one = ContainerPath::parse(one).unwrap();
        let two = ContainerPath::parse(two).unwrap();

        assert_eq!(one.is_in_the_way_of(&two), expected);
        assert_eq!(two.is_in_the_way_of(&one), expected);
    }

    proptest! {
        #[test]
        fn a_parsed_path_is_absolute_and_cannot_climb(text in "[a.:/\0]{0,12}|\\PC{0,30}") {
            if let Ok(path) = ContainerPath::parse(&text) {
                let absolute = path.absolute();
                prop_assert!(absolute.starts_with('/') && !absolute.ends_with('/'));
                prop_assert!(absolute[1..].split('/').all(|one| !matches!(one, "" | "." | "..")));
                prop_assert_eq!(ContainerPath::parse(&absolute).unwrap(), path);
            }
        }

        #[test]
        fn the_nearest_path_cannot_climb_either(text in "[a.:/\0]{0,12}") {
            let absolute = ContainerPath::nearest(&text).absolute();

            prop_assert!(absolute[1..].split('/').all(|one| !matches!(one, "" | "." | "..")));
        }

        #[test]
        fn what_can_be_parsed_is_its_own_nearest(text in "/?[a-z]{1,4}(/[a-z.]{1,4}){0,3}") {
            if let Ok(path) = ContainerPath::parse(&text) {
                prop_assert_eq!(ContainerPath::nearest(&text), path);
            }
        }
    }
}
