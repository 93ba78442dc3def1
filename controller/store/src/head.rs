//! Heads: what versions a path has.
//!
//! A head is one small record per path, changed by compare-and-swap only. It is what decides: a
//! version exists once the head names it, and is gone once it does not. Its sequence, the `version`
//! of its header, grows with every change, so that an older head that is put back can be told.
//!
//! A deleted path keeps a head without path and versions, its *tombstone*: version numbers are
//! never used twice, and a deleted secret that is put back is noticed.

use serde::{Deserialize, Serialize};

use crate::keyring::Keyring;
use crate::name::ObjectName;
use crate::path::SecretPath;
use crate::record::{self, Header, OpenError, Record, SealError};

/// What is known of a secret besides its value; the caller says all of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Meta {
    /// Who wrote it, as the caller names people; may be empty.
    pub author: String,
    /// How the value was given.
    pub content_type: ContentType,
    /// When it was written, in seconds since 1970 UTC by the caller's clock.
    pub created: i64,
    /// What whoever wrote it says of it. A write that does not say keeps what was said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Box<About>>,
}

/// What people say of a secret, for people: nothing decides by it. It lies in the head of each path,
/// which is read for every list, so the caller keeps it short.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct About {
    /// What it is for; none if nothing was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by, in their order; none if nothing was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

impl About {
    /// What is said once `new` has been said after `before`; what is said to be empty is nothing.
    pub(crate) fn said(new: Option<&Self>, before: Option<&Self>) -> Option<Box<Self>> {
        let description = new.and_then(|new| new.description.as_ref());
        let description = description.or(before.and_then(|before| before.description.as_ref()));
        let labels = new.and_then(|new| new.labels.as_ref());
        let labels = labels.or(before.and_then(|before| before.labels.as_ref()));
        let about = Self {
            description: description.filter(|text| !text.is_empty()).cloned(),
            labels: labels.filter(|labels| !labels.is_empty()).cloned(),
        };
        (about != Self::default()).then(|| Box::new(about))
    }
}

/// How a value was given: DC/OS shows text as JSON and bytes as they are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// `application/octet-stream`.
    Binary,
    /// `application/json`, in which the value is a string.
    Text,
}

/// The versions of a path. Fields that this release does not know are kept when it writes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Head {
    /// The path; none once it has been deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<SecretPath>,
    /// The highest version that there ever was; 0 if there was none.
    pub(crate) newest: u64,
    /// What can be read, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) versions: Vec<HeadVersion>,
    /// Objects that are no longer versions and may still have to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) garbage: Vec<ObjectName>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// One version in a head.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HeadVersion {
    pub(crate) version: u64,
    /// The object that holds the value.
    pub(crate) object: ObjectName,
    #[serde(flatten)]
    pub(crate) meta: Meta,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

impl Head {
    /// The newest version that can be read.
    pub(crate) fn live(&self) -> Option<&HeadVersion> {
        self.versions.first()
    }

    /// The version with this number, or the newest.
    pub(crate) fn find(&self, version: Option<u64>) -> Option<&HeadVersion> {
        match version {
            None => self.live(),
            Some(number) => self.versions.iter().find(|entry| entry.version == number),
        }
    }

    /// Whether the head has ever been told of this object, and still knows.
    pub(crate) fn knows(&self, object: &ObjectName) -> bool {
        self.versions.iter().any(|entry| entry.object == *object) || self.garbage.contains(object)
    }

    /// The head after a write: one version more, `keep` at most, the rest garbage beside what is
    /// `left` of older garbage.
    pub(crate) fn written(
        &self,
        path: &SecretPath,
        (version, object): (u64, ObjectName),
        meta: Meta,
        keep: usize,
        left: Vec<ObjectName>,
    ) -> Self {
        let mut next = self.clone();
        next.path = Some(path.clone());
        next.newest = version;
        next.versions
            .insert(0, HeadVersion { version, object, meta, unknown: serde_json::Map::new() });
        let cut = keep.max(1).min(next.versions.len());
        next.garbage = left;
        next.garbage.extend(next.versions.drain(cut..).map(|entry| entry.object));
        next
    }

    /// The head after a deletion: a tombstone that remembers what is left to remove.
    pub(crate) fn deleted(&self) -> Self {
        let versions = self.versions.iter().map(|entry| &entry.object);
        Self {
            newest: self.newest,
            garbage: versions.chain(&self.garbage).cloned().collect(),
            ..Self::default()
        }
    }

    /// Gives back memory that was taken in advance; most heads have one version and live for long.
    pub(crate) fn shrink(&mut self) {
        self.versions.shrink_to_fit();
        self.garbage.shrink_to_fit();
    }

    /// Seals this head as number `sequence` under its name.
    pub(crate) fn seal(
        &self,
        keyring: &Keyring,
        name: &ObjectName,
        sequence: u64,
    ) -> Result<Vec<u8>, SealHeadError> {
        let json = serde_json::to_vec(self).map_err(|_| SealHeadError::Serialize)?;
        let header = Header { name: name.clone(), version: sequence };
        Ok(record::seal(keyring, &header, &json, &[])?)
    }

    /// Opens the head stored under `name`; returns its sequence too.
    pub(crate) fn open(
        bytes: &[u8],
        keyring: &Keyring,
        name: &ObjectName,
    ) -> Result<(u64, Self), OpenError> {
        let record = Record::parse(bytes)?;
        let json = record.open_metadata(keyring, name)?;
        let head = serde_json::from_slice(&json)
            .map_err(|error| OpenError::Metadata { detail: error.to_string() })?;
        Ok((record.header().version, head))
    }
}

/// What a version's own record says of itself, so that heads could be made anew from records.
#[derive(Deserialize, Serialize)]
pub(crate) struct VersionMetadata<'a> {
    pub(crate) path: std::borrow::Cow<'a, SecretPath>,
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// Why a head could not be sealed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealHeadError {
    /// The record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The head cannot be written as JSON, which no head is.
    #[error("cannot serialise the head")]
    Serialize,
}
