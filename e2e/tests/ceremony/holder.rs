//! A holder of a share: a person with a `gpg` of their own, as on a machine of their own.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use watchword_e2e::Cluster;

pub(crate) struct Holder {
    name: &'static str,
    passphrase: &'static str,
    home: TempDir,
}

impl Holder {
    /// Somebody new, with a key pair of this kind: `default` (RSA) or `future-default` (Curve25519).
    pub(crate) async fn new(
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
    pub(crate) async fn gpg(
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
    pub(crate) async fn shell(
        &self,
        cluster: &Cluster,
        line: &str,
        input: &str,
    ) -> Result<Vec<u8>> {
        let line = format!("set -o pipefail; {line}");
        let output = self.run(cluster, "bash", &["-euc", &line], input.as_bytes()).await?;
        succeeded(output).context(line)
    }

    /// Runs `watchword` where this person's `gpg` is the one at hand.
    pub(crate) async fn watchword(&self, cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
        self.watchword_with(cluster, arguments, b"").await
    }

    /// The same, with something on standard input.
    pub(crate) async fn watchword_with(
        &self,
        cluster: &Cluster,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        self.run(cluster, Cluster::cli()?, arguments, input).await
    }

    /// The public key, armoured, in a file.
    pub(crate) async fn public_key(&self, cluster: &Cluster) -> Result<String> {
        let key = self.gpg(cluster, &["--armor", "--export", self.name], b"").await?;
        self.file("public.asc", &key)
    }

    /// The private key, armoured and with its passphrase, in a file.
    pub(crate) async fn private_key(&self, cluster: &Cluster) -> Result<String> {
        let key = self.gpg(cluster, &["--armor", "--export-secret-keys", self.name], b"").await?;
        self.file("private.asc", &key)
    }

    /// The private key's passphrase in a file.
    pub(crate) fn passphrase_file(&self) -> Result<String> {
        self.file("passphrase", format!("{}\n", self.passphrase).as_bytes())
    }

    /// The fingerprint of the primary key, as the store writes it.
    pub(crate) async fn fingerprint(&self, cluster: &Cluster) -> Result<String> {
        let listed = self.gpg(cluster, &["--with-colons", "--fingerprint", self.name], b"").await?;
        let listed = String::from_utf8(listed)?;
        let line =
            listed.lines().find(|line| line.starts_with("fpr:")).context("no fingerprint")?;
        Ok(line.trim_matches(|c| c == ':' || "fpr".contains(c)).to_lowercase())
    }

    /// Writes a file of this person's, and says where.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> Result<String> {
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
pub(crate) fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().ok().context("a path that is no text")
}

/// The standard output of a program that succeeded.
pub(crate) fn succeeded(output: Output) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } = output;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok(stdout)
}
