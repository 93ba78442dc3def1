//! The bytes of a backup. All integers are big endian.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic `WWBACKUP` |
//! | 1 | format, 1 |
//! | | then any number of objects, the last of which is the keyring, each of them: |
//! | 1 | &emsp;1 |
//! | 2 | &emsp;length of its name |
//! | n | &emsp;its name |
//! | 4 | &emsp;length of its bytes, at most 2 MiB |
//! | b | &emsp;its bytes, as the back end has them: a record or keyring of that very name |
//! | 1 | 0 |
//! | 8 | number of objects |
//! | 32 | SHA-256 of everything in front of it |
//!
//! Nothing may follow. The checksum is against accidents; whoever changes a file on purpose can change
//! it too, and is found out when records are opened.

use sha2::{Digest, Sha256};

use crate::keyring::{Keyring, OpenKeyringError};
use crate::name::{ObjectKind, ObjectName};
use crate::record::{ParseRecordError, Record};

/// One object of a backup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Object {
    pub(super) name: ObjectName,
    pub(super) bytes: Vec<u8>,
}

/// What a whole backup is known by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// How many objects there are, the keyring among them.
    pub objects: u64,
    /// The checksum at the end.
    pub sha256: [u8; 32],
}

/// Writes a backup, piece by piece.
pub(super) struct Encoder {
    digest: Sha256,
    objects: u64,
}

impl Encoder {
    /// A new backup, and how it begins.
    pub(super) fn begin() -> (Self, Vec<u8>) {
        let start = [&MAGIC[..], &[FORMAT]].concat();
        (Self { digest: Sha256::new_with_prefix(&start), objects: 0 }, start)
    }

    /// The bytes of one more object.
    pub(super) fn object(&mut self, object: &Object) -> Result<Vec<u8>, ParseArchiveError> {
        check(object)?;
        let name = object.name.as_str().as_bytes();
        // Both were checked to fit.
        let name_length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let length = u32::try_from(object.bytes.len()).unwrap_or(u32::MAX);
        let bytes =
            [&[OBJECT][..], &name_length.to_be_bytes(), name, &length.to_be_bytes(), &object.bytes]
                .concat();
        self.digest.update(&bytes);
        self.objects += 1;
        Ok(bytes)
    }

    /// How the backup ends.
    pub(super) fn end(mut self) -> (Summary, Vec<u8>) {
        let end = [&[END][..], &self.objects.to_be_bytes()].concat();
        self.digest.update(&end);
        let sha256 = self.digest.finalize().into();
        (Summary { objects: self.objects, sha256 }, [&end[..], &sha256].concat())
    }
}

/// Takes a backup apart, as its bytes come.
#[derive(Default)]
pub(super) struct Decoder {
    /// What has come and is not taken yet: less than one object and one push.
    buffer: Vec<u8>,
    digest: Sha256,
    begun: bool,
    objects: u64,
    /// The keyring has come, so the end must.
    complete: bool,
    summary: Option<Summary>,
}

impl Decoder {
    /// Takes more bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ParseArchiveError> {
        if self.summary.is_some() && !bytes.is_empty() {
            return Err(ParseArchiveError::Trailing);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next object; `None` if more bytes are needed, or the backup has ended.
    pub(super) fn next(&mut self) -> Result<Option<Object>, ParseArchiveError> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        if self.summary.is_some() {
            return Ok(None);
        }
        match self.buffer.first() {
            None => Ok(None),
            Some(&OBJECT) if !self.complete => self.object(),
            Some(&END) if self.complete => self.end().map(|()| None),
            Some(&END) => Err(ParseArchiveError::NoKeyring),
            Some(&OBJECT) => Err(ParseArchiveError::AfterKeyring),
            Some(_) => Err(ParseArchiveError::Damaged),
        }
    }

    /// What the backup is known by, if it has ended.
    pub(super) fn finish(self) -> Result<Summary, ParseArchiveError> {
        match self.summary {
            Some(summary) => Ok(summary),
            None if self.begun => Err(ParseArchiveError::Truncated),
            // Too short for the magic.
            None => Err(ParseArchiveError::Magic),
        }
    }

    /// Reads how it begins; `false` if that is not all there.
    fn begin(&mut self) -> Result<bool, ParseArchiveError> {
        let known = self.buffer.len().min(MAGIC.len());
        if self.buffer[..known] != MAGIC[..known] {
            return Err(ParseArchiveError::Magic);
        }
        match self.buffer.get(MAGIC.len()) {
            None => return Ok(false),
            Some(&FORMAT) => {}
            Some(&format) => return Err(ParseArchiveError::Format { format }),
        }
        self.consume(MAGIC.len() + 1);
        self.begun = true;
        Ok(true)
    }

    fn object(&mut self) -> Result<Option<Object>, ParseArchiveError> {
        let mut fields = Fields(&self.buffer[1..]);
        let Some(name_length) = fields.array().map(u16::from_be_bytes) else { return Ok(None) };
        if usize::from(name_length) > MAX_NAME_BYTES {
            return Err(ParseArchiveError::Damaged);
        }
        let Some(name) = fields.take(name_length.into()) else { return Ok(None) };
        let name = std::str::from_utf8(name).ok().and_then(ObjectName::parse);
        let name = name.ok_or(ParseArchiveError::Damaged)?;
        let Some(length) = fields.array().map(u32::from_be_bytes) else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_OBJECT_BYTES {
            return Err(ParseArchiveError::TooLarge { object: name });
        }
        let Some(bytes) = fields.take(length) else { return Ok(None) };
        let object = Object { name, bytes: bytes.to_vec() };
        let rest = fields.0.len();
        check(&object)?;
        self.consume(self.buffer.len() - rest);
        self.objects += 1;
        self.complete = object.name.kind() == ObjectKind::Keyring;
        Ok(Some(object))
    }

    fn end(&mut self) -> Result<(), ParseArchiveError> {
        let mut fields = Fields(&self.buffer[1..]);
        let Some(objects) = fields.array().map(u64::from_be_bytes) else { return Ok(()) };
        let Some(sha256) = fields.array::<32>() else { return Ok(()) };
        if !fields.0.is_empty() {
            return Err(ParseArchiveError::Trailing);
        }
        self.consume(9);
        if self.digest.clone().finalize()[..] != sha256 || objects != self.objects {
            return Err(ParseArchiveError::Damaged);
        }
        self.buffer.clear();
        self.summary = Some(Summary { objects, sha256 });
        Ok(())
    }

    /// Moves bytes from the buffer into the checksum.
    fn consume(&mut self, length: usize) {
        self.digest.update(&self.buffer[..length]);
        self.buffer.drain(..length);
    }
}

/// Takes fields from the front of bytes; `None` if they have not all come.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }
}

/// Whether an object can be what its name says, as far as that shows without keys.
fn check(object: &Object) -> Result<(), ParseArchiveError> {
    let Object { name, bytes } = object;
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(ParseArchiveError::TooLarge { object: name.clone() });
    }
    let result = match name.kind() {
        ObjectKind::Keyring => match Keyring::peek(bytes) {
            Ok(_) => Ok(()),
            Err(OpenKeyringError::Parse(error)) => Err(error),
            Err(_) => return Err(ParseArchiveError::Damaged),
        },
        ObjectKind::Seal => return Err(ParseArchiveError::Damaged),
        _ => Record::parse(bytes).and_then(|record| match record.header().name == *name {
            true => Ok(()),
            false => Err(ParseRecordError::Name),
        }),
    };
    result.map_err(|source| ParseArchiveError::Record { object: name.clone(), source })
}

/// Why bytes are not a backup that this release restores.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseArchiveError {
    /// Something follows the keyring, which is last.
    #[error("the backup is damaged: records follow its keyring")]
    AfterKeyring,
    /// The bytes are not what they were when the backup was written.
    #[error("the backup is damaged: its checksum, or what it counts, does not agree with it")]
    Damaged,
    /// A format that this release does not know.
    #[error("format {format} of backups is unknown to this release, which reads format {FORMAT}")]
    Format {
        /// The number that stands there.
        format: u8,
    },
    /// The bytes do not begin as backups do.
    #[error("this is not a backup of Watchword")]
    Magic,
    /// There is no keyring, without which nothing opens.
    #[error("the backup is damaged: it has no keyring")]
    NoKeyring,
    /// An object is not what its name says.
    #[error("`{object}` is not the record that its name says")]
    Record {
        /// Its name.
        object: ObjectName,
        /// Why.
        #[source]
        source: ParseRecordError,
    },
    /// An object has more bytes than any has.
    #[error("`{object}` is larger than any record")]
    TooLarge {
        /// Its name.
        object: ObjectName,
    },
    /// Bytes follow the end.
    #[error("bytes follow the end of the backup")]
    Trailing,
    /// The end is missing.
    #[error("the backup is cut short: its end is missing")]
    Truncated,
}

const MAGIC: &[u8; 8] = b"WWBACKUP";

/// The only format so far.
const FORMAT: u8 = 1;

const END: u8 = 0;

const OBJECT: u8 = 1;

/// Names have at most 95 bytes.
const MAX_NAME_BYTES: usize = 128;

/// The largest value and its metadata are little more than a mebibyte, a keyring is less.
const MAX_OBJECT_BYTES: usize = 2 * 1024 * 1024;
