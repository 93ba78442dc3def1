//! OpenPGP private keys: a new pair for whoever has none, and decryption of shares.

use std::io::Read;

use pgp::composed::{
    ArmorOptions, DecryptionOptions, Deserializable, EncryptionCaps, Esk, KeyType, Message,
    PlainSessionKey, SecretKeyParamsBuilder, SignedSecretKey, TheRing,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::PublicKeyEncryptedSessionKey;
use pgp::ser::Serialize;
use pgp::types::{DecryptionKey, EskType, Password, PkeskVersion, Timestamp};
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::{KeyError, KeyProblem, MAX_KEY_BYTES, PublicKey, dearmor, packets};
use crate::random::{self, RandomError};

/// An OpenPGP private key; what is secret of it is wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(key: &watchword_store::openpgp::PrivateKey) -> String { format!("{key:?}") }
/// ```
/// and no `Clone`:
/// ```compile_fail
/// fn copy(key: &watchword_store::openpgp::PrivateKey) -> watchword_store::openpgp::PrivateKey {
///     key.clone()
/// }
/// ```
pub struct PrivateKey(Box<SignedSecretKey>);

impl PrivateKey {
    /// A new pair of RSA with 4096 bits, without a passphrase, made at `created` (seconds since 1970
    /// UTC). One key certifies itself and is encrypted to; it signs nothing else. It takes seconds.
    ///
    /// # Errors
    ///
    /// [`GenerateError`].
    pub fn generate(user_id: &str, created: i64) -> Result<Self, GenerateError> {
        // The generator below cannot fail without stopping the process.
        random::bytes::<1>()?;
        let created = u32::try_from(created).map_err(|_| GenerateError::Time)?;
        let parameters = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Rsa(4096))
            .can_certify(true)
            .can_encrypt(EncryptionCaps::All)
            .created_at(Timestamp::from_secs(created))
            .feature_seipd_v1(true)
            .primary_user_id(user_id.to_owned())
            .preferred_symmetric_algorithms([SymmetricKeyAlgorithm::AES256].as_slice().into())
            .preferred_hash_algorithms([HashAlgorithm::Sha256].as_slice().into())
            .build()
            .map_err(|error| GenerateError::Library(error.to_string()))?;
        let key = parameters
            .generate(OsRng)
            .map_err(|error| GenerateError::Library(error.to_string()))?;
        Ok(Self(Box::new(key)))
    }

    /// Reads a private key, binary or in ASCII armour, as `gpg --export-secret-keys` writes it.
    ///
    /// # Errors
    ///
    /// [`ParsePrivateKeyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParsePrivateKeyError> {
        if bytes.len() > 2 * MAX_KEY_BYTES {
            return Err(KeyProblem::TooLong { bytes: bytes.len() }.into());
        }
        let text = bytes.trim_ascii_start();
        let bytes = if text.starts_with(b"-----BEGIN PGP") {
            Zeroizing::new(dearmor(text).map_err(|error| {
                ParsePrivateKeyError::Key(KeyProblem::Malformed(error.to_string()))
            })?)
        } else {
            Zeroizing::new(bytes.to_vec())
        };
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyProblem::TooLong { bytes: bytes.len() }.into());
        }
        let packets = packets(&bytes)?;
        let mut keys = SignedSecretKey::from_packets(packets.into_iter().map(Ok).peekable());
        let key = keys.next().ok_or(ParsePrivateKeyError::Public)?;
        let key = key.map_err(|error| KeyProblem::Malformed(error.to_string()))?;
        match keys.next() {
            None => Ok(Self(Box::new(key))),
            Some(_) => Err(KeyProblem::Several.into()),
        }
    }

    /// The public half, fit to be encrypted to at `now` (seconds since 1970 UTC).
    ///
    /// # Errors
    ///
    /// [`KeyError`] when it is not: expired, for example.
    pub fn public(&self, now: i64) -> Result<PublicKey, KeyError> {
        let key = self.0.to_public_key();
        PublicKey::from_bytes(key.to_bytes().map_err(|error| super::malformed(&error))?, now)
    }

    /// The private key in ASCII armour, as `gpg --import` reads it.
    ///
    /// # Errors
    ///
    /// None for a key that was parsed or made here.
    pub fn to_armor(&self) -> Result<Zeroizing<String>, GenerateError> {
        self.0
            .to_armored_string(ArmorOptions::default())
            .map(Zeroizing::new)
            .map_err(|error| GenerateError::Library(error.to_string()))
    }

    /// Whether the parts that can decrypt are locked by a passphrase.
    pub fn needs_passphrase(&self) -> bool {
        let subkeys = &self.0.secret_subkeys;
        if subkeys.is_empty() {
            return self.0.primary_key.secret_params().is_encrypted();
        }
        subkeys.iter().any(|subkey| subkey.key.secret_params().is_encrypted())
    }

    /// Decrypts a binary message of at most 64 KiB that was encrypted to this key.
    ///
    /// # Errors
    ///
    /// [`DecryptError`]; nothing of a message that was changed comes out.
    pub fn decrypt(
        &self,
        message: &[u8],
        passphrase: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(DecryptError::TooLong);
        }
        let malformed = |error: pgp::errors::Error| DecryptError::Malformed(error.to_string());
        let encrypted = Message::from_bytes(message).map_err(malformed)?;
        let Message::Encrypted { esk, .. } = &encrypted else {
            return Err(DecryptError::NotEncrypted);
        };
        let session_key = self.session_key(esk, passphrase)?;
        // GnuPG's own AEAD, which newer releases use where a key says that it may be.
        let ring = TheRing {
            session_keys: vec![session_key],
            decrypt_options: DecryptionOptions::new().enable_gnupg_aead(),
            ..TheRing::default()
        };
        // The detection code is checked before anything is read.
        let (mut opened, _) =
            encrypted.decrypt_the_ring(ring, true).map_err(|_| DecryptError::Changed)?;
        if opened.is_compressed() {
            opened = opened.decompress().map_err(malformed)?;
        }
        let mut plaintext = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE_BYTES + 1));
        opened
            .take(MAX_MESSAGE_BYTES as u64 + 1)
            .read_to_end(&mut plaintext)
            .map_err(|error| DecryptError::Malformed(error.to_string()))?;
        if plaintext.len() > MAX_MESSAGE_BYTES {
            return Err(DecryptError::TooLong);
        }
        Ok(plaintext)
    }

    /// The session key, from the first of the message's recipients that is a part of this key.
    fn session_key(
        &self,
        recipients: &[Esk],
        passphrase: Option<&str>,
    ) -> Result<PlainSessionKey, DecryptError> {
        let passphrase = passphrase.map_or_else(Password::empty, Password::from);
        let mut problem = DecryptError::NotForKey;
        for recipient in recipients {
            let Esk::PublicKeyEncryptedSessionKey(recipient) = recipient else { continue };
            let primary = &self.0.primary_key;
            let mut tried = Vec::new();
            if recipient.match_identity(primary.public_key()) {
                let locked = primary.secret_params().is_encrypted();
                tried.push(try_key(primary, locked, recipient, &passphrase));
            }
            for subkey in &self.0.secret_subkeys {
                if recipient.match_identity(subkey.key.public_key()) {
                    let locked = subkey.key.secret_params().is_encrypted();
                    tried.push(try_key(&subkey.key, locked, recipient, &passphrase));
                }
            }
            for result in tried {
                match result {
                    Ok(session_key) => return Ok(session_key),
                    Err(found) => problem = found,
                }
            }
        }
        Err(problem)
    }
}

fn try_key(
    key: &impl DecryptionKey,
    locked: bool,
    recipient: &PublicKeyEncryptedSessionKey,
    passphrase: &Password,
) -> Result<PlainSessionKey, DecryptError> {
    let values = recipient.values().map_err(|error| DecryptError::Malformed(error.to_string()))?;
    let kind = match recipient.version() {
        PkeskVersion::V3 => EskType::V3_4,
        _ => EskType::V6,
    };
    match key.decrypt(passphrase, values, kind) {
        Err(_) if locked => Err(DecryptError::Passphrase),
        Err(error) => Err(DecryptError::Malformed(error.to_string())),
        Ok(opened) => opened.map_err(|_| DecryptError::Changed),
    }
}

/// Why a private key could not be made or written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// The OpenPGP library refuses.
    #[error("cannot make an OpenPGP key: {0}")]
    Library(String),
    /// The operating system has no randomness to give.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A time that OpenPGP cannot write: before 1970, or after 2106.
    #[error("the clock says a year that OpenPGP cannot write")]
    Time,
}

/// Why bytes are not a private key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePrivateKeyError {
    /// They are malformed, too many, or several keys.
    #[error("cannot read the OpenPGP key: {0}")]
    Key(#[from] KeyProblem),
    /// There is no private key among them.
    #[error("there is no OpenPGP private key in it; `gpg --export-secret-keys KEY` writes one")]
    Public,
}

/// Why a message could not be decrypted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecryptError {
    /// It was encrypted to this key, and changed afterwards.
    #[error("the message was changed, or was encrypted wrongly")]
    Changed,
    /// Not a message.
    #[error("cannot read the OpenPGP message: {0}")]
    Malformed(String),
    /// A message, but a plain one.
    #[error("the OpenPGP message is not encrypted")]
    NotEncrypted,
    /// The key is another one.
    #[error(
        "the message was not encrypted to this key; give the private key of another fingerprint"
    )]
    NotForKey,
    /// The key is locked, and the passphrase does not open it.
    #[error("the passphrase does not unlock the private key")]
    Passphrase,
    /// More than 64 KiB, before or after decryption.
    #[error("the OpenPGP message is longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
}

/// A message with a share has some 700 bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
