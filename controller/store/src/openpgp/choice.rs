//! Which part of an OpenPGP key something is encrypted to.
//!
//! Only what the key's owner has signed counts, and every signature is verified before it is
//! believed: whoever brings the key, a mail or a key server, may have added parts, or signatures.
//!
//! 1. The primary key must be of version 4, not revoked, have a valid signature over itself or a user
//!    id that is not revoked, and not have expired by the newest of these.
//! 2. Of its subkeys those count that are RSA or ECDH, not revoked, and whose newest valid binding
//!    signature says that they are for encryption and have not expired. If that signature allows
//!    the subkey to sign or certify as well, the subkey must have confirmed it with a signature of
//!    its own. The one that was made last is chosen, as GnuPG does.
//! 3. Without any, the primary key itself is chosen if its newest signature says that it is for
//!    encryption.
//!
//! A revocation counts whenever it was made and for whatever reason. A signature from the future, by
//! MD5 or RIPEMD-160, or with a critical part that is not understood, does not count. One by SHA-1
//! does, as in GnuPG, unless it bears the marks of a collision.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, KeyVersion, PublicParams, Tag, Timestamp};

use super::KeyProblem;

/// A part of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Recipient {
    Primary,
    /// The subkey in this place.
    Subkey(usize),
}

/// The part of `key` to encrypt to at `now` (seconds since 1970 UTC).
pub(super) fn choose(key: &SignedPublicKey, now: i64) -> Result<Recipient, KeyProblem> {
    let now = Timestamp::from_secs(u32::try_from(now.max(0)).unwrap_or(u32::MAX));
    let primary = &key.primary_key;
    if primary.version() != KeyVersion::V4 {
        return Err(KeyProblem::Version);
    }
    if key.details.revocation_signatures.iter().any(|revoked| revoked.verify_key(primary).is_ok()) {
        return Err(KeyProblem::Revoked);
    }
    let own = newest_own_signature(key, now).ok_or(KeyProblem::Unsigned)?;
    check_age(primary.created_at(), own.key_expiration_time(), now)?;

    let mut chosen: Option<(Timestamp, usize)> = None;
    let mut problem = KeyProblem::NotForEncryption;
    for (index, subkey) in key.public_subkeys.iter().enumerate() {
        match check_subkey(primary, subkey, now) {
            Ok(()) => chosen = chosen.max(Some((subkey.key.created_at(), index))),
            // What is wrong with a subkey that would otherwise do says more.
            Err(found) if problem == KeyProblem::NotForEncryption => problem = found,
            Err(_) => {}
        }
    }
    match chosen {
        Some((_, index)) => Ok(Recipient::Subkey(index)),
        None if is_for_encryption(own) && can_encrypt(primary.public_params()) => {
            Ok(Recipient::Primary)
        }
        None => Err(problem),
    }
}

/// The newest valid signature of the key over itself, or over a user id that is not revoked.
fn newest_own_signature(key: &SignedPublicKey, now: Timestamp) -> Option<&Signature> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
    });
    let users = key.details.users.iter().filter_map(|user| {
        let verified = |signature: &&Signature| {
            signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        let newest = user
            .signatures
            .iter()
            .filter(|signature| signature.is_certification() && counts(signature, now))
            .filter(verified)
            .max_by_key(|signature| signature.created())?;
        let revoked = user
            .signatures
            .iter()
            .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation))
            .filter(verified)
            .any(|revocation| revocation.created() >= newest.created());
        (!revoked).then_some(newest)
    });
    direct.chain(users).filter(|signature| counts(signature, now)).max_by_key(|s| s.created())
}

/// Whether something may be encrypted to this subkey.
fn check_subkey(
    primary: &PublicKey,
    subkey: &SignedPublicSubKey,
    now: Timestamp,
) -> Result<(), KeyProblem> {
    if subkey.key.version() != KeyVersion::V4 || !can_encrypt(subkey.key.public_params()) {
        return Err(KeyProblem::NotForEncryption);
    }
    let verified = |kind: SignatureType| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind)
                && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })
    };
    if verified(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(KeyProblem::Revoked);
    }
    let binding = verified(SignatureType::SubkeyBinding)
        .filter(|signature| counts(signature, now))
        .max_by_key(|signature| signature.created())
        .ok_or(KeyProblem::Unbound)?;
    if !is_for_encryption(binding) {
        return Err(KeyProblem::NotForEncryption);
    }
    let flags = binding.key_flags();
    if flags.sign() || flags.certify() {
        let confirmed = binding.embedded_signature().is_some_and(|signature| {
            counts(signature, now)
                && signature.verify_primary_key_binding(&subkey.key, primary).is_ok()
        });
        if !confirmed {
            return Err(KeyProblem::Unbound);
        }
    }
    check_age(subkey.key.created_at(), binding.key_expiration_time(), now)
}

/// Whether a signature, once it is verified, is to be believed at `now`.
fn counts(signature: &Signature, now: Timestamp) -> bool {
    let (Some(config), Some(created)) = (signature.config(), signature.created()) else {
        return false;
    };
    !matches!(config.hash_alg, HashAlgorithm::Md5 | HashAlgorithm::Ripemd160)
        && check_age(created, signature.signature_expiration_time(), now).is_ok()
        && config.hashed_subpackets().all(|part| {
            let is_unknown = matches!(
                part.data,
                SubpacketData::Experimental(..)
                    | SubpacketData::Notation(_)
                    | SubpacketData::Other(..)
            );
            !(part.is_critical && is_unknown)
        })
}

fn check_age(
    created: Timestamp,
    lifetime: Option<Duration>,
    now: Timestamp,
) -> Result<(), KeyProblem> {
    let (created, now) = (u64::from(created.as_secs()), u64::from(now.as_secs()));
    if created > now + CLOCKS_DIFFER {
        return Err(KeyProblem::Future);
    }
    match lifetime.map_or(0, |lifetime| u64::from(lifetime.as_secs())) {
        // Zero is the standard's word for ever.
        0 => Ok(()),
        lifetime if created + lifetime > now => Ok(()),
        _ => Err(KeyProblem::Expired),
    }
}

fn is_for_encryption(signature: &Signature) -> bool {
    let flags = signature.key_flags();
    flags.encrypt_comms() || flags.encrypt_storage()
}

/// RSA of 2048 bits or more, or ECDH.
fn can_encrypt(params: &PublicParams) -> bool {
    match params {
        // The modulus stands first, with its length in bits in front of it.
        PublicParams::RSA(rsa) => rsa.to_bytes().is_ok_and(|bytes| {
            bytes.first_chunk().is_some_and(|bits| u16::from_be_bytes(*bits) >= MIN_RSA_BITS)
        }),
        PublicParams::ECDH(_) => true,
        _ => false,
    }
}

/// How far, in seconds, the clock of whoever made a key may be ahead of ours.
const CLOCKS_DIFFER: u64 = 300;

const MIN_RSA_BITS: u16 = 2048;
