//! Data keys: one for each record, used for that record alone.
//!
//! A record has two parts under one key, the metadata and the value, so that a list can open the
//! metadata without decrypting a megabyte of value. GCM is lost when one key meets one nonce twice
//! with different messages. Here that cannot happen: a key is made at random for one record
//! ([`DataKey::generate`]), sealing consumes it ([`DataKey::seal`] takes `self`), each part has a
//! fixed nonce of its own, and nothing is ever sealed again under a key that was opened
//! ([`OpenedKey`] can only open). A changed value is a new record with a new key, and moving a
//! record to another term wraps the same key anew without touching either ciphertext.

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm};
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// A data key that has not sealed anything yet.
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self, RandomError> {
        random::key().map(Self)
    }

    /// A known key, for known answers.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to be wrapped.
    pub(crate) fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts both parts in place and appends nothing: the tags come back.
    ///
    /// # Errors
    ///
    /// [`SealPartError`] when a part is longer than GCM allows (64 GiB).
    pub(crate) fn seal(
        self,
        header: &[u8],
        metadata: &mut [u8],
        value: &mut [u8],
    ) -> Result<[[u8; TAG_BYTES]; 2], SealPartError> {
        let cipher = Aes256Gcm::new((&*self.0).into());
        let seal = |part: Part, buffer: &mut [u8]| {
            cipher
                .encrypt_inout_detached(&part.nonce().into(), &part.aad(header), buffer.into())
                .map(Into::into)
                .map_err(|_| SealPartError)
        };
        Ok([seal(Part::Metadata, metadata)?, seal(Part::Value, value)?])
    }
}

/// A data key that was unwrapped: it opens parts, and cannot seal.
pub(crate) struct OpenedKey(Zeroizing<[u8; 32]>);

impl OpenedKey {
    /// Takes over the bytes that were unwrapped.
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes, to be wrapped under another term. Nothing is sealed with them again.
    pub(crate) fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// Opens one part; `None` if one bit of part, tag or header differs from what was sealed.
    pub(crate) fn open(
        &self,
        part: Part,
        header: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(sealed.to_vec());
        Aes256Gcm::new((&*self.0).into())
            .decrypt_in_place(&part.nonce().into(), &part.aad(header), &mut *buffer)
            .ok()?;
        Some(buffer)
    }
}

/// The two things that a data key encrypts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Metadata,
    Value,
}

impl Part {
    /// Eleven bytes of zero and the number of the part.
    fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[11] = self.number();
        nonce
    }

    /// The record's header and the number of the part.
    fn aad(self, header: &[u8]) -> Vec<u8> {
        let mut aad = Vec::with_capacity(header.len() + 1);
        aad.extend_from_slice(header);
        aad.push(self.number());
        aad
    }

    fn number(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::Value => 2,
        }
    }
}

/// A part is longer than GCM allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more bytes than AES-GCM encrypts under one key")]
pub(crate) struct SealPartError;

/// The length of a GCM tag.
pub(crate) const TAG_BYTES: usize = 16;
