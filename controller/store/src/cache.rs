//! What an unsealed store remembers: heads, and the ciphertext of versions that were read lately.
//!
//! No value is ever kept here: a version's bytes stay sealed and are opened for each read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::backend::Revision;
use crate::head::Head;
use crate::name::ObjectName;

/// A head that was opened.
pub(crate) struct KnownHead {
    pub(crate) sequence: u64,
    pub(crate) revision: Revision,
    pub(crate) head: Head,
}

/// The newest head of each path that this replica has seen.
///
/// The sequences outlive sealing, for they reveal nothing and are what an older head is told by.
#[derive(Default)]
pub(crate) struct Heads(HashMap<ObjectName, Seen>);

struct Seen {
    sequence: u64,
    known: Option<Arc<KnownHead>>,
}

impl Heads {
    pub(crate) fn get(&self, name: &ObjectName) -> Option<Arc<KnownHead>> {
        self.0.get(name)?.known.clone()
    }

    /// The highest sequence seen so far; 0 if none.
    pub(crate) fn seen(&self, name: &ObjectName) -> u64 {
        self.0.get(name).map_or(0, |seen| seen.sequence)
    }

    /// Remembers a head unless a newer one is known: answers may overtake each other.
    pub(crate) fn insert(&mut self, name: &ObjectName, head: &Arc<KnownHead>) {
        if head.sequence >= self.seen(name) {
            let seen = Seen { sequence: head.sequence, known: Some(Arc::clone(head)) };
            self.0.insert(name.clone(), seen);
        }
    }

    /// Forgets what is secret: paths, authors, times.
    pub(crate) fn seal(&mut self) {
        for seen in self.0.values_mut() {
            seen.known = None;
        }
    }
}

/// Sealed versions by name, the least recently used of which leave first.
///
/// An entry is never wrong: a version's name is unique, so its bytes are what they were.
pub(crate) struct Versions {
    capacity: usize,
    bytes: usize,
    clock: u64,
    entries: HashMap<ObjectName, (u64, Arc<[u8]>)>,
    /// Time of last use → name. Every name stands here too, which costs some 100 bytes each.
    order: BTreeMap<u64, ObjectName>,
}

impl Versions {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, bytes: 0, clock: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    pub(crate) fn get(&mut self, name: &ObjectName) -> Option<Arc<[u8]>> {
        let (used, bytes) = self.entries.get_mut(name)?;
        self.clock += 1;
        if let Some(name) = self.order.remove(used) {
            self.order.insert(self.clock, name);
        }
        *used = self.clock;
        Some(Arc::clone(bytes))
    }

    pub(crate) fn insert(&mut self, name: ObjectName, bytes: Arc<[u8]>) {
        self.remove(&name);
        if bytes.len() > self.capacity {
            return;
        }
        self.clock += 1;
        self.bytes += bytes.len();
        self.order.insert(self.clock, name.clone());
        self.entries.insert(name, (self.clock, bytes));
        while self.bytes > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some((_, bytes)) = self.entries.remove(&oldest) {
                self.bytes -= bytes.len();
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &ObjectName) {
        if let Some((used, bytes)) = self.entries.remove(name) {
            self.order.remove(&used);
            self.bytes -= bytes.len();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> ObjectName {
        let path = format!("p{number}").parse().unwrap();
        ObjectName::head(&[0; 32], &path)
    }

    fn bytes(length: usize) -> Arc<[u8]> {
        vec![0; length].into()
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut versions = Versions::new(100);
        versions.insert(name(1), bytes(40));
        versions.insert(name(2), bytes(40));

        assert!(versions.get(&name(1)).is_some());
        versions.insert(name(3), bytes(40));

        assert!(versions.get(&name(1)).is_some());
        assert!(versions.get(&name(2)).is_none());
        assert!(versions.get(&name(3)).is_some());
        assert_eq!((versions.bytes, versions.order.len()), (80, 2));
    }

    #[test]
    fn the_bound_holds_whatever_is_inserted() {
        let mut versions = Versions::new(100);
        for number in 0..500 {
            let length = usize::try_from(number * 37 % 120).unwrap();
            versions.insert(name(number % 7), bytes(length));

            assert!(versions.bytes <= 100);
            assert_eq!(versions.order.len(), versions.entries.len());
            assert_eq!(
                versions.bytes,
                versions.entries.values().map(|(_, bytes)| bytes.len()).sum::<usize>()
            );
        }
    }
}
