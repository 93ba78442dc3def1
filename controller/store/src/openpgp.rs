//! OpenPGP: each share of the root key is encrypted to somebody's key, and decrypted on their machine.
//!
//! What is written is what GnuPG 2.2 reads, and DC/OS and Vault wrote: a binary message of a session
//! key encrypted to one RSA or ECDH key, and a literal packet under AES-256 with a modification
//! detection code (SEIPD version 1; not AEAD, which 2.2 does not know). The plaintext of a share is
//! its lower-case hex.
//!
//! A public key is judged before anything is encrypted to it: [`PublicKey::parse`] chooses the part
//! that encrypts by verified signatures (see the module `choice`), and refuses a key that has none. Input is
//! bounded: 64 KiB and 256 packets for a key, 64 KiB for a message.
//!
//! Below lies the crate `pgp`. Plaintext is handed to it in one piece only, which it encrypts in place;
//! private keys that it parses, and what it decrypts, pass through buffers that it does not wipe. Its
//! RSA is not constant in time (RUSTSEC-2023-0071), so private keys must be used where nobody can
//! measure many decryptions: on the machine of their owner, or once per unsealing.
//!
//! Reading and judging a key takes some milliseconds, a hostile one of 64 KiB some seconds: servers
//! do it on a thread that may block, as they make pairs.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{Packet, PacketParser, PacketTrait, PublicKeyEncryptedSessionKey};
use pgp::types::{EncryptionKey, KeyDetails};
use rand_core::OsRng;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};
use crate::root_key::RootKey;
use crate::seal::{Custody, SealConfig};

mod choice;
mod private_key;

use choice::Recipient;
pub use private_key::{DecryptError, GenerateError, ParsePrivateKeyError, PrivateKey};

/// Splits the root key and encrypts each share to the key of whoever shall hold it, in the order of
/// the keys: what people have to know, and the store keeps. Nobody but them ever sees a share.
///
/// # Errors
///
/// [`EntrustError`]; nothing was handed out then.
pub fn entrust(
    root_key: &RootKey,
    config: SealConfig,
    keys: &[PublicKey],
) -> Result<Custody, EntrustError> {
    if keys.len() != usize::from(config.shares()) {
        return Err(EntrustError::Count { keys: keys.len(), shares: config.shares() });
    }
    let mut custody = Custody::in_the_clear(config);
    for (share, key) in root_key.split(config)?.iter().zip(keys) {
        let message = key.encrypt(share.to_hex().as_bytes())?;
        custody.keys.push(message.iter().map(|byte| format!("{byte:02x}")).collect());
        custody.pgp_fingerprints.push(key.fingerprint());
    }
    Ok(custody)
}

/// An OpenPGP public key to which something can be encrypted.
#[derive(Clone, Debug)]
pub struct PublicKey {
    bytes: Vec<u8>,
    key: SignedPublicKey,
    recipient: Recipient,
}

impl PublicKey {
    /// Reads a key as people give it: base64 of a binary key, as Vault wants it, or ASCII armour. It
    /// must be fit to be encrypted to at `now` (seconds since 1970 UTC).
    ///
    /// # Errors
    ///
    /// [`KeyError`], with Vault's texts.
    pub fn parse(text: &str, now: i64) -> Result<Self, KeyError> {
        if text.len() > 2 * MAX_KEY_BYTES {
            return Err(KeyProblem::TooLong { bytes: text.len() }.into());
        }
        Self::from_bytes(decode(text).map_err(KeyError::Decode)?, now)
    }

    /// Reads a binary key.
    pub(crate) fn from_bytes(bytes: Vec<u8>, now: i64) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyProblem::TooLong { bytes: bytes.len() }.into());
        }
        let packets = packets(&bytes)?;
        if packets.iter().any(|p| matches!(p, Packet::SecretKey(_) | Packet::SecretSubkey(_))) {
            return Err(KeyProblem::Private.into());
        }
        let mut keys = SignedPublicKey::from_packets(packets.into_iter().map(Ok).peekable());
        let key = keys.next().ok_or(KeyProblem::Empty)?.map_err(|error| malformed(&error))?;
        if keys.next().is_some() {
            return Err(KeyProblem::Several.into());
        }
        drop(keys);
        let recipient = choice::choose(&key, now)?;
        Ok(Self { bytes, key, recipient })
    }

    /// The fingerprint of the whole key, in lower-case hex.
    pub fn fingerprint(&self) -> String {
        format!("{:x}", self.key.primary_key.fingerprint())
    }

    /// Base64 of the binary key.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// Encrypts a few bytes into a binary message.
    ///
    /// # Errors
    ///
    /// [`EncryptError`].
    pub fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let length =
            u16::try_from(plaintext.len()).map_err(|_| EncryptError::TooLong(plaintext.len()))?;
        // The generator below cannot fail without stopping the process.
        random::bytes::<1>()?;
        match self.recipient {
            Recipient::Primary => encrypt_to(&self.key.primary_key, plaintext, length),
            Recipient::Subkey(index) => match self.key.public_subkeys.get(index) {
                Some(subkey) => encrypt_to(&subkey.key, plaintext, length),
                None => Err(EncryptError::Library("the chosen subkey is not there".to_owned())),
            },
        }
    }
}

/// Everything about a public key that keeps a share from being encrypted to it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The text is neither base64 nor armour.
    #[error("Error decoding given PGP key: {0}")]
    Decode(String),
    /// The bytes are not a key, or not one that can be used.
    #[error("Error parsing given PGP key: {0}")]
    Parse(#[from] KeyProblem),
}

/// What is wrong with an OpenPGP key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyProblem {
    /// There are packets, but no public key among them.
    #[error("there is no OpenPGP public key in it; `gpg --export KEY` writes one")]
    Empty,
    /// The key, or all parts of it that encrypt, have expired.
    #[error("the key has expired; prolong it and export it again")]
    Expired,
    /// Made after now.
    #[error("the key was made in the future: compare the clocks")]
    Future,
    /// No packets, or broken ones.
    #[error("it is no OpenPGP key, or a damaged one: {0}")]
    Malformed(String),
    /// No part of the key says that it encrypts, by an algorithm that is known here.
    #[error("no part of the key is for encryption with RSA (2048 bits and more) or ECDH")]
    NotForEncryption,
    /// It should not have left its owner's machine.
    #[error("this is a private key; give the public one, which `gpg --export KEY` writes")]
    Private,
    /// The key, or all parts of it that encrypt, were revoked.
    #[error("the key was revoked")]
    Revoked,
    /// More than one key.
    #[error("there are several keys in it; export them one by one")]
    Several,
    /// More than any key needs.
    #[error(
        "{bytes} bytes are too many for a key; leave out other people's signatures: `gpg --export --export-options export-minimal KEY`"
    )]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// More than any key needs.
    #[error(
        "more than {MAX_PACKETS} packets are too many for a key; leave out other people's signatures: `gpg --export --export-options export-minimal KEY`"
    )]
    TooManyPackets,
    /// No signature of the key over itself holds.
    #[error("the key has no valid signature of its own over its user id or itself")]
    Unsigned,
    /// No signature of the key over its part for encryption holds, or the part does not confirm it.
    #[error("the key has no valid signature of its own over the part that encrypts")]
    Unbound,
    /// Version 2, 3 or 6.
    #[error("only keys of version 4 are supported")]
    Version,
}

/// Why something could not be encrypted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncryptError {
    /// The OpenPGP library refuses: a curve that it does not know, for example.
    #[error("cannot encrypt to the OpenPGP key: {0}")]
    Library(String),
    /// The operating system has no randomness to give.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// More than 64 KiB.
    #[error("{0} bytes are too many to encrypt to an OpenPGP key")]
    TooLong(usize),
}

/// Why a root key could not be entrusted to people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntrustError {
    /// Not one key for each share.
    #[error("there are {shares} shares and {keys} OpenPGP keys")]
    Count {
        /// How many keys.
        keys: usize,
        /// How many shares.
        shares: u8,
    },
    /// A share could not be encrypted.
    #[error("cannot encrypt a share")]
    Encrypt(#[from] EncryptError),
    /// The key could not be split.
    #[error("cannot split the root key")]
    Random(#[from] RandomError),
}

/// The message in three packets, two of them inside each other.
fn encrypt_to(
    key: &impl EncryptionKey,
    plaintext: &[u8],
    length: u16,
) -> Result<Vec<u8>, EncryptError> {
    let failed = |error: pgp::errors::Error| EncryptError::Library(error.to_string());
    let algorithm = SymmetricKeyAlgorithm::AES256;
    let session_key = algorithm.new_session_key(OsRng);
    let recipient =
        PublicKeyEncryptedSessionKey::from_session_key_v3(OsRng, &session_key, algorithm, key)
            .map_err(failed)?;

    // A literal packet: binary, no file name, no date.
    let mut literal = Zeroizing::new(Vec::with_capacity(plaintext.len() + 12));
    literal.extend_from_slice(&packet_header(LITERAL, u32::from(length) + 6));
    literal.extend_from_slice(b"b\0\0\0\0\0");
    literal.extend_from_slice(plaintext);
    let sealed =
        algorithm.encrypt_protected(OsRng, session_key.as_ref(), &literal).map_err(failed)?;

    let mut message = Vec::new();
    recipient.to_writer_with_header(&mut message).map_err(failed)?;
    let sealed_length =
        u32::try_from(sealed.len() + 1).map_err(|_| EncryptError::TooLong(plaintext.len()))?;
    message.extend_from_slice(&packet_header(SEALED, sealed_length));
    message.push(1);
    message.extend_from_slice(&sealed);
    Ok(message)
}

/// A packet's header of the newer form with a length of five bytes.
fn packet_header(tag: u8, length: u32) -> [u8; 6] {
    let [a, b, c, d] = length.to_be_bytes();
    [0xc0 | tag, 0xff, a, b, c, d]
}

/// The bytes of a key or message that came as base64 or armour.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_ascii();
    if text.starts_with("-----BEGIN PGP") {
        return dearmor(text.as_bytes()).map_err(|error| error.to_string());
    }
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).map_err(|error| format!("{error}; it must be base64 or ASCII armour"))
}

/// The bytes inside ASCII armour.
fn dearmor(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::copy(&mut pgp::armor::Dearmor::new(text), &mut bytes)?;
    bytes.flush()?;
    Ok(bytes)
}

/// The packets of a key, without those that are of unknown kinds and may be left out.
fn packets(bytes: &[u8]) -> Result<Vec<Packet>, KeyProblem> {
    let mut packets = Vec::new();
    for (index, packet) in PacketParser::new(bytes).enumerate() {
        if index >= MAX_PACKETS {
            return Err(KeyProblem::TooManyPackets);
        }
        match packet {
            Ok(Packet::Marker(_) | Packet::Padding(_) | Packet::Trust(_)) => {}
            Ok(packet) => packets.push(packet),
            Err(error) if is_unknown(&error) => {}
            Err(error) => return Err(malformed(&error)),
        }
    }
    Ok(packets)
}

/// Whether the standard says to leave the packet out: of a version or kind that is not known here.
/// A signature that followed it does not hold for the part in front, and is ignored there.
fn is_unknown(error: &pgp::errors::Error) -> bool {
    match error {
        pgp::errors::Error::Unsupported { .. } => true,
        pgp::errors::Error::InvalidPacketContent { source } => is_unknown(source),
        _ => false,
    }
}

fn malformed(error: &pgp::errors::Error) -> KeyProblem {
    KeyProblem::Malformed(error.to_string())
}

/// The tag of a literal packet.
const LITERAL: u8 = 11;

/// The tag of a packet that is encrypted and protected against changes.
const SEALED: u8 = 18;

/// A key of 8192 bits with five parts and a photograph has less.
const MAX_KEY_BYTES: usize = 64 * 1024;

const MAX_PACKETS: usize = 256;
