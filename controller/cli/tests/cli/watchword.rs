//! Running the binary, apart from whatever the environment of the tests holds.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::fake_store::FakeStore;

/// The token that the program is to show.
pub(crate) const TOKEN: &str = "a-token.of-ann";

/// What a run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

/// A person in front of a store: the files that the flags name, and the flags.
pub(crate) struct Person {
    home: TempDir,
    flags: Vec<String>,
}

impl Person {
    /// Somebody who trusts `store` and has a token for it.
    pub(crate) fn at(store: &FakeStore) -> Self {
        Self::who_trusts(&store.authority, &format!("https://localhost:{}", store.address.port()))
    }

    /// Somebody who knows the store at `address` by `authority`.
    pub(crate) fn who_trusts(authority: &str, address: &str) -> Self {
        let mut person = Self::without_a_store();
        let authority = person.file("ca.crt", authority.as_bytes());
        let token = person.file("token", format!("{TOKEN}\n").as_bytes());
        person.flags = vec![
            "--address".to_owned(),
            address.to_owned(),
            "--ca-file".to_owned(),
            authority.display().to_string(),
            "--token-file".to_owned(),
            token.display().to_string(),
        ];
        person
    }

    /// Somebody with an empty home.
    pub(crate) fn without_a_store() -> Self {
        Self { home: TempDir::new().unwrap(), flags: Vec::new() }
    }

    /// Writes a file and says where.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Where a file of this name would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `watchword` with these words and the flags to the store.
    pub(crate) fn runs(&self, words: &[&str]) -> Said {
        self.pipes(b"", words)
    }

    /// Runs it with something on stdin.
    pub(crate) fn pipes(&self, stdin: &[u8], words: &[&str]) -> Said {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What the program refuses to read to the end is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Said {
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }

    /// The command, not yet run.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchword"));
        command.args(words).args(&self.flags).env_clear().env("HOME", self.home.path());
        command
    }
}
