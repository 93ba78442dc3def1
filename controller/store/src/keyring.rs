//! The keyring: the keys of all terms, the key that names are made with, and who holds the shares of
//! the root key that opens it.
//!
//! Each term has one key of 32 random bytes; `rotate` adds a term and old ones still open. What
//! wraps data keys is not that key but one derived from it (HKDF-SHA256, purpose and term as info).
//! The name key is a key of its own: names survive rotation, and rekeying, which only changes the
//! root key around the keyring. So does the seed that audit checkpoints are signed with.
//!
//! The [`Custody`] stands in the clear in front, so that it can be read while the store is sealed,
//! and is authenticated with the rest: whoever opens the keyring knows that nobody changed it. Root
//! key and custody are in one object, so no crash can leave shares that belong to another key.
//!
//! Stored form: a record's header (kind 3, name `keyring`, version = generation, which grows with
//! every change), then
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of the custody, at most 768 KiB |
//! | c | the custody: JSON, with fields that this release does not know, and keeps |
//! | 12 | random nonce |
//! | … | AES-256-GCM, tag last, additional data = everything in front of the nonce, key = HKDF-SHA256(root key, info `watchword keyring v1`), of: |
//! | 32 | &emsp;the name key |
//! | 32 | &emsp;the audit seed |
//! | 4 | &emsp;number of terms |
//! | 44 each | &emsp;term (4, ascending), time of its making (8, seconds since 1970 UTC, signed), key (32) |
//!
//! Here the nonce is random: the key under the root key is used once per change of the keyring, so
//! a few times in years, where 2³² uses would be safe.

use std::collections::BTreeMap;

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm, Key};
use aes_kw::KwAes256;
use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroizing;

use crate::data_key::{DataKey, OpenedKey};
use crate::name::{ObjectKind, ObjectName};
use crate::path::SecretPath;
use crate::random::{self, RandomError};
use crate::record::{Header, OpenError, ParseRecordError, Reader, WRAPPED_BYTES};
use crate::root_key::{self, RootKey};
use crate::seal::Custody;

/// The keys of all terms, the name key and the audit seed; wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(keyring: &watchword_store::Keyring) -> String { format!("{keyring:?}") }
/// ```
pub struct Keyring {
    generation: u64,
    custody: Custody,
    name_key: SecretBox<[u8; 32]>,
    audit_seed: SecretBox<[u8; 32]>,
    terms: BTreeMap<u32, Term>,
    current: u32,
}

impl Keyring {
    /// A new keyring with its first term, made at `created` (seconds since 1970 UTC), for a root key
    /// whose shares are held like this.
    ///
    /// # Errors
    ///
    /// `RandomError` when the system has no randomness to give.
    pub fn generate(created: i64, custody: &Custody) -> Result<Self, RandomError> {
        let first = Term::new(FIRST_TERM, created, boxed(random::key()?.as_slice()));
        Ok(Self {
            generation: 1,
            custody: custody.clone(),
            name_key: boxed(random::key()?.as_slice()),
            audit_seed: boxed(random::key()?.as_slice()),
            terms: BTreeMap::from([(FIRST_TERM, first)]),
            current: FIRST_TERM,
        })
    }

    /// Opens a stored keyring.
    ///
    /// # Errors
    ///
    /// [`OpenKeyringError`] when the root key is another one, or a bit of the bytes was changed:
    /// these two cannot be told apart.
    pub fn open(bytes: &[u8], root_key: &RootKey) -> Result<Self, OpenKeyringError> {
        let mut reader = Reader(bytes);
        let (header, custody) = read_clear(&mut reader)?;
        let aad = &bytes[..bytes.len() - reader.0.len()];
        let nonce = reader.array::<NONCE_BYTES>()?;
        let mut plain = Zeroizing::new(reader.0.to_vec());
        Aes256Gcm::new((&*root_key.derive(PURPOSE)).into())
            .decrypt_in_place(&nonce.into(), aad, &mut *plain)
            .map_err(|_| OpenKeyringError::Decrypt)?;
        Self::read(header.version, parse_custody(custody)?, &plain)
    }

    /// Seals the keyring under `root_key` into its stored form.
    ///
    /// # Errors
    ///
    /// [`SealKeyringError`] when there is no randomness for a nonce.
    pub fn seal(&self, root_key: &RootKey) -> Result<Vec<u8>, SealKeyringError> {
        let nonce = random::bytes::<NONCE_BYTES>()?;
        let clear = self.write_clear()?;
        let mut sealed = self.write();
        Aes256Gcm::new((&*root_key.derive(PURPOSE)).into())
            .encrypt_in_place(&nonce.into(), &clear, &mut *sealed)
            .map_err(|_| SealKeyringError::Encrypt)?;
        Ok([&clear, nonce.as_slice(), &sealed].concat())
    }

    /// The custody and the generation of a stored keyring, without a key: what they say is to be
    /// believed as far as the back end is.
    ///
    /// # Errors
    ///
    /// [`OpenKeyringError`] when the bytes are not a keyring.
    pub fn peek(bytes: &[u8]) -> Result<(Custody, u64), OpenKeyringError> {
        let (header, custody) = read_clear(&mut Reader(bytes))?;
        Ok((parse_custody(custody)?, header.version))
    }

    /// Writes down who holds the shares of the root key under which the keyring is sealed next.
    pub fn entrust(&mut self, custody: &Custody) {
        self.custody = custody.clone();
        self.generation = self.generation.saturating_add(1);
    }

    /// Adds a term, made at `created` (seconds since 1970 UTC), that all further records use;
    /// returns its number. Older terms still open.
    ///
    /// # Errors
    ///
    /// `RandomError` when the system has no randomness to give.
    pub fn rotate(&mut self, created: i64) -> Result<u32, RandomError> {
        let term = self.current.saturating_add(1);
        self.terms.insert(term, Term::new(term, created, boxed(random::key()?.as_slice())));
        self.current = term;
        self.generation = self.generation.saturating_add(1);
        Ok(term)
    }

    /// Destroys all terms but the newest, and returns their numbers.
    pub fn retire(&mut self) -> Vec<u32> {
        let newest = self.terms.split_off(&self.current);
        let retired = std::mem::replace(&mut self.terms, newest).into_keys().collect::<Vec<_>>();
        if !retired.is_empty() {
            self.generation = self.generation.saturating_add(1);
        }
        retired
    }

    /// A number that grows with every change of the keyring.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The term that new records use.
    pub fn current_term(&self) -> u32 {
        self.current
    }

    /// All terms, oldest first, with the time of their making (seconds since 1970 UTC).
    pub fn terms(&self) -> impl Iterator<Item = (u32, i64)> {
        self.terms.iter().map(|(&number, term)| (number, term.created))
    }

    /// Who holds the shares of the root key.
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The seed of the key that signs audit checkpoints.
    pub(crate) fn audit_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.audit_seed.expose_secret())
    }

    /// The hash of a path under the name key: of a secret's path the name of its head.
    pub(crate) fn keyed_hash(&self, path: &str) -> String {
        crate::name::keyed_hash(self.name_key.expose_secret(), path)
    }

    /// The name of the head of `path`.
    pub fn head_name(&self, path: &SecretPath) -> ObjectName {
        ObjectName::head(self.name_key.expose_secret(), path)
    }

    /// Wraps a data key under the current term.
    pub(crate) fn wrap(&self, data_key: &DataKey) -> (u32, [u8; WRAPPED_BYTES]) {
        self.wrap_bytes(data_key.expose_secret())
    }

    /// Wraps the data key of a record that there is already under the current term.
    pub(crate) fn rewrap(&self, data_key: &OpenedKey) -> (u32, [u8; WRAPPED_BYTES]) {
        self.wrap_bytes(data_key.expose_secret())
    }

    #[expect(clippy::expect_used, reason = "a keyring has its current term by construction")]
    fn wrap_bytes(&self, data_key: &[u8; 32]) -> (u32, [u8; WRAPPED_BYTES]) {
        let term = self.terms.get(&self.current).expect("the current term is in the keyring");
        let data_key: &Key<Aes256Gcm> = data_key.into();
        (self.current, term.wrapping.wrap_fixed_key(data_key).into())
    }

    /// Unwraps the data key of a record of `term`.
    pub(crate) fn unwrap(&self, term: u32, wrapped: &[u8]) -> Result<OpenedKey, OpenError> {
        let keys = self.terms.get(&term).ok_or(OpenError::FindTerm { term })?;
        let mut data_key = Zeroizing::new([0; 32]);
        keys.wrapping
            .unwrap_key(wrapped, data_key.as_mut_slice())
            .map_err(|_| OpenError::Unwrap)?;
        Ok(OpenedKey::new(data_key))
    }

    fn write_clear(&self) -> Result<Vec<u8>, SealKeyringError> {
        let custody = serde_json::to_vec(&self.custody).map_err(|_| SealKeyringError::Serialize)?;
        let length = u32::try_from(custody.len())
            .ok()
            .filter(|_| custody.len() <= MAX_CUSTODY_BYTES)
            .ok_or(SealKeyringError::Custody { bytes: custody.len() })?;
        let header = Header { name: ObjectName::keyring(), version: self.generation };
        Ok([&header.to_bytes(), length.to_be_bytes().as_slice(), &custody].concat())
    }

    fn write(&self) -> Zeroizing<Vec<u8>> {
        let bytes = 68 + TERM_BYTES * self.terms.len();
        // With room for the tag, so that encryption in place never moves the keys.
        let mut plain = Zeroizing::new(Vec::with_capacity(bytes + 16));
        plain.extend_from_slice(self.name_key.expose_secret());
        plain.extend_from_slice(self.audit_seed.expose_secret());
        // Terms are numbered by 32 bits, so their number fits.
        plain.extend_from_slice(&u32::try_from(self.terms.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (number, term) in &self.terms {
            plain.extend_from_slice(&number.to_be_bytes());
            plain.extend_from_slice(&term.created.to_be_bytes());
            plain.extend_from_slice(term.key.expose_secret());
        }
        plain
    }

    fn read(generation: u64, custody: Custody, plain: &[u8]) -> Result<Self, OpenKeyringError> {
        let mut reader = Reader(plain);
        let name_key = boxed(reader.take(32)?);
        let audit_seed = boxed(reader.take(32)?);
        let mut terms = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let number = reader.u32()?;
            let created = i64::from_be_bytes(reader.array()?);
            if terms.last_key_value().is_some_and(|(&last, _)| last >= number) {
                return Err(OpenKeyringError::Terms);
            }
            terms.insert(number, Term::new(number, created, boxed(reader.take(32)?)));
        }
        reader.end()?;
        let (&current, _) = terms.last_key_value().ok_or(OpenKeyringError::Terms)?;
        Ok(Self { generation, custody, name_key, audit_seed, terms, current })
    }
}

/// The keys of one term.
struct Term {
    created: i64,
    key: SecretBox<[u8; 32]>,
    /// AES-256-KW under the key-encryption key, its key schedule done; boxed like the key, so that
    /// moves leave no copies.
    wrapping: Box<KwAes256>,
}

impl Term {
    fn new(number: u32, created: i64, key: SecretBox<[u8; 32]>) -> Self {
        let kek = root_key::derive(
            key.expose_secret(),
            &[b"watchword data keys v1", &number.to_be_bytes()],
        );
        Self { created, key, wrapping: Box::new(KwAes256::new((&*kek).into())) }
    }
}

/// Why a stored keyring could not be opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenKeyringError {
    /// The custody is not understood, or longer than any is.
    #[error("the keyring's custody of shares is malformed")]
    Custody,
    /// The root key is another one, or the keyring was changed.
    #[error("the key does not open the keyring")]
    Decrypt,
    /// The bytes are not a keyring.
    #[error("the keyring is malformed")]
    Parse(#[from] ParseRecordError),
    /// The terms are out of order, or there are none.
    #[error("the keyring's terms are out of order")]
    Terms,
}

/// Why a keyring could not be sealed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealKeyringError {
    /// So many or so long OpenPGP messages that no back end would take the object.
    #[error(
        "the encrypted shares have {bytes} bytes, which is more than {MAX_CUSTODY_BYTES}: take fewer shares or shorter OpenPGP keys"
    )]
    Custody {
        /// How many.
        bytes: usize,
    },
    /// More bytes than AES-GCM takes.
    #[error("the keyring is too large")]
    Encrypt,
    /// There is no randomness for a nonce.
    #[error("cannot make a nonce")]
    Random(#[from] RandomError),
    /// The custody cannot be written as JSON, which none is.
    #[error("cannot serialise the custody of shares")]
    Serialize,
}

/// Reads what stands in the clear: the header and the bytes of the custody.
fn read_clear<'a>(reader: &mut Reader<'a>) -> Result<(Header, &'a [u8]), OpenKeyringError> {
    let header = Header::read(reader)?;
    if header.name.kind() != ObjectKind::Keyring {
        return Err(ParseRecordError::Name.into());
    }
    let length = usize::try_from(reader.u32()?)
        .ok()
        .filter(|&length| length <= MAX_CUSTODY_BYTES)
        .ok_or(OpenKeyringError::Custody)?;
    Ok((header, reader.take(length)?))
}

fn parse_custody(bytes: &[u8]) -> Result<Custody, OpenKeyringError> {
    serde_json::from_slice(bytes).map_err(|_| OpenKeyringError::Custody)
}

/// A copy in a box that wipes itself, of bytes that do so too.
fn boxed(bytes: &[u8]) -> SecretBox<[u8; 32]> {
    SecretBox::init_with_mut(|key: &mut [u8; 32]| key.copy_from_slice(bytes))
}

/// What the key for the keyring is derived for.
const PURPOSE: &[u8] = b"watchword keyring v1";

const FIRST_TERM: u32 = 1;

/// 255 shares under keys of 8192 bits fit, and so does the object in every back end.
const MAX_CUSTODY_BYTES: usize = 768 * 1024;

const NONCE_BYTES: usize = 12;

const TERM_BYTES: usize = 44;

#[cfg(test)]
mod tests;
