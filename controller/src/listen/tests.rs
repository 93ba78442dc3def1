use axum::{
    Extension,
    body::Bytes,
    routing::{get, post},
};
use futures::stream;
use rstest::rstest;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::http2::{Client, PlainHttp2};
use super::*;

const PIECE: Bytes = Bytes::from_static(&[0; 64 << 10]);

/// A listener in this process. Its answers have no end, and hold on to what `held` watches.
async fn start<T: Transport>(transport: T, limits: Limits) -> (SocketAddr, Arc<()>) {
    let held = Arc::new(());
    let answer = {
        let held = held.clone();
        async move || {
            let pieces = stream::repeat_with(move || {
                let _ = &held;
                Ok::<_, Infallible>(PIECE)
            });
            (Extension(Prompt), Body::from_stream(pieces))
        }
    };
    (listen(transport, Router::new().route("/", get(answer)), limits).await, held)
}

async fn listen<T: Transport>(transport: T, router: Router, limits: Limits) -> SocketAddr {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (_trigger, shutdown) = Shutdown::channel();
        serve(listener, transport, router, limits, shutdown).await;
    });
    address
}

/// Waits until nothing but the test and the router holds on to it.
async fn released(held: &Arc<()>) {
    let released = async {
        while Arc::strong_count(held) > 2 {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), released).await.expect("an answer is still held");
}

fn limits() -> Limits {
    Limits { answer: Duration::from_millis(200), ..Limits::default() }
}

#[rstest]
#[case::nothing(0)]
#[case::a_byte(1)]
#[tokio::test]
async fn answers_of_which_a_client_takes_nothing_are_given_up_with_their_connection(
    #[case] window: u32,
) {
    let (address, held) = start(PlainHttp2, limits()).await;
    let mut client = Client::connect(address, window).await;
    for _ in 0..8 {
        client.get().await;
    }

    timeout(Duration::from_secs(30), client.closed()).await.expect("the connection is not cut");

    released(&held).await;
}

#[tokio::test]
async fn an_answer_that_moves_and_does_not_end_is_cut_off() {
    let (address, held) = start(Plain, limits()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();

    let mut sink = tokio::io::sink();
    let taken = tokio::io::copy(&mut client, &mut sink);
    let taken = timeout(Duration::from_secs(30), taken).await.expect("the connection is not cut");

    // Whether as an end or as a reset, the client hears of it.
    assert!(taken.map_or(true, |bytes| bytes > 0));
    released(&held).await;
}

#[tokio::test]
async fn a_connection_goes_on_after_prompt_answers_that_were_taken() {
    let limits = Limits { answer: Duration::from_secs(10), ..Limits::default() };
    let (address, _held) = start(PlainHttp2, limits).await;
    let mut client = Client::connect(address, 0).await;

    for _ in 0..4 {
        let stream = client.get().await;
        time::sleep(Duration::from_millis(2700)).await;
        client.reset(stream).await;
    }

    let closed = timeout(Duration::from_millis(100), client.closed()).await;
    assert!(closed.is_err(), "the connection was cut");
}

#[tokio::test]
async fn a_body_that_took_too_long_is_not_read_on_by_work_that_outlives_its_client() {
    let (sender, mut read) = tokio::sync::mpsc::channel(1);
    let handler = async move |body: Body| {
        let reading = async move {
            let read = axum::body::to_bytes(body, 1024).await.map(drop);
            let _ = sender.send(read).await;
        };
        let _ = tokio::spawn(reading).await;
    };
    let limits = Limits { body: Duration::from_millis(200), ..Limits::default() };
    let address = listen(PlainHttp2, Router::new().route("/", post(handler)), limits).await;
    let mut client = Client::connect(address, 1024).await;
    let stream = client.post().await;

    let dribble = async {
        loop {
            client.send(stream).await;
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = tokio::select! {
        () = dribble => None,
        read = timeout(Duration::from_secs(30), read.recv()) => read.ok().flatten(),
    };

    assert!(read.is_some_and(|read| read.is_err()), "the body is still read");
}
