//! The `gpg` of this machine, which alone knows keys that lie on cards and in agents.
//!
//! It asks for passphrases by itself, in a window or at the terminal. A message goes to its stdin,
//! the plaintext comes from its stdout into memory that is wiped; nothing touches a disk.

use std::{
    io::{self, Read, Write},
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

/// Whether `gpg` has the private key of this fingerprint.
pub(super) fn has_private_key(fingerprint: &str) -> bool {
    // It comes from the store, and is to be an argument.
    let is_plain = fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fingerprint.is_empty() || !is_plain {
        return false;
    }
    Command::new("gpg")
        .args(["--batch", "--quiet", "--list-secret-keys", fingerprint])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Decrypts a message.
///
/// # Errors
///
/// `GpgError` when it cannot be run, or does not; what it says about that stands on stderr already.
pub(super) fn decrypt(message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GpgError> {
    let mut gpg = Command::new("gpg")
        .args(["--quiet", "--decrypt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(GpgError::Run)?;
    if let Some(mut stdin) = gpg.stdin.take() {
        // It may end without having read all; its exit status says more than a broken pipe.
        let _ = stdin.write_all(message);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_PLAINTEXT_BYTES));
    if let Some(stdout) = gpg.stdout.take() {
        stdout.take(MAX_PLAINTEXT_BYTES as u64).read_to_end(&mut text).map_err(GpgError::Run)?;
    }
    match gpg.wait().map_err(GpgError::Run)?.success() {
        true => Ok(text),
        false => Err(GpgError::Failed),
    }
}

/// Why `gpg` did not decrypt.
#[derive(Debug, thiserror::Error)]
pub(super) enum GpgError {
    #[error("it failed")]
    Failed,
    #[error("it cannot be run")]
    Run(#[source] io::Error),
}

/// More than any share has.
const MAX_PLAINTEXT_BYTES: usize = 1024;
