//! A budget: how many things may be under way at once.
//!
//! It is kept in memory by whoever leads. A successor begins with none of it, and so may start as
//! many again: the budget spares a cluster a storm, and nothing is decided by it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What is under way, by uid, and since when.
#[derive(Clone, Debug, Default)]
pub struct Budget(BTreeMap<String, Timestamp>);

impl Budget {
    /// Whether this may be started now; then it is under way until it is [done](Budget::done), or ten
    /// minutes have passed. What is under way already is not started a second time.
    pub fn start(&mut self, uid: &str, now: Timestamp) -> bool {
        self.0.retain(|_, since| now.duration_since(*since) < LONGEST);
        if self.0.len() >= AT_ONCE || self.0.contains_key(uid) {
            return false;
        }
        self.0.insert(uid.to_owned(), now);
        true
    }

    /// It is no longer under way.
    pub fn done(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

/// How many are under way at once.
const AT_ONCE: usize = 10;

/// What takes longer no longer keeps others from being started: it may never end.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn no_more_than_ten_are_under_way_and_each_once() {
        let mut budget = Budget::default();

        let started: Vec<u32> =
            (0..20).filter(|number| budget.start(&number.to_string(), at(0))).collect();

        assert_eq!(started, (0..10).collect::<Vec<_>>());
        assert!(!budget.start("3", at(1)), "it is under way");
        budget.done("3");
        assert!(budget.start("3", at(1)));
        assert!(!budget.start("10", at(1)), "its place is taken again");
    }

    #[test]
    fn what_never_ends_makes_room_after_a_while() {
        let mut budget = Budget::default();
        for number in 0..10 {
            assert!(budget.start(&number.to_string(), at(number)));
        }

        assert!(!budget.start("late", at(9)));
        assert!(budget.start("late", at(10)), "the first one has had its time");
        assert!(!budget.start("later", at(10)));
    }
}
