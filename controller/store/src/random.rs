//! Randomness: the operating system's generator, and nothing else.

use aes_gcm::aead::Generate;
use zeroize::Zeroizing;

/// 32 random bytes for a key.
pub(crate) fn key() -> Result<Zeroizing<[u8; 32]>, RandomError> {
    <[u8; 32]>::try_generate().map(Zeroizing::new).map_err(|_| RandomError)
}

/// Random bytes that are no secret.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    <[u8; N]>::try_generate().map_err(|_| RandomError)
}

/// The operating system has no randomness to give.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the operating system's random number generator fails")]
pub struct RandomError;
