//! How many bytes of values may be on their way out at once, to containers and to people.
//!
//! A tenant decides how many references a definition has and how many pods start together, and who
//! may read a secret reads it as often as they like. This process must not fall over them: it would
//! come back sealed. So one answer is limited, all answers together are too, and what does not fit is
//! told to ask again in a moment.
//!
//! Of what all answers may take, those to one host have an eighth ([`Shares`]), and an answer has a
//! minute to be taken ([`Prompt`]): a client that asks and takes nothing holds up nobody else, and
//! its own for a minute.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watchword_protocol::ErrorCode;

use super::failure::Failure;
use crate::listen::{self, Prompt, Shares};

/// What all answers share.
pub(super) struct Budget(Arc<Units>);

/// What is left of the budget: for all, and for each host.
struct Units {
    all: Arc<Semaphore>,
    hosts: Shares,
}

/// The part of the budget that one answer has taken; given back when it is dropped.
pub(super) struct Share {
    bytes: usize,
    host: IpAddr,
    taken: Vec<(listen::Share, OwnedSemaphorePermit)>,
    units: Arc<Units>,
}

impl Budget {
    /// Nothing on its way.
    pub(super) fn new() -> Self {
        let units = TOTAL_BYTES / UNIT_BYTES;
        Self(Arc::new(Units { all: Arc::new(Semaphore::new(units)), hosts: Shares::of(units) }))
    }

    /// A share for one answer to `host`, of nothing yet.
    pub(super) fn share(&self, host: IpAddr) -> Share {
        Share { bytes: 0, host, taken: Vec::new(), units: self.0.clone() }
    }
}

impl Share {
    /// Takes a value of this size into the answer.
    ///
    /// # Errors
    ///
    /// `Invalid` when the answer would be too large, `Unavailable` when all answers together are, or
    /// all that are on their way to this host.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        let units = |bytes: usize| bytes.div_ceil(UNIT_BYTES);
        let more = units(self.bytes + bytes) - units(self.bytes);
        self.bytes += bytes;
        if self.bytes > ANSWER_BYTES {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!(
                    "the secrets of one answer take more than {} MiB together; use fewer",
                    ANSWER_BYTES >> 20
                ),
            ));
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Units { all, hosts } = &*self.units;
        // The host's own comes first: who has had that takes nothing from the others.
        let own = hosts.try_take_many(self.host, more).ok_or_else(|| {
            let message = "too many secrets are on their way to this address; try again";
            Failure::new(ErrorCode::Unavailable, message)
        })?;
        let permit = all.clone().try_acquire_many_owned(more).map_err(|_| {
            Failure::new(ErrorCode::Unavailable, "too many secrets are on their way; try again")
        })?;
        self.taken.push((own, permit));
        Ok(())
    }

    /// The answer as a response that keeps its share until its last piece is taken off for
    /// sending: a client that reads slowly holds what it was promised, no more, and not for long.
    pub(super) fn respond(self, media: &'static str, body: Bytes) -> Response {
        let length = body.len();
        let pieces = stream::unfold((body, self), |(mut rest, share)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            Some((Ok::<_, Infallible>(piece), (rest, share)))
        });
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(media)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (StatusCode::OK, headers, Extension(Prompt), Body::from_stream(pieces)).into_response()
    }

    /// The same for what serialises always, as what has strings for keys does.
    pub(super) fn respond_json(self, answer: &impl Serialize) -> Response {
        self.respond(JSON, Bytes::from(serde_json::to_vec(answer).unwrap_or_default()))
    }
}

/// The form of all answers but a value as it is.
pub(super) const JSON: &str = "application/json";

/// Values in one answer; sixteen of the largest secrets, and all that one host has.
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

    fn host(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[test]
    fn one_answer_is_limited() {
        let budget = Budget::new();
        let mut share = budget.share(host(1));

        share.take(ANSWER_BYTES).unwrap();

        assert_eq!(share.take(1).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn all_answers_together_are_limited_and_a_dropped_one_makes_room() {
        let budget = Budget::new();
        let mut shares: Vec<Share> = (1..=8).map(|number| budget.share(host(number))).collect();
        for share in &mut shares {
            share.take(TOTAL_BYTES / 8).unwrap();
        }

        assert_eq!(budget.share(host(9)).take(1).unwrap_err().code, ErrorCode::Unavailable);
        shares.pop();
        assert!(budget.share(host(9)).take(1).is_ok());
    }

    #[test]
    fn a_host_that_takes_nothing_holds_its_eighth_and_leaves_the_rest_to_others() {
        let budget = Budget::new();
        let mut held = Vec::new();

        loop {
            let mut share = budget.share(host(1));
            if share.take(UNIT_BYTES).is_err() {
                break;
            }
            held.push(share);
        }

        assert_eq!(held.len(), TOTAL_BYTES / UNIT_BYTES / 8);
        assert!(budget.share(host(2)).take(ANSWER_BYTES).is_ok());
        held.truncate(1);
        assert!(budget.share(host(1)).take(UNIT_BYTES).is_ok());
    }

    #[tokio::test]
    async fn an_answer_holds_its_share_until_its_last_piece_is_taken_for_which_it_has_a_time() {
        let budget = Budget::new();
        let mut share = budget.share(host(1));
        share.take(ANSWER_BYTES).unwrap();

        let response = share.respond_json(&"answer");

        assert!(response.extensions().get::<Prompt>().is_some());
        assert!(budget.share(host(1)).take(1).is_err());
        axum::body::to_bytes(response.into_body(), PIECE_BYTES).await.unwrap();
        assert!(budget.share(host(1)).take(1).is_ok());
    }
}
