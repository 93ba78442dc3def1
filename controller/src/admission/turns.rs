//! Turns for large reviews.
//!
//! Anyone in the cluster can post here, and 3 MiB of JSON take some twenty times as much once they
//! are parsed, so few are at a time: all turns together fit into the memory that the role is given.
//! A body is read before there is a turn for it, into one of a few places, of which one host reads
//! into one: a client that sends its body letter by letter holds up its own large ones only;
//! it takes as many hosts as there are places to hold up everybody's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::listen::{Peer, Shares};

/// The places and turns of all clients.
pub(super) struct Turns {
    /// Bodies in memory.
    bodies: Semaphore,
    parsed: Semaphore,
    readers: Shares,
}

impl Turns {
    /// All are free.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            bodies: Semaphore::new(BODIES),
            parsed: Semaphore::new(PARSED),
            readers: Shares::new(1),
        })
    }
}

/// Lets small reviews pass; large ones, and those of unknown size, are read and wait for a turn.
/// Without one they still have the request's time limit.
pub(super) async fn take(
    State(turns): State<Arc<Turns>>,
    request: Request,
    next: Next,
) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length <= SMALL_BYTES) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>();
    let host = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    // None of the semaphores is ever closed.
    let reader = turns.readers.take(host).await;
    let _place = turns.bodies.acquire().await;
    let (parts, body) = request.into_parts();
    let limited = Request::from_parts(parts.clone(), body);
    let body = match Bytes::from_request(limited, &()).await {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    drop(reader);
    let _turn = turns.parsed.acquire().await;
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// Reviews up to this size are read at once; nearly all are a tenth of it.
const SMALL_BYTES: usize = 128 << 10;

/// How many larger ones are in memory: one of each host at a time while they are being read.
const BODIES: usize = 8;

/// How many of them are parsed at a time.
const PARSED: usize = 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::extract::DefaultBodyLimit;
    use axum::http::StatusCode;
    use axum::middleware;
    use axum::routing::post;
    use futures::future;
    use futures::stream::{self, StreamExt};
    use tokio::time::timeout;
    use tower::ServiceExt;

    use super::*;

    fn router() -> Router {
        Router::new()
            .route("/", post(async |body: Bytes| body.len().to_string()))
            .layer(middleware::from_fn_with_state(Turns::new(), take))
            .layer(DefaultBodyLimit::max(1 << 20))
    }

    fn request(host: u8, body: Body) -> Request {
        let peer = Peer(([10, 0, 0, host], 1).into());
        Request::post("/").extension(peer).body(body).unwrap()
    }

    fn endless() -> Body {
        let letter = stream::once(future::ready(Ok::<_, std::io::Error>("x")));
        Body::from_stream(letter.chain(stream::pending()))
    }

    #[tokio::test]
    async fn a_large_review_does_not_wait_for_a_client_that_dribbles_many() {
        let router = router();
        for _ in 0..2 * BODIES {
            tokio::spawn(router.clone().oneshot(request(1, endless())));
        }
        tokio::task::yield_now().await;

        let large = Body::from(vec![b' '; 256 << 10]);
        let answer = router.clone().oneshot(request(2, large));

        let answer = timeout(Duration::from_secs(5), answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        // The client's own wait for each other.
        let own = router.oneshot(request(1, Body::from(vec![b' '; 256 << 10])));
        assert!(timeout(Duration::from_millis(50), own).await.is_err());
    }

    #[tokio::test]
    async fn a_body_of_unknown_size_is_limited_as_it_comes() {
        let piece = || future::ready(Ok::<_, std::io::Error>(vec![b' '; 1 << 19]));
        let body = Body::from_stream(stream::repeat_with(piece).take(4).then(|piece| piece));

        let answer = router().oneshot(request(1, body)).await.unwrap();

        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
