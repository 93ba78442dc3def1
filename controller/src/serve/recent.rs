//! What was found out a moment ago, so that it need not be asked again: a map of bounded size whose
//! entries soon end by themselves.
//!
//! Keys are hashes: neither a token nor a name is kept to be found in a dump. What is remembered is
//! never more than a few seconds behind the truth, and where that is too much, nobody asks here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The SHA-256 of what an entry is about.
pub(super) type Key = [u8; 32];

/// Answers by key, each for a short time.
pub(super) struct Recent<V> {
    capacity: usize,
    entries: Mutex<HashMap<Key, Entry<V>>>,
}

struct Entry<V> {
    end: Instant,
    value: V,
}

impl<V: Clone> Recent<V> {
    /// Nothing, and never more than `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    /// What was found out about `key`, if it still counts.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|entry| now < entry.end).map(|entry| entry.value.clone())
    }

    /// Remembers something for as long as `lifetime`.
    pub(super) fn insert(&self, key: Key, value: V, lifetime: Duration, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            entries.retain(|_, entry| now < entry.end);
        }
        // Full of entries that still count: whoever must be asked about again costs one request.
        if entries.len() >= self.capacity {
            entries.clear();
        }
        entries.insert(key, Entry { end: now + lifetime, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(10);

    #[test]
    fn an_entry_ends_with_its_lifetime() {
        let now = Instant::now();
        let recent = Recent::new(4);

        recent.insert([1; 32], "alice", LIFETIME, now);

        assert_eq!(recent.get(&[1; 32], now + LIFETIME - Duration::from_millis(1)), Some("alice"));
        assert_eq!(recent.get(&[1; 32], now + LIFETIME), None);
        assert_eq!(recent.get(&[2; 32], now), None);
    }

    #[test]
    fn there_are_never_more_entries_than_the_capacity() {
        let now = Instant::now();
        let recent = Recent::new(4);

        for key in 0..100 {
            recent.insert([key; 32], key, LIFETIME, now);
            assert!(recent.entries.lock().unwrap().len() <= 4);
        }

        assert_eq!(recent.get(&[99; 32], now), Some(99));
    }

    #[test]
    fn entries_that_have_ended_make_room_first() {
        let now = Instant::now();
        let recent = Recent::new(2);
        recent.insert([1; 32], 1, Duration::ZERO, now);
        recent.insert([2; 32], 2, LIFETIME, now);

        recent.insert([3; 32], 3, LIFETIME, now);

        assert_eq!(recent.get(&[2; 32], now), Some(2));
        assert_eq!(recent.get(&[3; 32], now), Some(3));
    }
}
