//! The accept loop below every listener, with the limits that keep slow and greedy clients out.
//!
//! A connection costs nothing for long that it does not use: the handshake, the headers, a whole
//! request with its body, silence and age each have a limit. What is long has time as long as it
//! moves: an answer whose body is taken in, and a body whose handler asks for more time with each
//! piece. Connections and requests are counted, and those beyond the limit wait their turn: a full
//! house refuses nobody for good.
//!
//! An answer that holds what others wait for ([`Prompt`]) has a time of its own, however it moves:
//! what nobody takes in that time is cut off, and its connection with it, since HTTP/2 does not ask
//! a body that has no room to go on.
//!
//! One host has an eighth of the connections and of the turns at a time ([`Shares`]): what it opens
//! beyond is closed, and its requests wait for each other, not the others for them. So a pod that
//! sends its bodies letter by letter is in nobody's way but its own. API servers open few
//! connections, and sixteen of their reviews at a time are more than processors can answer.
//!
//! A turn is the request's, and may outlive its client: work that goes on when a client has gone
//! holds on to its [`Turn`]. So a client that gives up one request after the other, which costs it
//! nothing, has no more at work than one that waits.
//!
//! The size of bodies is the routes' own affair.
//!
//! Why not axum-server: it cannot tell one connection to end. Here every connection is asked to
//! (GOAWAY in HTTP/2) when it is old, so that an API server that keeps one connection for ever is
//! spread over the replicas; and silence ends one too, which HTTP/2's own timeouts do not.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, body::Body, response::IntoResponse};
use http::{Extensions, Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{self, Instant},
};
use tower::ServiceExt;
use tracing::{debug, warn};
use watchword_protocol::{ErrorAnswer, ErrorCode};

use crate::{
    backoff,
    chain::Chain,
    shutdown::{self, Shutdown},
};

use self::activity::Activity;
use self::body::{Coming, Moving};

pub use self::patience::Patience;
pub use self::shares::{Share, Shares};
pub use self::turns::{Turn, Turns};

mod activity;
mod body;
#[cfg(test)]
pub(crate) mod http2;
mod patience;
mod shares;
mod turns;

/// How much of what a listener's clients may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A [`Prompt`] answer, from its beginning to the moment when its last piece is taken.
    pub answer: Duration,
    /// Age at which a connection is asked to end; up to a tenth is taken off at random, so that
    /// connections do not all end together.
    pub age: Duration,
    /// A request's body, from the moment when its handler begins to read it. The handler may give
    /// it more.
    pub body: Duration,
    /// Open connections at once; more wait unaccepted. A host has an eighth of them; of those that
    /// it opens beyond, each is closed at once.
    pub connections: usize,
    /// How long after a shutdown was requested connections are still accepted.
    pub drain_delay: Duration,
    /// How long a connection that was asked to end may take for it, after what it does has come to
    /// its end or does not move any more.
    pub end: Duration,
    /// From the connection's first byte to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the handshake, or in HTTP/1 the last answer, to the end of a request's headers.
    pub headers: Duration,
    /// Silence between two requests, or between two pieces of an answer.
    pub idle: Duration,
    /// A request from the end of its headers to the beginning of its answer: reading the body,
    /// waiting for a turn, the handler.
    pub request: Duration,
    /// Requests at once, over all connections; more wait. A host has an eighth of them.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            age: Duration::from_mins(10),
            answer: Duration::from_mins(1),
            body: Duration::from_secs(10),
            connections: 512,
            drain_delay: shutdown::DRAIN_DELAY,
            end: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            // Longer than the 90 s after which Go's clients give up an idle connection.
            idle: Duration::from_secs(120),
            request: Duration::from_secs(10),
            // 128 bodies of 3 MiB still fit into half a GiB.
            requests: 128,
        }
    }
}

/// How a connection is accepted: plainly, or with a TLS handshake.
pub trait Transport: Clone + Send + Sync + 'static {
    /// What requests are read from.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Makes the connection ready for HTTP. The time that it may take is the caller's limit.
    fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send;
}

/// A connection that is ready for HTTP.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What every request of this connection gets as extensions.
    pub extensions: Extensions,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// What requests are read from.
    pub stream: S,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Plain TCP and HTTP/1.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;

    async fn accept(&self, stream: TcpStream) -> io::Result<Accepted<TcpStream>> {
        Ok(Accepted { extensions: Extensions::new(), protocol: Protocol::Http1, stream })
    }
}

/// The client's address, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The host that a request with these extensions comes from. What came by no listener counts as
    /// coming from one host.
    pub fn host(extensions: &Extensions) -> IpAddr {
        let peer = extensions.get::<Self>();
        peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip())
    }
}

/// As an extension of an answer: it holds what others wait for, and has to be taken in time
/// ([`Limits::answer`]). Any other has time as long as it moves.
#[derive(Clone, Copy, Debug)]
pub struct Prompt;

/// Listens on `address`.
///
/// # Errors
///
/// The address is taken, or not ours; the message names it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Serves `router` on `listener` until a shutdown is requested and its drain is over.
pub async fn serve<T: Transport>(
    listener: TcpListener,
    transport: T,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let (close, closing) = Shutdown::channel();
    let shared = Arc::new(Shared {
        closing,
        limits,
        requests: Turns::new(limits.requests, Shares::of(limits.requests)),
        router,
        transport,
    });
    let slots = Arc::new(Semaphore::new(limits.connections));
    let shares = Shares::of(limits.connections);
    let mut connections = JoinSet::new();

    let mut drained = pin!(async {
        shutdown.requested().await;
        time::sleep(limits.drain_delay).await;
    });
    loop {
        tokio::select! {
            () = &mut drained => break,
            // Finished connections are forgotten as they end.
            Some(_) = connections.join_next() => {}
            (slot, stream, peer) = accept(&listener, &slots, &shares) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    shared.connection(stream, peer).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    close.request();
    while connections.join_next().await.is_some() {}
}

/// The next connection of a host that has not too many, once there is room for one.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shares: &Shares,
) -> (impl Sized + Send + use<>, TcpStream, SocketAddr) {
    let slot = Arc::clone(slots).acquire_owned().await;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match shares.try_take(peer.ip()) {
                Some(share) => return ((slot, share), stream, peer),
                // Waiting unaccepted is for all or for nobody.
                None => debug!(%peer, "a host has too many connections: this one was closed"),
            },
            Err(error) => {
                // Out of file descriptors, mostly: those who have some will give them back.
                warn!(error = %Chain(&error), "cannot accept a connection");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What all connections of a listener share.
struct Shared<T> {
    closing: Shutdown,
    limits: Limits,
    requests: Turns,
    router: Router,
    transport: T,
}

impl<T: Transport> Shared<T> {
    /// One connection, from its first byte to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let limits = self.limits;
        // Answers are small and written at once: waiting for more only costs time.
        let _ = stream.set_nodelay(true);
        let accepted = match time::timeout(limits.handshake, self.transport.accept(stream)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                return debug!(%peer, error = %Chain(&error), "the handshake failed");
            }
            Err(_) => return debug!(%peer, "the handshake took too long"),
        };
        let Accepted { mut extensions, protocol, stream } = accepted;
        extensions.insert(Peer(peer));

        let activity = Arc::new(Activity::new(limits));
        let service = service_fn({
            let activity = Arc::clone(&activity);
            let shared = Arc::clone(&self);
            move |mut request: Request<Incoming>| {
                let shared = Arc::clone(&shared);
                let busy = Activity::begin(&activity);
                request.extensions_mut().extend(extensions.clone());
                let activity = Arc::clone(&activity);
                async move {
                    let answer = shared.answer(request, peer, &activity).await;
                    drop(busy);
                    let is_prompt = answer.extensions().get::<Prompt>().is_some();
                    let prompt = is_prompt.then(|| Activity::begin_answer(&activity));
                    let answer = answer.map(|body| Body::new(Moving::new(body, activity, prompt)));
                    Ok::<_, Infallible>(answer)
                }
            }
        });

        let builder = builder(protocol, &limits);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let served = async {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = activity.silence() => {}
                () = time::sleep(jittered(limits.age)) => {}
                () = self.closing.requested() => {}
            }
            connection.as_mut().graceful_shutdown();
            let mut asked = Instant::now();
            let mut is_closing = self.closing.is_requested();
            loop {
                // The process does not wait for what may take long.
                let end = match is_closing {
                    true => asked + limits.end,
                    false => activity.expected_until().max(asked) + limits.end,
                };
                if end <= Instant::now() {
                    return debug!(%peer, "a connection did not end when asked and was cut");
                }
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = time::sleep_until(end) => {}
                    () = self.closing.requested(), if !is_closing => {
                        (asked, is_closing) = (Instant::now(), true);
                    }
                }
            }
        };
        tokio::select! {
            () = served => {}
            () = activity.overdue() => {
                debug!(%peer, "an answer was not taken in time, and its connection was cut");
            }
        }
    }

    /// One request: waits for its turn, then for the route, both within the limit.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        activity: &Arc<Activity>,
    ) -> Response<Body> {
        let patience = Patience::new(Arc::clone(activity));
        request.extensions_mut().insert(patience.clone());
        let mut request = request.map(|body| Body::new(Coming::new(body, patience.clone())));
        let turn = async {
            let turn = self.requests.take(peer.ip()).await;
            request.extensions_mut().insert(turn.clone());
            let answer = self.router.clone().oneshot(request).await;
            drop(turn);
            answer
        };
        tokio::select! {
            biased;
            // The handler may have come to the end of its time before the clock has told us.
            Ok(response) = turn => match patience.is_cut() {
                true => took_too_long(),
                false => response,
            },
            () = patience.end() => took_too_long(),
        }
    }
}

fn took_too_long() -> Response<Body> {
    let answer =
        ErrorAnswer { code: ErrorCode::Timeout, message: TOO_LONG.to_owned(), reference: None };
    (StatusCode::REQUEST_TIMEOUT, Json(answer)).into_response()
}

/// What is asked of a connection in its protocol's own terms.
fn builder(protocol: Protocol, limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.headers);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(128)
        // What a client may send ahead of being read: small, because unread bytes are our memory.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024);
    // The protocol is known: guessing it from the first bytes would wait for them without limit.
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}

/// What a client is told whose request has had its time.
pub(crate) const TOO_LONG: &str = "the request took too long";

/// Up to a tenth less than `duration`.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - backoff::random() / 10.0)
}

#[cfg(test)]
mod tests;
