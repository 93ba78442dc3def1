//! How long to wait before asking again. Pure: randomness comes in as an argument.

use std::time::Duration;

/// Waits with jitter: each is anywhere between the shortest and a ceiling that doubles from one to
/// the next, so that a thousand pods that lost the store at once do not come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// The shortest wait.
    pub(crate) const SHORTEST: Duration = Duration::from_millis(100);
    /// The longest wait.
    pub(crate) const LONGEST: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self { ceiling: Self::SHORTEST * 2 }
    }

    /// The next wait, where `random` is any number, all of them equally likely.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let span = (self.ceiling - Self::SHORTEST).as_micros();
        // The upper half of the product is `random` scaled to the span; the cast cannot lose
        // anything, because the span is less than 2^24 µs.
        let above = (u128::from(random) * (span + 1)) >> 64;
        self.ceiling = (self.ceiling * 2).min(Self::LONGEST);
        Self::SHORTEST + Duration::from_micros(above as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Backoff;

    proptest! {
        #[test]
        fn waits_are_never_shorter_or_longer_than_promised(
            random in proptest::collection::vec(any::<u64>(), 1..50),
        ) {
            let mut backoff = Backoff::new();

            for random in random {
                let wait = backoff.next(random);
                prop_assert!((Backoff::SHORTEST..=Backoff::LONGEST).contains(&wait), "{wait:?}");
            }
        }
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_wait() {
        let mut backoff = Backoff::new();

        let waits: Vec<_> = (0..9).map(|_| backoff.next(u64::MAX).as_millis()).collect();

        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn the_luckiest_wait_is_the_shortest() {
        assert_eq!(Backoff::new().next(0), Backoff::SHORTEST);
    }
}
