//! How one replica hands the root key to another, so that nobody but those two can read it, not
//! even who would record the connection and come by the server's key later.
//!
//! ```text
//! replica without the key                         replica with the key
//!   makes a pair of X25519          ──public──►   makes a pair of X25519
//!                                                 secret  = X25519(own private, other's public)
//!   the same secret, the same key   ◄─public──    key     = HKDF-SHA256(secret, both publics, pod)
//!   opens                           ◄─sealed──    seals the root key with AES-256-GCM
//! ```
//!
//! Both pairs are made for one exchange and dropped with it, so an answer that is played back opens
//! with no other request. Who asks and who answers is not proved here: the caller of this module has
//! authenticated the pod, TLS has authenticated the service, and the pod's uid is part of the key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What a replica without the key asks with.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Its public key for this exchange, base64.
    public_key: String,
}

/// What a replica with the key answers.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    /// Its public key for this exchange, base64.
    public_key: String,
    /// The sealed secret, base64.
    sealed: String,
}

/// An exchange that has been begun; good for one answer.
pub(super) struct Exchange {
    private_key: EphemeralPrivateKey,
    public_key: Vec<u8>,
}

impl Exchange {
    /// Makes a pair.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub(super) fn begin() -> Result<Self, HandoverError> {
        let private_key = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
        let public_key = private_key.compute_public_key()?.as_ref().to_vec();
        Ok(Self { private_key, public_key })
    }

    /// What to ask with.
    pub(super) fn asked(&self) -> Asked {
        Asked { public_key: BASE64_STANDARD.encode(&self.public_key) }
    }

    /// Opens the answer to what `pod` (a uid: one's own) has asked.
    ///
    /// # Errors
    ///
    /// The answer is not to this question.
    pub(super) fn open(
        self,
        given: &Given,
        pod: &str,
    ) -> Result<Zeroizing<Vec<u8>>, HandoverError> {
        let theirs = public_key(&given.public_key)?;
        let mut sealed = Zeroizing::new(decode(&given.sealed, MAX_SEALED_BYTES)?);
        let info = info(&self.public_key, &theirs, pod);
        let key = shared_key(self.private_key, &theirs, &info)?;
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(NONCE), Aad::from(&info), &mut sealed)?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

/// Seals `secret` for `pod` (a uid), which has asked for it.
///
/// # Errors
///
/// It asked with something that is no public key, or there is no randomness.
pub(super) fn give(asked: &Asked, pod: &str, secret: &[u8]) -> Result<Given, HandoverError> {
    let theirs = public_key(&asked.public_key)?;
    let Exchange { private_key, public_key } = Exchange::begin()?;
    let info = info(&theirs, &public_key, pod);
    let key = shared_key(private_key, &theirs, &info)?;
    // The tag fits: a vector that grows would leave the plaintext behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(secret);
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(NONCE),
        Aad::from(&info),
        &mut *sealed,
    )?;
    Ok(Given {
        public_key: BASE64_STANDARD.encode(&public_key),
        sealed: BASE64_STANDARD.encode(&*sealed),
    })
}

/// Why a hand-over did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("the hand-over failed: the other side does not speak of the same exchange")]
    Crypto,
    #[error("the hand-over is not in its form")]
    Malformed,
}

impl From<Unspecified> for HandoverError {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}

/// The key of an exchange. X25519 refuses points of small order, whose secret anyone would know.
fn shared_key(
    own: EphemeralPrivateKey,
    theirs: &[u8],
    info: &[u8],
) -> Result<LessSafeKey, HandoverError> {
    agree_ephemeral(own, UnparsedPublicKey::new(&X25519, theirs), HandoverError::Crypto, |secret| {
        let prk = Salt::new(HKDF_SHA256, PROTOCOL).extract(secret);
        let info = [info];
        let okm = prk.expand(&info, &AES_256_GCM)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    })
}

/// What both sides must agree on: who asks with what, and who answers with what.
fn info(asking: &[u8], answering: &[u8], pod: &str) -> Vec<u8> {
    [asking, answering, pod.as_bytes()].concat()
}

fn public_key(text: &str) -> Result<Vec<u8>, HandoverError> {
    let bytes = decode(text, PUBLIC_KEY_BYTES)?;
    if bytes.len() == PUBLIC_KEY_BYTES { Ok(bytes) } else { Err(HandoverError::Malformed) }
}

fn decode(text: &str, limit: usize) -> Result<Vec<u8>, HandoverError> {
    if text.len() > limit.div_ceil(3) * 4 {
        return Err(HandoverError::Malformed);
    }
    BASE64_STANDARD.decode(text).map_err(|_| HandoverError::Malformed)
}

/// Each key seals one message, so the nonce may be the same for all.
const NONCE: [u8; 12] = [0; 12];

const PROTOCOL: &[u8] = b"watchword peer hand-over 1";

const PUBLIC_KEY_BYTES: usize = 32;

/// A root key's text and the tag, with room.
const MAX_SEALED_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POD: &str = "4b5c7f5e-5d6f-4f0e-9f3e-3f1d1c0b9a87";

    #[test]
    fn an_answer_opens_for_its_question_only() {
        let (one, other) = (Exchange::begin().unwrap(), Exchange::begin().unwrap());

        let given = give(&one.asked(), POD, b"a root key").unwrap();

        assert!(other.open(&given, POD).is_err());
        assert_eq!(*one.open(&given, POD).unwrap(), b"a root key");
    }

    #[test]
    fn what_was_sealed_for_a_pod_does_not_open_as_another() {
        let exchange = Exchange::begin().unwrap();

        let given = give(&exchange.asked(), POD, b"a root key").unwrap();

        assert!(exchange.open(&given, "another").is_err());
    }

    #[test]
    fn two_answers_to_one_question_differ_in_everything() {
        let exchange = Exchange::begin().unwrap();

        let [one, two] = [(); 2].map(|()| give(&exchange.asked(), POD, b"a root key").unwrap());

        assert_ne!(one.public_key, two.public_key);
        assert_ne!(one.sealed, two.sealed);
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        for byte in [0, 1] {
            let mut key = [0; PUBLIC_KEY_BYTES];
            key[0] = byte;
            let asked = Asked { public_key: BASE64_STANDARD.encode(key) };

            assert!(give(&asked, POD, b"a root key").is_err());
        }
    }

    proptest! {
        #[test]
        fn no_changed_answer_opens(index in 0_usize..26, flip in 1_u8..=255) {
            let exchange = Exchange::begin().unwrap();
            let mut given = give(&exchange.asked(), POD, b"a root key").unwrap();
            let mut bytes = BASE64_STANDARD.decode(&given.sealed).unwrap();
            bytes[index] ^= flip;
            given.sealed = BASE64_STANDARD.encode(bytes);

            prop_assert!(exchange.open(&given, POD).is_err());
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(public_key in ".{0,64}", sealed in ".{0,400}") {
            let given = Given { public_key, sealed };

            prop_assert!(Exchange::begin().unwrap().open(&given, POD).is_err());
        }
    }
}
