//! Back-off that remembers: how long to wait after the n-th failure in a row, per key.
//!
//! Full jitter: the wait is random below a ceiling that doubles with every failure, so that what
//! failed together does not come back together. The ceiling never shrinks before a reset.
//! kube's `error_policy` is told of failures only, so whoever succeeds calls [`Backoff::reset`].

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The failures in a row of every key that failed last time.
#[derive(Debug)]
pub struct Backoff<K> {
    base: Duration,
    failures: Mutex<HashMap<K, u32>>,
    max: Duration,
}

impl<K: Eq + Hash> Backoff<K> {
    /// Ceilings from `base`, doubling up to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, failures: Mutex::default(), max }
    }

    /// Counts a failure of `key` and says how long to wait: at least a millisecond, at most the
    /// ceiling.
    pub fn next(&self, key: K) -> Duration {
        self.next_with(key, random())
    }

    /// As [`Backoff::next`], with the randomness given: 0 to 1, 1 being the ceiling.
    pub fn next_with(&self, key: K, random: f64) -> Duration {
        let failures = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let count = failures.entry(key).or_default();
            *count = count.saturating_add(1);
            *count
        };
        let wait = ceiling(self.base, self.max, failures).mul_f64(random.clamp(0.0, 1.0));
        wait.max(Duration::from_millis(1))
    }

    /// Forgets the failures of `key`: it succeeded, or is gone.
    pub fn reset(&self, key: &K) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The longest wait after that many failures in a row, counted from 1.
pub fn ceiling(base: Duration, max: Duration, failures: u32) -> Duration {
    2_u32
        .checked_pow(failures.saturating_sub(1))
        .map_or(max, |factor| base.checked_mul(factor).map_or(max, |ceiling| ceiling.min(max)))
}

/// A random number from 0 to 1, good enough for jitter and for nothing else.
pub fn random() -> f64 {
    // The standard library seeds each RandomState differently; 32 bits of it fit into f64 exactly.
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_wait_never_shrinks_before_a_reset(
            base in 1_u64..10_000,
            more in 0_u64..1_000_000,
            failures in 1_usize..80,
        ) {
            let (base, max) = (Duration::from_millis(base), Duration::from_millis(base + more));
            let backoff = Backoff::new(base, max);

            let waits: Vec<_> = (0..failures).map(|_| backoff.next_with("a", 1.0)).collect();

            prop_assert!(waits.is_sorted());
            prop_assert_eq!(waits[0], base);
            prop_assert!(waits.iter().all(|wait| *wait <= max));
        }

        #[test]
        fn a_wait_is_never_longer_than_its_ceiling(random in 0.0_f64..=1.0, failures in 1_u32..80) {
            let (base, max) = (Duration::from_millis(5), Duration::from_secs(300));
            let backoff = Backoff::new(base, max);
            for _ in 1..failures {
                backoff.next("a");
            }

            let wait = backoff.next_with("a", random);

            prop_assert!(wait <= ceiling(base, max, failures).max(Duration::from_millis(1)));
        }
    }

    #[test]
    fn a_reset_forgets_one_key_and_no_other() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for key in ["a", "a", "b", "b"] {
            backoff.next(key);
        }

        backoff.reset(&"a");

        assert_eq!(backoff.next_with("a", 1.0), Duration::from_secs(1));
        assert_eq!(backoff.next_with("b", 1.0), Duration::from_secs(4));
    }

    #[test]
    fn jitter_is_spread_over_its_range() {
        let numbers: Vec<_> = (0..1000).map(|_| random()).collect();

        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number < 0.1));
        assert!(numbers.iter().any(|number| *number > 0.9));
    }
}
