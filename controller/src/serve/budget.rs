//! How many bytes of values may be on their way out at once.
//!
//! A tenant decides how many references a definition has and how many pods start together, and
//! this process must not fall over them: it would come back sealed. So one answer is limited, all
//! answers together are too, and what does not fit is told to ask again in a moment.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watchword_protocol::{ErrorCode, ResolveAnswer};

use super::failure::Failure;

/// What all answers share.
pub(super) struct Budget(Arc<Semaphore>);

/// The part of the budget that one answer has taken; given back when it is dropped.
pub(super) struct Share {
    bytes: usize,
    budget: Arc<Semaphore>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    /// Nothing on its way.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL_BYTES / UNIT_BYTES)))
    }

    /// A share for one answer, of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { bytes: 0, budget: self.0.clone(), permits: Vec::new() }
    }
}

impl Share {
    /// Takes a value of this size into the answer.
    ///
    /// # Errors
    ///
    /// `Invalid` when the answer would be too large, `Unavailable` when all answers together are.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        let units = |bytes: usize| bytes.div_ceil(UNIT_BYTES);
        let more = units(self.bytes + bytes) - units(self.bytes);
        self.bytes += bytes;
        if self.bytes > ANSWER_BYTES {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!(
                    "the secrets of one container take more than {} MiB together; use fewer",
                    ANSWER_BYTES >> 20
                ),
            ));
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = self.budget.clone().try_acquire_many_owned(more).map_err(|_| {
            Failure::new(ErrorCode::Unavailable, "too many secrets are on their way; try again")
        })?;
        self.permits.push(permit);
        Ok(())
    }

    /// The answer as a response that keeps its share until its last piece is taken off for
    /// sending: a client that reads slowly holds what it was promised, and no more.
    pub(super) fn respond(self, answer: &ResolveAnswer) -> Response {
        // The wire types serialise always: their keys are strings.
        let body = Bytes::from(serde_json::to_vec(answer).unwrap_or_default());
        let length = body.len();
        let pieces = stream::unfold((body, self), |(mut rest, share)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            Some((Ok::<_, Infallible>(piece), (rest, share)))
        });
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (StatusCode::OK, headers, Body::from_stream(pieces)).into_response()
    }
}

/// Values in one answer; sixteen of the largest secrets.
const ANSWER_BYTES: usize = 16 << 20;

/// Values in all answers; in memory they take about three times as much, in base64 and JSON.
const TOTAL_BYTES: usize = 128 << 20;

/// What is counted in.
const UNIT_BYTES: usize = 64 << 10;

/// What is handed to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_limited() {
        let budget = Budget::new();
        let mut share = budget.share();

        share.take(ANSWER_BYTES).unwrap();

        assert_eq!(share.take(1).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn all_answers_together_are_limited_and_a_dropped_one_makes_room() {
        let budget = Budget::new();
        let mut shares: Vec<Share> =
            (0..TOTAL_BYTES / ANSWER_BYTES).map(|_| budget.share()).collect();
        for share in &mut shares {
            share.take(ANSWER_BYTES).unwrap();
        }

        assert_eq!(budget.share().take(1).unwrap_err().code, ErrorCode::Unavailable);
        shares.pop();
        assert!(budget.share().take(1).is_ok());
    }
}
