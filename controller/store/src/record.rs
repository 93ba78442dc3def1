//! Records: the one binary form of everything that is stored under a data key.
//!
//! All integers are big endian; nothing is optional and nothing may follow.
//!
//! | bytes | field | protected by |
//! |---|---|---|
//! | 4 | magic `WWSR` | header |
//! | 1 | format version, 1 | header |
//! | 1 | kind: 1 version, 2 head, 3 keyring, 4 seal state, 5 namespaces | header |
//! | 8 | version: of the value, or the sequence of a head or of `namespaces`, or the generation of a keyring | header |
//! | 2 | length of the object's name | header |
//! | n | the object's name | header |
//! | 4 | term | the wrapped key: another term's key does not unwrap it |
//! | 40 | data key, wrapped with AES-256-KW under the term's key-encryption key | itself (RFC 3394) |
//! | 4 | length of the sealed metadata | both tags: a shifted border opens neither part |
//! | m | metadata, AES-256-GCM, tag last | its tag |
//! | 4 | length of the sealed value | must end the record |
//! | v | value, AES-256-GCM, tag last | its tag |
//!
//! The *header* is the first 16 + n bytes, canonical because every length stands in front of what
//! it measures. It is the additional data of both parts, so that a record cannot be renamed,
//! renumbered or passed off as another kind. The term is not in it on purpose: moving a record to a
//! newer term then wraps the data key anew and leaves both ciphertexts as they are, where a term in
//! the additional data would force a second encryption under the same key and nonce, which GCM does
//! not survive. Nothing is lost: each term's key-encryption key is derived from its number too, so
//! a changed term fails at the unwrapping.
//!
//! A keyring and a seal state have the same header and different bodies, see [`crate::keyring`] and
//! [`crate::seal`].

use zeroize::Zeroizing;

use crate::data_key::{DataKey, OpenedKey, Part, SealPartError, TAG_BYTES};
use crate::keyring::Keyring;
use crate::name::{ObjectKind, ObjectName};
use crate::random::RandomError;

/// What a record says of itself in the clear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The name under which the record is stored, which also says its kind.
    pub name: ObjectName,
    /// The version of a value, the sequence of a head, or the generation of a keyring; 0 otherwise.
    pub version: u64,
}

impl Header {
    /// The canonical bytes: the additional data of everything that follows them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let name = self.name.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_HEADER_BYTES + name.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.push(match self.name.kind() {
            ObjectKind::Version => 1,
            ObjectKind::Head => 2,
            ObjectKind::Keyring => KEYRING_KIND,
            ObjectKind::Namespaces => 5,
            ObjectKind::Seal => SEAL_KIND,
        });
        bytes.extend_from_slice(&self.version.to_be_bytes());
        // Names have at most 95 bytes; a longer one would not parse.
        bytes.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(name);
        bytes
    }

    /// Reads a header from the start of `reader`.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(ParseRecordError::Magic);
        }
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(ParseRecordError::Format { format });
        }
        let kind = match reader.u8()? {
            1 => ObjectKind::Version,
            2 => ObjectKind::Head,
            KEYRING_KIND => ObjectKind::Keyring,
            SEAL_KIND => ObjectKind::Seal,
            5 => ObjectKind::Namespaces,
            kind => return Err(ParseRecordError::Kind { kind }),
        };
        let version = reader.u64()?;
        let length = usize::from(reader.u16()?);
        let name = std::str::from_utf8(reader.take(length)?)
            .ok()
            .and_then(ObjectName::parse)
            .filter(|name| name.kind() == kind)
            .ok_or(ParseRecordError::Name)?;
        Ok(Self { name, version })
    }
}

/// Seals `metadata` and `value` into a record under a fresh data key of the keyring's newest term.
///
/// # Errors
///
/// [`SealError`] when there is no randomness, or a part is too long to have its length written.
pub fn seal(
    keyring: &Keyring,
    header: &Header,
    metadata: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_with(DataKey::generate()?, keyring, header, metadata, value)
}

fn seal_with(
    data_key: DataKey,
    keyring: &Keyring,
    header: &Header,
    metadata: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SealError> {
    let length = |part: &[u8]| {
        u32::try_from(part.len() + TAG_BYTES)
            .map(u32::to_be_bytes)
            .map_err(|_| SealError::TooLong { bytes: part.len() })
    };
    let (metadata_length, value_length) = (length(metadata)?, length(value)?);
    let header = header.to_bytes();
    let (term, wrapped) = keyring.wrap(&data_key);

    // Allocated once, so that no copy of the plaintext stays behind when the buffer grows; wiped in
    // case that sealing fails half-way.
    let mut record = Zeroizing::new(Vec::with_capacity(
        header.len() + 4 + WRAPPED_BYTES + 8 + metadata.len() + value.len() + 2 * TAG_BYTES,
    ));
    record.extend_from_slice(&header);
    record.extend_from_slice(&term.to_be_bytes());
    record.extend_from_slice(&wrapped);
    record.extend_from_slice(&metadata_length);
    let start_of_metadata = record.len();
    record.extend_from_slice(metadata);
    record.extend_from_slice(&[0; TAG_BYTES]);
    record.extend_from_slice(&value_length);
    let start_of_value = record.len();
    record.extend_from_slice(value);
    record.extend_from_slice(&[0; TAG_BYTES]);

    let (front, value_part) = record.split_at_mut(start_of_value);
    let (value_part, value_tag) = value_part.split_at_mut(value.len());
    let (metadata_part, rest) = front[start_of_metadata..].split_at_mut(metadata.len());
    let [tag_of_metadata, tag_of_value] = data_key.seal(&header, metadata_part, value_part)?;
    rest[..TAG_BYTES].copy_from_slice(&tag_of_metadata);
    value_tag.copy_from_slice(&tag_of_value);
    Ok(std::mem::take(&mut *record))
}

/// A record that has been taken apart, and not opened yet.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    header: Header,
    header_bytes: &'a [u8],
    term: u32,
    wrapped: &'a [u8],
    metadata: &'a [u8],
    value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes a record apart. Nothing of it is believed before it is opened.
    ///
    /// # Errors
    ///
    /// [`ParseRecordError`] for an unknown format, and for bytes missing or left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseRecordError> {
        let mut reader = Reader(bytes);
        let header = Header::read(&mut reader)?;
        match header.name.kind() {
            ObjectKind::Head | ObjectKind::Namespaces | ObjectKind::Version => {}
            ObjectKind::Keyring => return Err(ParseRecordError::Kind { kind: KEYRING_KIND }),
            ObjectKind::Seal => return Err(ParseRecordError::Kind { kind: SEAL_KIND }),
        }
        let header_bytes = &bytes[..bytes.len() - reader.0.len()];
        let term = reader.u32()?;
        let wrapped = reader.take(WRAPPED_BYTES)?;
        let metadata = reader.part()?;
        let value = reader.part()?;
        reader.end()?;
        Ok(Self { header, header_bytes, term, wrapped, metadata, value })
    }

    /// What the record says of itself; to be believed only once a part has opened.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The term whose key wraps the data key.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// Opens the metadata, and leaves the value alone.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the record is not the one that was stored as `name`, when the keyring
    /// lacks its term, or when a bit of it was changed.
    pub fn open_metadata(
        &self,
        keyring: &Keyring,
        name: &ObjectName,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(Part::Metadata, self.metadata, keyring, name)
    }

    /// Opens the value, and leaves the metadata alone.
    ///
    /// # Errors
    ///
    /// As for [`Record::open_metadata`].
    pub fn open_value(
        &self,
        keyring: &Keyring,
        name: &ObjectName,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(Part::Value, self.value, keyring, name)
    }

    /// Opens both parts and throws them away: is this the record that was stored as `name`?
    ///
    /// # Errors
    ///
    /// As for [`Record::open_metadata`].
    pub(crate) fn verify(&self, keyring: &Keyring, name: &ObjectName) -> Result<(), OpenError> {
        self.open_metadata(keyring, name)?;
        self.open_value(keyring, name).map(|_| ())
    }

    /// The same record under the newest term of `to`: its data key is wrapped anew, all else stays.
    /// A record that does not open is not moved, for that would lose what may be wrong with it.
    ///
    /// # Errors
    ///
    /// As for [`Record::open_metadata`], with `from`.
    pub(crate) fn rewrap(
        &self,
        from: &Keyring,
        to: &Keyring,
        name: &ObjectName,
    ) -> Result<Vec<u8>, OpenError> {
        self.verify(from, name)?;
        let (term, wrapped) = to.rewrap(&self.data_key(from)?);
        let part_length = |part: &[u8]| (part.len() as u32).to_be_bytes();
        Ok([
            self.header_bytes,
            &term.to_be_bytes(),
            &wrapped,
            &part_length(self.metadata),
            self.metadata,
            &part_length(self.value),
            self.value,
        ]
        .concat())
    }

    fn open(
        &self,
        part: Part,
        sealed: &[u8],
        keyring: &Keyring,
        name: &ObjectName,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if self.header.name != *name {
            return Err(OpenError::Misplaced { found: self.header.name.clone() });
        }
        self.data_key(keyring)?.open(part, self.header_bytes, sealed).ok_or(OpenError::Decrypt)
    }

    fn data_key(&self, keyring: &Keyring) -> Result<OpenedKey, OpenError> {
        keyring.unwrap(self.term, self.wrapped)
    }
}

/// Takes fields from the front of bytes that are not trusted.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], ParseRecordError> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(ParseRecordError::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseRecordError> {
        let (front, rest) = self.0.split_first_chunk().ok_or(ParseRecordError::Truncated)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseRecordError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ParseRecordError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ParseRecordError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ParseRecordError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A sealed part with its length in front.
    fn part(&mut self) -> Result<&'a [u8], ParseRecordError> {
        let length = usize::try_from(self.u32()?).map_err(|_| ParseRecordError::Truncated)?;
        if length < TAG_BYTES {
            return Err(ParseRecordError::Truncated);
        }
        self.take(length)
    }

    pub(crate) fn end(&self) -> Result<(), ParseRecordError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(ParseRecordError::Trailing { bytes }),
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseRecordError {
    /// A format that this release does not know; it is left untouched.
    #[error("format {format} is unknown to this release, which reads format {FORMAT}")]
    Format {
        /// The number that stands there.
        format: u8,
    },
    /// A kind that has no place here.
    #[error("the kind {kind} is not expected here")]
    Kind {
        /// The number that stands there.
        kind: u8,
    },
    /// The bytes do not begin as ours do.
    #[error("these bytes are not a record of Watchword")]
    Magic,
    /// The name is not that of an object of this kind.
    #[error("the record's name is malformed")]
    Name,
    /// Bytes follow where the record should end.
    #[error("the record is followed by {bytes} bytes that do not belong to it")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The bytes end before the record does.
    #[error("the record is cut short")]
    Truncated,
}

/// Why a value could not be sealed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The metadata cannot be written as JSON, which none is.
    #[error("cannot serialise the metadata")]
    Metadata,
    /// There is no randomness for a data key.
    #[error("cannot make a data key")]
    Random(#[from] RandomError),
    /// More bytes than a record can hold (4 GiB).
    #[error("{bytes} bytes do not fit into a record")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
}

impl From<SealPartError> for SealError {
    fn from(_: SealPartError) -> Self {
        Self::TooLong { bytes: usize::MAX }
    }
}

/// Why a record could not be opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// A part or the header was changed.
    #[error("the record was tampered with: a part of it does not open")]
    Decrypt,
    /// The keyring has no such term.
    #[error("the keyring has no term {term}")]
    FindTerm {
        /// The term that the record names.
        term: u32,
    },
    /// What opened is not what this release writes.
    #[error("the metadata is not understood: {detail}")]
    Metadata {
        /// What the parser says.
        detail: String,
    },
    /// The record was stored under another name.
    #[error("the record belongs to `{found}`")]
    Misplaced {
        /// The name in its header.
        found: ObjectName,
    },
    /// The bytes are not a record.
    #[error(transparent)]
    Parse(#[from] ParseRecordError),
    /// The wrapped data key or the term was changed.
    #[error("the record was tampered with: its data key does not unwrap")]
    Unwrap,
}

/// The first bytes of every object.
const MAGIC: &[u8; 4] = b"WWSR";

/// The only format so far.
const FORMAT: u8 = 1;

const KEYRING_KIND: u8 = 3;

const SEAL_KIND: u8 = 4;

/// All of a header but the name.
const FIXED_HEADER_BYTES: usize = 16;

/// A data key of 32 bytes after AES-KW.
pub(crate) const WRAPPED_BYTES: usize = 40;

#[cfg(test)]
mod tests;
