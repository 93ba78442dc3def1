//! The keys: one pair for the whole store, Ed25519. Its private half lives in the store's keyring,
//! as a seed; the public half is all that verifying needs.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The key that signs checkpoints. It has no `Debug`; it is wiped when it is dropped.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key that this seed stands for.
    ///
    /// # Errors
    ///
    /// The library for cryptography refuses it, which it does for no seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SigningKeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| SigningKeyError)
    }

    /// The half to verify with.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs the beginning of a line, in base64.
    pub(crate) fn sign(&self, body: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&message(body)))
    }
}

/// The seed was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the seed of the audit log's key was refused")]
pub struct SigningKeyError;

/// The key that verifies checkpoints; written as base64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublicKey([u8; PUBLIC_KEY_BYTES]);

impl PublicKey {
    /// Whether `signature`, in base64, is this key's under the beginning of a line.
    pub(crate) fn verifies(&self, body: &[u8], signature: &[u8]) -> bool {
        STANDARD.decode(signature).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, &self.0).verify(&message(body), &signature).is_ok()
        })
    }
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, ParsePublicKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| ParsePublicKeyError::Base64)?;
        let count = bytes.len();
        bytes.try_into().map(Self).map_err(|_| ParsePublicKeyError::Length { bytes: count })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// Why a text is not a public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePublicKeyError {
    /// It is not base64.
    #[error("a public key is the base64 of {PUBLIC_KEY_BYTES} bytes")]
    Base64,
    /// It is too long or too short.
    #[error("a public key has {PUBLIC_KEY_BYTES} bytes, this one has {bytes}")]
    Length {
        /// How many it has.
        bytes: usize,
    },
}

/// What is signed: nothing else that this key may ever sign begins so.
fn message(body: &[u8]) -> Vec<u8> {
    [b"watchword audit line\0", body].concat()
}

const PUBLIC_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_survives_being_written_and_read() {
        let public = SigningKey::from_seed(&[7; 32]).unwrap().public();

        assert_eq!(format!(" {public}\n").parse(), Ok(public));
        assert_eq!("AAAA".parse::<PublicKey>(), Err(ParsePublicKeyError::Length { bytes: 3 }));
        assert_eq!("?".parse::<PublicKey>(), Err(ParsePublicKeyError::Base64));
    }

    #[test]
    fn the_first_vector_of_rfc_8032_is_met() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];

        let public = SigningKey::from_seed(&seed).unwrap().public();

        assert_eq!(public.to_string(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    }
}
