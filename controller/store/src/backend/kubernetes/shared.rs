//! One answer for many who ask at once.
//!
//! When a hundred pods of one Deployment start, all of them want the same head, as of now. A request
//! that was sent after one has asked is good enough for all who had asked by then; one that was
//! under way already is not, for a write may have been acknowledged in between. So at most one
//! request per name is under way, and the next one serves everybody who waits.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::backend::{BackendError, Stored};
use crate::name::ObjectName;

/// The requests that are under way.
#[derive(Default)]
pub(super) struct Shared(Mutex<HashMap<ObjectName, Weak<Line>>>);

/// Those who ask for one name.
#[derive(Default)]
struct Line {
    /// How many requests have begun.
    begun: AtomicU64,
    answer: tokio::sync::Mutex<Option<Answer>>,
}

/// What the request of this number brought.
#[derive(Clone)]
struct Answer {
    number: u64,
    result: Result<Option<Stored>, Arc<BackendError>>,
}

impl Shared {
    /// The answer of `ask`, which begins after this call, here or for somebody else.
    pub(super) async fn get<F>(
        &self,
        name: &ObjectName,
        ask: impl FnOnce() -> F + Send,
    ) -> Result<Option<Stored>, BackendError>
    where
        F: Future<Output = Result<Option<Stored>, BackendError>> + Send,
    {
        let line = self.line(name);
        let asked = line.begun.load(Ordering::SeqCst);
        // In their order. Whoever gives up while its request is under way leaves the turn.
        let mut answer = line.answer.lock().await;
        let found = match answer.as_ref().filter(|answer| answer.number > asked) {
            Some(answer) => answer.clone(),
            None => {
                let number = line.begun.fetch_add(1, Ordering::SeqCst) + 1;
                let result = ask().await.map_err(Arc::new);
                answer.insert(Answer { number, result }).clone()
            }
        };
        found.result.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(error) => again(&error),
        })
    }

    fn line(&self, name: &ObjectName) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(name).and_then(Weak::upgrade) {
            return line;
        }
        if lines.len() >= MANY {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::default();
        lines.insert(name.clone(), Arc::downgrade(&line));
        line
    }
}

/// The same error for one more who asked.
fn again(error: &Arc<BackendError>) -> BackendError {
    let source = Box::new(Same(Arc::clone(error)));
    match &**error {
        BackendError::Conflict { name } => BackendError::Conflict { name: name.clone() },
        BackendError::Malformed { name, detail } => {
            BackendError::Malformed { name: name.clone(), detail: detail.clone() }
        }
        BackendError::Refused { operation, .. } => BackendError::Refused { operation, source },
        BackendError::Unavailable { operation, .. } => {
            BackendError::Unavailable { operation, source }
        }
    }
}

/// The cause of an error that several share.
#[derive(Debug)]
struct Same(Arc<BackendError>);

impl Same {
    fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for Same {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Same {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().and_then(Error::source)
    }
}

const MANY: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures::FutureExt;
    use futures::channel::oneshot;
    use futures::future::join_all;

    use super::*;
    use crate::backend::Revision;

    fn found(number: u32) -> Result<Option<Stored>, BackendError> {
        Ok(Some(Stored { bytes: Vec::new(), revision: Revision(number.to_string().into()) }))
    }

    #[tokio::test]
    async fn who_asks_while_a_request_is_under_way_gets_the_next_one() {
        let (shared, name, requests) =
            (Shared::default(), ObjectName::keyring(), AtomicU32::new(0));
        let (answer, wait) = oneshot::channel::<()>();
        let mut first = Box::pin(shared.get(&name, || async {
            requests.fetch_add(1, Ordering::SeqCst);
            wait.await.unwrap();
            found(1)
        }));
        assert!((&mut first).now_or_never().is_none());
        let ask = || async { found(requests.fetch_add(1, Ordering::SeqCst) + 1) };
        let mut later: Vec<_> = (0..100).map(|_| Box::pin(shared.get(&name, ask))).collect();
        for waiting in &mut later {
            assert!(waiting.now_or_never().is_none());
        }

        answer.send(()).unwrap();

        assert_eq!(first.await.unwrap(), found(1).unwrap());
        for answer in join_all(later).await {
            assert_eq!(answer.unwrap(), found(2).unwrap());
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn who_asks_alone_asks_each_time() {
        let (shared, name, requests) =
            (Shared::default(), ObjectName::keyring(), AtomicU32::new(0));
        let ask = || async { found(requests.fetch_add(1, Ordering::SeqCst) + 1) };

        for number in 1..4 {
            assert_eq!(shared.get(&name, ask).await.unwrap(), found(number).unwrap());
        }
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_is_begun_again_by_the_next_in_line() {
        let (shared, name) = (Shared::default(), ObjectName::keyring());
        let mut first = Box::pin(shared.get(&name, std::future::pending));
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(shared.get(&name, || async { found(2) }));
        assert!((&mut second).now_or_never().is_none());

        drop(first);

        assert_eq!(second.await.unwrap(), found(2).unwrap());
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_who_wait_with_its_cause() {
        let (shared, name) = (Shared::default(), ObjectName::keyring());
        let ask = || async {
            tokio::task::yield_now().await;
            Err(BackendError::Unavailable { operation: "get", source: "no route".into() })
        };

        for answer in join_all((0..3).map(|_| shared.get(&name, ask))).await {
            let BackendError::Unavailable { operation: "get", source } = answer.unwrap_err() else {
                panic!("another error");
            };
            assert_eq!(source.to_string(), "no route");
        }
    }
}
