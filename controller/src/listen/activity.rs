//! What goes on on a connection: whether it is silent, and what of it may still take its time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::Limits;

/// When a connection last did something, and until when more is expected of it.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How long silence may last now: shorter before the first request.
    allowance: Duration,
    /// When each prompt answer began that is not taken yet, the oldest first.
    answers: Vec<Instant>,
    /// Until when it may go on although it is old.
    expected_until: Instant,
    requests: usize,
    since: Instant,
}

impl Activity {
    pub(super) fn new(limits: Limits) -> Self {
        let (allowance, now) = (limits.headers, Instant::now());
        let state =
            State { allowance, answers: Vec::new(), expected_until: now, requests: 0, since: now };
        Self { limits, state: Mutex::new(state) }
    }

    /// Watches over a prompt answer as long as its body lives.
    pub(super) fn begin_answer(activity: &Arc<Self>) -> Untaken {
        let since = Instant::now();
        activity.change(|state| state.answers.push(since));
        Untaken { activity: Arc::clone(activity), since }
    }

    /// Returns once a prompt answer has not been taken in time.
    pub(super) async fn overdue(&self) {
        loop {
            // Of those that are yet to begin none ends sooner.
            let oldest = self.change(|state| state.answers.first().copied());
            let end = oldest.unwrap_or_else(Instant::now) + self.limits.answer;
            if end <= Instant::now() {
                return;
            }
            time::sleep_until(end).await;
        }
    }

    /// Counts a request as long as the answer lives.
    pub(super) fn begin(activity: &Arc<Self>) -> Busy {
        activity.change(|state| state.requests += 1);
        Busy(Arc::clone(activity))
    }

    /// Returns once no request has been running for as long as is allowed.
    pub(super) async fn silence(&self) {
        loop {
            let end = self.change(|state| match state.requests {
                0 => state.since + state.allowance,
                _ => Instant::now() + self.limits.request,
            });
            if end <= Instant::now() {
                return;
            }
            time::sleep_until(end).await;
        }
    }

    /// A piece of an answer went out, and there is more.
    pub(super) fn moves(&self) {
        let now = Instant::now();
        self.change(|state| {
            state.since = now;
            state.expected_until = state.expected_until.max(now + self.limits.idle);
        });
    }

    pub(super) fn expect_until(&self, end: Instant) {
        self.change(|state| state.expected_until = state.expected_until.max(end));
    }

    pub(super) fn expected_until(&self) -> Instant {
        self.change(|state| state.expected_until)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let idle = self.0.limits.idle;
        self.0.change(|state| {
            state.requests -= 1;
            state.allowance = idle;
            state.since = Instant::now();
        });
    }
}

/// A prompt answer whose body lives.
pub(super) struct Untaken {
    activity: Arc<Activity>,
    since: Instant,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.activity.change(|state| {
            if let Some(place) = state.answers.iter().position(|since| *since == self.since) {
                state.answers.remove(place);
            }
        });
    }
}
