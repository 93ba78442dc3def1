//! How long a request may take: the listener's limit, and what its handler gives it.

use std::{sync::Arc, time::Duration};

use http::Extensions;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::activity::Activity;

/// How long a request may take to the beginning of its answer, as an extension of each request. A
/// handler that knows its caller may give one more, and its connection with it.
#[derive(Clone, Debug)]
pub struct Patience {
    activity: Arc<Activity>,
    ends: Arc<watch::Sender<Ends>>,
}

/// Until when a request may do what it does.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// All of it.
    answer: Instant,
    /// Its body, while it is being read.
    body: Option<Instant>,
    /// What the handler has given.
    given: Instant,
    /// Whether the handler was told of the end where it read the body.
    is_cut: bool,
}

impl Ends {
    /// The one that comes first.
    fn first(&self) -> Instant {
        self.body.map_or(self.answer, |body| body.min(self.answer))
    }
}

impl Patience {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        let now = Instant::now();
        let answer = now + activity.limits.request;
        let ends = Ends { answer, body: None, given: now, is_cut: false };
        Self { activity, ends: Arc::new(watch::Sender::new(ends)) }
    }

    /// Gives the request at least this long from now.
    pub fn extend(&self, limit: Duration) {
        let given = Instant::now() + limit;
        self.ends.send_modify(|ends| {
            ends.given = ends.given.max(given);
            ends.answer = ends.answer.max(given);
            ends.body = ends.body.map(|body| body.max(given));
        });
        self.activity.expect_until(given);
    }

    /// What gives the request with these extensions `limit` more from each time that it is called:
    /// what is long has time as long as it goes on.
    pub fn steps(extensions: &Extensions, limit: Duration) -> impl Fn() + Send + Sync + use<> {
        let patience = extensions.get::<Self>().cloned();
        move || {
            if let Some(patience) = &patience {
                patience.extend(limit);
            }
        }
    }

    /// The handler has begun to read the body.
    pub(super) fn begin_body(&self) {
        let body = Instant::now() + self.activity.limits.body;
        self.ends.send_modify(|ends| ends.body = Some(body.max(ends.given)));
    }

    /// The body has come to its end, or nobody reads it any more.
    pub(super) fn end_body(&self) {
        self.ends.send_modify(|ends| ends.body = None);
    }

    /// Returns once the request has taken too long.
    pub(super) async fn end(&self) {
        let mut ends = self.ends.subscribe();
        loop {
            let end = ends.borrow_and_update().first();
            if time::timeout_at(end, ends.changed()).await.is_err() {
                return;
            }
        }
    }

    /// The handler is told that the body has taken too long.
    pub(super) fn cut(&self) {
        self.ends.send_modify(|ends| ends.is_cut = true);
    }

    /// Whether the handler was told so: whatever it makes of it, the client hears that.
    pub(super) fn is_cut(&self) -> bool {
        self.ends.borrow().is_cut
    }

    /// Whether the request has taken too long.
    pub(super) fn is_over(&self) -> bool {
        self.ends.borrow().first() <= Instant::now()
    }
}
