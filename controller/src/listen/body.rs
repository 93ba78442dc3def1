//! The bodies of requests, which have a limit, and of answers, which have time as long as they move.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};

use super::TOO_LONG;
use super::activity::{Activity, Untaken};
use super::patience::Patience;

/// The body of a request, which has a limit of its own while it is read. It holds also for work that
/// goes on after the client was answered that it took too long.
pub(super) struct Coming {
    body: Incoming,
    has_begun: bool,
    patience: Patience,
}

impl Coming {
    pub(super) fn new(body: Incoming, patience: Patience) -> Self {
        Self { body, has_begun: false, patience }
    }
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.has_begun && !self.body.is_end_stream() {
            self.has_begun = true;
            self.patience.begin_body();
        }
        let is_over = self.patience.is_over();
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(_)) if is_over => {
                self.patience.cut();
                Some(Err(axum::Error::new(io::Error::other(TOO_LONG))))
            }
            frame => frame.map(|frame| frame.map_err(axum::Error::new)),
        };
        if self.has_begun && (self.body.is_end_stream() || !matches!(frame, Some(Ok(_)))) {
            self.patience.end_body();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.patience.end_body();
    }
}

/// The body of an answer, which gives its connection time as long as it is taken.
pub(super) struct Moving {
    activity: Arc<Activity>,
    body: Body,
    _prompt: Option<Untaken>,
}

impl Moving {
    pub(super) fn new(body: Body, activity: Arc<Activity>, prompt: Option<Untaken>) -> Self {
        Self { activity, body, _prompt: prompt }
    }
}

impl HttpBody for Moving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_some() && !self.body.is_end_stream() {
            self.activity.moves();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
