//! Conditions whose `lastTransitionTime` moves only when their status does.
//!
//! Otherwise each write of a status would differ from the last one, and trigger the next.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::stage::clean;

/// The three statuses of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Truth {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// It is not known whether it holds.
    Unknown,
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::False => "False",
            Self::True => "True",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition is to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) truth: Truth,
}

impl Verdict {
    pub(super) fn new(truth: Truth, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: reason.into(), truth }
    }
}

/// The condition of this type, as of `now`, given those that stand in the status so far.
pub(super) fn condition(
    kind: &str,
    verdict: Verdict,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    let status = verdict.truth.as_str();
    let unchanged = before.iter().find(|one| one.type_ == kind && one.status == status);
    Condition {
        last_transition_time: unchanged
            .map_or_else(|| Time(now), |one| one.last_transition_time.clone()),
        message: clean(&verdict.message),
        observed_generation: generation,
        reason: verdict.reason,
        status: status.to_owned(),
        type_: kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_with_the_status_and_with_nothing_else() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, later) = (at("2026-11-23T12:00:00Z"), at("2026-11-23T13:00:00Z"));
        let make = |truth, message: &str, before: &[Condition], now| {
            condition("Accepted", Verdict::new(truth, "R", message), Some(1), before, now)
        };

        let one = make(Truth::True, "fine", &[], first);
        let two = make(Truth::True, "still fine", std::slice::from_ref(&one), later);
        let three = make(Truth::False, "broken", std::slice::from_ref(&two), later);

        assert_eq!(two.last_transition_time, Time(first));
        assert_eq!(three.last_transition_time, Time(later));
    }
}
