//! How often somebody may be refused: beyond it, they are told to wait and nobody is asked.
//!
//! Three things are counted, each in a bucket that refills with time: tokens that nobody vouches for,
//! of people, containers and the controller alike, by the address that they come from; denials, by
//! the user who was denied, each as often as the API server was asked about it; and answers without
//! secrets, by the pod that asked. What succeeds costs nothing: what the API server is asked is paid
//! for before, and given back after, so that who goes away before the answer has paid. So guessing tokens or paths is slow, and a flood of refusals does not become a flood of
//! questions to the API server or of lines in the audit log: those that were left out are counted
//! in the next line.
//!
//! People behind one address, as those who come through a port-forward are, share its bucket. Who
//! has been recognised a moment ago is not held up by it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use watchword_protocol::ErrorCode;

use super::failure::Failure;

/// The buckets of everybody who was refused lately.
pub(super) struct Throttle {
    buckets: Mutex<HashMap<Source, Bucket>>,
    /// Refusals that no audit line tells of yet.
    unwritten: AtomicU64,
}

/// Whose refusals are counted together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Source {
    /// An address. A pod has one, also in IPv6, where a network of 64 bits is a node's or more.
    Address(IpAddr),
    /// Those for whom there is no room of their own.
    Others,
    /// A pod, as the SHA-256 of its uid.
    Pod([u8; 32]),
    /// Nobody in particular: lines in the audit log about people who are not known.
    Strangers,
    /// A user, as the SHA-256 of the name.
    User([u8; 32]),
}

impl Source {
    /// The bucket of an address.
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// The bucket of a pod.
    pub(super) fn pod(uid: &str) -> Self {
        Self::Pod(Sha256::digest(uid).into())
    }

    /// The bucket of a user.
    pub(super) fn user(name: &str) -> Self {
        Self::User(Sha256::digest(name).into())
    }
}

/// Tokens that are left, and when that was so.
struct Bucket {
    left: f64,
    since: Instant,
}

impl Throttle {
    /// Nobody has been refused.
    pub(super) fn new() -> Self {
        Self { buckets: Mutex::default(), unwritten: AtomicU64::new(0) }
    }

    /// Refuses if there were too many refusals lately.
    ///
    /// # Errors
    ///
    /// `TooManyRequests`, with the time after which asking again helps.
    pub(super) fn check(&self, source: Source, now: Instant) -> Result<(), Failure> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has no bucket of their own, while there is no room for one, is one of the others.
        let source = match buckets.len() < MAX_BUCKETS || buckets.contains_key(&source) {
            true => source,
            false => Source::Others,
        };
        let left = buckets.get(&source).map_or(BURST, |bucket| bucket.left_at(now));
        drop(buckets);
        if left >= 1.0 {
            return Ok(());
        }
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        let wait = Duration::from_secs_f64((1.0 - left) / PER_SECOND);
        Err(Failure::new(
            ErrorCode::TooManyRequests,
            "too many requests were refused lately: wait before you ask again",
        )
        .after(wait))
    }

    /// Counts a refusal.
    pub(super) fn spend(&self, source: Source, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.left_at(now) < BURST);
        }
        let source = match buckets.len() < MAX_BUCKETS || buckets.contains_key(&source) {
            true => source,
            false => Source::Others,
        };
        let bucket = buckets.entry(source).or_insert(Bucket { left: BURST, since: now });
        // Below nothing too: requests that were let in together may cost more than is left.
        *bucket = Bucket { left: bucket.left_at(now) - 1.0, since: now };
    }

    /// Gives back what was spent on what was no refusal.
    pub(super) fn give_back(&self, source: Source, tokens: u32, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&source) {
            let left = bucket.left_at(now) + f64::from(tokens);
            *bucket = Bucket { left, since: now };
            // A full one says no more than none.
            if left >= BURST {
                buckets.remove(&source);
            }
        }
    }

    /// What `review` finds of a token that comes from `address`, unless too many that came from there
    /// were refused lately: then it is not even begun.
    ///
    /// # Errors
    ///
    /// Those of `review`, and of [`Throttle::check`].
    pub(super) async fn review<T>(
        &self,
        address: Option<Source>,
        review: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(address) = address else { return review.await };
        self.check(address, Instant::now())?;
        self.spend(address, Instant::now());
        let outcome = review.await;
        let code = outcome.as_ref().err().map(|failure| failure.code);
        if !matches!(code, Some(ErrorCode::Denied | ErrorCode::Unauthenticated)) {
            self.give_back(address, 1, Instant::now());
        }
        outcome
    }

    /// Has an audit line written that tells how many refusals no line has told of. They count as told
    /// once `write` says that every sink has the line; else the next one tells them.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub(super) fn tell_unwritten<E>(
        &self,
        write: impl FnOnce(u64) -> Result<bool, E>,
    ) -> Result<(), E> {
        // Mostly there are none: reading does not take the line away from the other processors.
        let unwritten = match self.unwritten.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.unwritten.swap(0, Ordering::Relaxed),
        };
        let written = write(unwritten);
        if !matches!(written, Ok(true)) {
            self.unwritten.fetch_add(unwritten, Ordering::Relaxed);
        }
        written.map(drop)
    }
}

impl Bucket {
    fn left_at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.left + elapsed * PER_SECOND).min(BURST)
    }
}

/// How many refusals in a row nobody minds: a script that tries every path of a small team, once, each
/// of which is asked about some four times.
const BURST: f64 = 200.0;

/// How many more there may be in each second after that.
const PER_SECOND: f64 = 10.0;

/// How many are counted apart: some 400 KiB.
const MAX_BUCKETS: usize = 4096;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const ALICE: Source = Source::User([1; 32]);
    const BOB: Source = Source::User([2; 32]);

    fn exhausted(throttle: &Throttle, source: Source, now: Instant) {
        while throttle.check(source, now).is_ok() {
            throttle.spend(source, now);
        }
    }

    #[test]
    fn whoever_was_refused_too_often_waits_and_nobody_else_does() {
        let (throttle, now) = (Throttle::new(), Instant::now());

        exhausted(&throttle, ALICE, now);

        let refused = throttle.check(ALICE, now).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        assert_eq!(refused.retry_after, Some(1));
        assert!(throttle.check(BOB, now).is_ok());
    }

    #[test]
    fn waiting_helps() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        exhausted(&throttle, ALICE, now);

        let later = now + Duration::from_secs(1);

        assert!(throttle.check(ALICE, later).is_ok());
        for _ in 0..10 {
            throttle.spend(ALICE, later);
        }
        assert!(throttle.check(ALICE, later).is_err());
    }

    #[test]
    fn what_was_left_out_of_the_log_is_counted_once() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        exhausted(&throttle, ALICE, now);
        let told = |written: Result<bool, ()>| {
            let mut count = None;
            let outcome = throttle.tell_unwritten(|unwritten| {
                count = Some(unwritten);
                written
            });
            assert_eq!(outcome, written.map(drop));
            count.unwrap()
        };
        told(Ok(true));

        for _ in 0..3 {
            throttle.check(ALICE, now).unwrap_err();
        }

        assert_eq!(told(Err(())), 3, "refused where no line can be written");
        assert_eq!(told(Ok(false)), 3, "continued where a sink has no line");
        assert_eq!(told(Ok(true)), 3, "neither has lost the count");
        assert_eq!(told(Ok(true)), 0);
    }

    #[tokio::test]
    async fn nobody_is_asked_about_the_tokens_of_an_address_that_showed_too_many_bad_ones() {
        let throttle = Throttle::new();
        let [bad, good] = [1, 2].map(|host| Some(Source::address(IpAddr::from([10, 0, 0, host]))));
        let refused = || Failure::new(ErrorCode::Unauthenticated, "unknown");
        let mut asked = 0;

        for _ in 0..1000 {
            let review = async {
                asked += 1;
                Err::<(), _>(refused())
            };
            throttle.review(bad, review).await.unwrap_err();
        }

        assert!(asked < 500, "{asked}");
        let told = throttle.review(bad, async { Ok(()) }).await.unwrap_err();
        assert_eq!(told.code, ErrorCode::TooManyRequests);
        assert!(throttle.review(good, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_review_that_cannot_be_had_and_one_that_succeeds_cost_nothing() {
        let throttle = Throttle::new();
        let address = Some(Source::address(IpAddr::from([10, 0, 0, 1])));

        for _ in 0..1000 {
            let away = async { Err::<(), _>(Failure::new(ErrorCode::Unavailable, "away")) };
            let refused = throttle.review(address, away).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Unavailable);
            assert!(throttle.review(address, async { Ok(()) }).await.is_ok());
        }
    }

    #[tokio::test]
    async fn who_goes_away_before_the_answer_has_paid_for_the_question() {
        let throttle = Throttle::new();
        let address = Some(Source::address(IpAddr::from([10, 0, 0, 1])));
        let mut asked = 0;

        for _ in 0..1000 {
            let review = async {
                asked += 1;
                std::future::pending::<Result<(), Failure>>().await
            };
            let _ = throttle.review(address, review).now_or_never();
        }

        assert!(asked < 500, "{asked}");
    }

    #[test]
    fn what_is_given_back_was_never_spent() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..300 {
            throttle.spend(ALICE, now);
        }
        assert!(throttle.check(ALICE, now).is_err());

        throttle.give_back(ALICE, 300, now);

        assert!(throttle.check(ALICE, now).is_ok());
        assert!(throttle.buckets.lock().unwrap().is_empty());
    }

    #[test]
    fn many_sources_take_no_more_than_their_room_and_are_then_counted_together() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let source = |number: u32| Source::address(IpAddr::V4(number.into()));

        for number in 0..2 * u32::try_from(MAX_BUCKETS).unwrap() {
            throttle.spend(source(number), now);
        }

        assert!(throttle.buckets.lock().unwrap().len() <= MAX_BUCKETS + 1);
        assert!(throttle.check(source(u32::MAX), now).is_err());
        assert!(throttle.check(source(0), now).is_ok());
    }

    #[test]
    fn pods_of_one_network_do_not_share_a_bucket() {
        let [a, b]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|one| one.parse().unwrap());
        let [c, d]: [IpAddr; 2] = ["::ffff:10.0.0.1", "10.0.0.1"].map(|one| one.parse().unwrap());

        assert_ne!(Source::address(a), Source::address(b));
        assert_eq!(Source::address(c), Source::address(d));
    }
}
