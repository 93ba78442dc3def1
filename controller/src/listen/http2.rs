//! For tests: a client of HTTP/2 that writes its frames itself, so that it may do what no decent
//! client does, such as take nothing of an answer or give up what it has asked for.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Accepted, Protocol, Transport};

/// Plain TCP and HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainHttp2;

impl Transport for PlainHttp2 {
    type Stream = TcpStream;

    async fn accept(&self, stream: TcpStream) -> std::io::Result<Accepted<TcpStream>> {
        Ok(Accepted { extensions: http::Extensions::new(), protocol: Protocol::Http2, stream })
    }
}

/// The client.
pub(crate) struct Client {
    next: u32,
    stream: TcpStream,
}

impl Client {
    /// Connects; of each answer it takes `window` bytes and no more.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut client = Self { next: 1, stream };
        let [a, b, c, d] = window.to_be_bytes();
        client.write(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, a, b, c, d]).await;
        client
    }

    /// Asks for `/`; the number of the stream.
    pub(crate) async fn get(&mut self) -> u32 {
        self.ask(GET, END_STREAM).await
    }

    /// Begins to send a body to `/`; the number of the stream.
    pub(crate) async fn post(&mut self) -> u32 {
        self.ask(POST, 0).await
    }

    /// Sends a byte of a body.
    pub(crate) async fn send(&mut self, stream: u32) {
        self.write(DATA, 0, stream, b"x").await;
    }

    /// Gives up what it has asked for.
    pub(crate) async fn reset(&mut self, stream: u32) {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        self.write(RST_STREAM, 0, stream, &CANCEL).await;
    }

    /// Returns when the server closes.
    pub(crate) async fn closed(&mut self) {
        let mut said = Vec::new();
        let _ = self.stream.read_to_end(&mut said).await;
    }

    async fn ask(&mut self, method: u8, flags: u8) -> u32 {
        let stream = self.next;
        self.next += 2;
        // `:scheme: http` and `:path: /` of HPACK's table, and an `:authority`.
        let headers = [method, 0x86, 0x84, 0x41, 1, b'a'];
        self.write(HEADERS, END_HEADERS | flags, stream, &headers).await;
        stream
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame).await.unwrap();
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

// `:method` in HPACK's table.
const GET: u8 = 0x82;
const POST: u8 = 0x83;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u8 = 4;
