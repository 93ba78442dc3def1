//! The bodies of requests and answers: values that are wiped, and files that are streamed.

use std::{
    fs::File,
    future::poll_fn,
    io::{self, Read},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Buf, Bytes, Frame, Incoming, SizeHint};
use indicatif::ProgressBar;
use tokio::time::{Sleep, sleep};
use zeroize::Zeroizing;

use super::{Error, exchange_failure};

/// The body of a request.
pub(crate) enum RequestBody {
    /// Bytes that are wiped when they are sent. (The TLS library's own buffers are not.)
    Bytes(Option<Zeroizing<Vec<u8>>>),
    /// What is left of a file, how much that is, and who is told of what has gone. It waits a moment
    /// for a refusal: one that comes while it is being sent may be lost with the connection.
    File(File, u64, ProgressBar, Pin<Box<Sleep>>),
}

impl RequestBody {
    /// A body of these bytes.
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        // HTTP has no frame of no bytes.
        Self::Bytes((!bytes.is_empty()).then_some(bytes))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Bytes(None)
    }

    /// A file, from where it is read next to its end; `bar` moves with it.
    pub(crate) fn file(file: File, length: u64, bar: ProgressBar) -> Self {
        Self::File(file, length, bar, Box::pin(sleep(REFUSAL_TIME)))
    }

    /// What moves as long as the body does, if it is long.
    pub(super) fn progress(&self) -> Option<ProgressBar> {
        match self {
            Self::Bytes(_) => None,
            Self::File(_, _, bar, _) => Some(bar.clone()),
        }
    }
}

impl Body for RequestBody {
    type Data = io::Cursor<Zeroizing<Vec<u8>>>;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Self::Data>>>> {
        let bytes = match &mut *self {
            Self::Bytes(bytes) => bytes.take(),
            Self::File(_, 0, ..) => None,
            Self::File(file, left, bar, refusal) => {
                if !refusal.is_elapsed() {
                    ready!(refusal.as_mut().poll(context));
                }
                let room = usize::try_from(*left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
                let mut chunk = Zeroizing::new(vec![0; room]);
                // The one thing that this program does meanwhile is to wait for it.
                file.read_exact(&mut chunk)?;
                *left -= room as u64;
                bar.inc(room as u64);
                Some(chunk)
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(io::Cursor::new(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Bytes(None) | Self::File(_, 0, ..))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(_, left, ..) => *left,
        })
    }
}

/// Takes in the whole body of an answer.
pub(super) async fn collect(body: Incoming) -> Result<Zeroizing<Vec<u8>>, Error> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_ANSWER_BYTES {
        return Err(Error::AnswerTooLong);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    let mut body = body;
    while let Some(data) = next_data(&mut body).await? {
        if bytes.len() + data.remaining() > MAX_ANSWER_BYTES {
            return Err(Error::AnswerTooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The next piece of the body of an answer.
pub(super) async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(data) = frame.map_err(exchange_failure)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// How long a refusal may take that needs no look at the file; `curl` waits as long.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How much of a file is in memory at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The longest answer that is taken in whole: a list of a quarter of a million of the longest names.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_body_says_its_length() {
        let body = RequestBody::new(Zeroizing::new(b"12345".to_vec()));

        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(RequestBody::new(Zeroizing::default()).is_end_stream());
    }

    #[tokio::test]
    async fn a_file_is_sent_in_pieces_once_nobody_has_refused_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; CHUNK_BYTES + 1]).unwrap();
        file.rewind().unwrap();
        let bar = ProgressBar::hidden();
        let mut body = RequestBody::file(file, CHUNK_BYTES as u64 + 1, bar.clone());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let waits = Pin::new(&mut body).poll_frame(&mut context).is_pending();
        if let RequestBody::File(.., refusal) = &mut body {
            refusal.as_mut().reset(Instant::now());
            refusal.as_mut().await;
        }

        let mut lengths = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            lengths.push(frame.unwrap().into_data().unwrap().remaining());
        }

        assert!(waits);
        assert_eq!(lengths, [CHUNK_BYTES, 1]);
        assert_eq!(bar.position(), CHUNK_BYTES as u64 + 1);
        assert!(body.is_end_stream());
    }
}
