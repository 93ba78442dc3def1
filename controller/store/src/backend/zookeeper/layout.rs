//! Where objects lie in ZooKeeper, and what their revisions are.

use crate::backend::Revision;
use crate::name::{ObjectKind, ObjectName};
use crate::random::{self, RandomError};

/// The paths of nodes below a root.
pub(super) struct Layout {
    /// Without a slash at its end; empty for ZooKeeper's own root.
    root: String,
}

impl Layout {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned() }
    }

    /// The folder of all objects of a kind.
    pub(super) fn kind(&self, kind: ObjectKind) -> String {
        format!("{}/{}", self.root, kind.as_str())
    }

    /// The folder of an object.
    pub(super) fn folder(&self, name: &ObjectName) -> String {
        // Names are ASCII and have two letters at least.
        let prefix = name.as_str().get(..2).unwrap_or_default();
        format!("{}/{prefix}", self.kind(name.kind()))
    }

    /// The node of an object.
    pub(super) fn node(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.folder(name))
    }

    /// The child that says which life of an object it is.
    pub(super) fn life(&self, name: &ObjectName, life: &Life) -> String {
        format!("{}/{}", self.node(name), life.to_text())
    }
}

/// A number that tells a node from an earlier one of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Life([u8; LIFE_BYTES]);

impl Life {
    pub(super) fn draw() -> Result<Self, RandomError> {
        random::bytes().map(Self)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok()?;
        let life = Self(number.to_be_bytes());
        (life.to_text() == text).then_some(life)
    }

    fn to_text(self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.0))
    }

    /// The data of a node of this life.
    pub(super) fn before(self, bytes: &[u8]) -> Vec<u8> {
        [&self.0, bytes].concat()
    }

    /// Takes the life from the front of a node's data.
    pub(super) fn split_off(data: &mut Vec<u8>) -> Option<Self> {
        let life = Self(*data.first_chunk()?);
        data.drain(..LIFE_BYTES);
        Some(life)
    }
}

/// A revision: which life of the node, and how often it has changed in it.
pub(super) struct NodeRevision {
    pub(super) life: Life,
    pub(super) version: i32,
}

impl NodeRevision {
    pub(super) fn new(life: Life, version: i32) -> Self {
        Self { life, version }
    }

    pub(super) fn parse(revision: &Revision) -> Option<Self> {
        let (life, version) = revision.0.split_once('.')?;
        Some(Self { life: Life::parse(life)?, version: version.parse().ok()? })
    }
}

impl From<NodeRevision> for Revision {
    fn from(NodeRevision { life, version }: NodeRevision) -> Self {
        Self(format!("{}.{version}", life.to_text()).into())
    }
}

const LIFE_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_revision_that_is_made_can_be_read() {
        for bytes in [[0; 8], [0xff; 8], [0, 1, 2, 3, 4, 5, 6, 0xab]] {
            let revision = Revision::from(NodeRevision::new(Life(bytes), 7));

            let NodeRevision { life, version } = NodeRevision::parse(&revision).unwrap();

            assert_eq!((life, version), (Life(bytes), 7));
            assert!(
                Layout::new("/").life(&ObjectName::keyring(), &life).starts_with("/keyring/ke/")
            );
        }
    }

    #[test]
    fn revisions_of_other_back_ends_are_none_of_ours() {
        for text in
            ["", "1", "17.3", "00000000000000aB.1", "00000000000000ab.x", "+0000000000000ab.1"]
        {
            assert!(NodeRevision::parse(&Revision(text.into())).is_none(), "{text}");
        }
    }

    #[test]
    fn a_node_that_is_too_short_has_no_life() {
        assert!(Life::split_off(&mut vec![0; 7]).is_none());

        let mut data = Life([9; 8]).before(b"sealed");
        assert_eq!(Life::split_off(&mut data), Some(Life([9; 8])));
        assert_eq!(data, b"sealed");
    }
}
