//! A holder of a share: a person with a `gpg` of their own, as on a machine of their own.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::cluster::Cluster;

/// Somebody who holds a share.
pub struct Holder {
    name: &'static str,
    passphrase: &'static str,
    home: TempDir,
}

impl Holder {
    /// Somebody new, with a key pair of this kind: `default` (RSA) or `future-default` (Curve25519).
    ///
    /// # Errors
    ///
    /// `gpg` cannot be run, or refuses.
    pub async fn new(
        cluster: &Cluster,
        name: &'static str,
        kind: &str,
        passphrase: &'static str,
    ) -> Result<Self> {
        let holder = Self { name, passphrase, home: TempDir::new()? };
        holder.gpg(cluster, &["--quick-generate-key", name, kind, "default", "never"], b"").await?;
        Ok(holder)
    }

    /// Runs `gpg`, which must succeed, and returns what it prints.
    ///
    /// # Errors
    ///
    /// It cannot be run, or fails.
    pub async fn gpg(
        &self,
        cluster: &Cluster,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let quiet = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"];
        let passphrase = ["--passphrase", self.passphrase];
        let all = [&quiet[..], &passphrase, arguments].concat();
        let output = self.run(cluster, "gpg", &all, input).await?;
        succeeded(output).with_context(|| format!("gpg {}", arguments.join(" ")))
    }

    /// Runs a line of shell, which must succeed, and returns what it prints.
    ///
    /// # Errors
    ///
    /// It fails.
    pub async fn shell(&self, cluster: &Cluster, line: &str, input: &str) -> Result<Vec<u8>> {
        let line = format!("set -o pipefail; {line}");
        let output = self.run(cluster, "bash", &["-euc", &line], input.as_bytes()).await?;
        succeeded(output).context(line)
    }

    /// Runs `watchword` where this person's `gpg` is the one at hand.
    ///
    /// # Errors
    ///
    /// It cannot be run; its exit code is the caller's to judge.
    pub async fn watchword(&self, cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
        self.watchword_with(cluster, arguments, b"").await
    }

    /// The same, with something on standard input.
    ///
    /// # Errors
    ///
    /// As for [`Holder::watchword`].
    pub async fn watchword_with(
        &self,
        cluster: &Cluster,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        self.run(cluster, Cluster::cli()?, arguments, input).await
    }

    /// The public key, armoured, in a file.
    ///
    /// # Errors
    ///
    /// `gpg` fails.
    pub async fn public_key(&self, cluster: &Cluster) -> Result<String> {
        let key = self.gpg(cluster, &["--armor", "--export", self.name], b"").await?;
        self.file("public.asc", &key)
    }

    /// The private key, armoured and with its passphrase, in a file.
    ///
    /// # Errors
    ///
    /// `gpg` fails.
    pub async fn private_key(&self, cluster: &Cluster) -> Result<String> {
        let key = self.gpg(cluster, &["--armor", "--export-secret-keys", self.name], b"").await?;
        self.file("private.asc", &key)
    }

    /// The private key's passphrase in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn passphrase_file(&self) -> Result<String> {
        self.file("passphrase", format!("{}\n", self.passphrase).as_bytes())
    }

    /// The fingerprint of the primary key, as the store writes it.
    ///
    /// # Errors
    ///
    /// `gpg` fails.
    pub async fn fingerprint(&self, cluster: &Cluster) -> Result<String> {
        let listed = self.gpg(cluster, &["--with-colons", "--fingerprint", self.name], b"").await?;
        let listed = String::from_utf8(listed)?;
        let line =
            listed.lines().find(|line| line.starts_with("fpr:")).context("no fingerprint")?;
        Ok(line.trim_matches(|c| c == ':' || "fpr".contains(c)).to_lowercase())
    }

    /// What an OpenPGP message holds that was encrypted to this person, in hexadecimal digits as the
    /// store gives it: decrypted by `gpg`.
    ///
    /// # Errors
    ///
    /// It was encrypted to somebody else, or is none.
    pub async fn decrypt(&self, cluster: &Cluster, hex: &str) -> Result<String> {
        let digits =
            |at: usize| hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let message: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digits).collect();
        let message = message.context("no hexadecimal digits")?;
        Ok(String::from_utf8(self.gpg(cluster, &["--decrypt"], &message).await?)?)
    }

    /// Writes a file of this person's, and says where.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<String> {
        let path = self.home.path().join(name);
        std::fs::write(&path, content)?;
        text(path)
    }

    async fn run(
        &self,
        cluster: &Cluster,
        program: impl AsRef<OsStr>,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        let mut child = cluster
            .command(program)
            .args(arguments)
            .env("GNUPGHOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without having read all; its exit code says more than a broken pipe.
            stdin.write_all(input).await.ok();
        }
        Ok(child.wait_with_output().await?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The agent that `gpg` started would stay.
        Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.home.path())
            .stdin(Stdio::null())
            .status()
            .ok();
    }
}

/// A path as an argument.
///
/// # Errors
///
/// It is no text.
pub fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().ok().context("a path that is no text")
}

/// The standard output of a program that succeeded.
///
/// # Errors
///
/// It did not; the error has what it said.
pub fn succeeded(output: Output) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } = output;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok(stdout)
}
