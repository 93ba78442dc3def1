//! A back end in memory between whose calls a test can do something, or stop.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::backend::memory::MemoryBackend;
use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

/// What is done before the next change of an object of this kind.
type Hook = (ObjectKind, Box<dyn FnOnce() + Send>);

/// Every call waits once before it goes to the back end below, so that it can be dropped there.
#[derive(Clone)]
pub(super) struct Interposed {
    below: MemoryBackend,
    hook: Arc<Mutex<Option<Hook>>>,
    deaf: Arc<AtomicBool>,
}

impl Interposed {
    pub(super) fn new(below: &MemoryBackend) -> Self {
        Self { below: below.clone(), hook: Arc::default(), deaf: Arc::default() }
    }

    /// From the next change on, which happens, nothing answers.
    pub(super) fn go_deaf_at_change(&self, kind: ObjectKind) {
        let deaf = Arc::clone(&self.deaf);
        self.before_change(kind, move || deaf.store(true, Ordering::Relaxed));
    }

    fn answer<T>(&self, answer: T, operation: &'static str) -> Result<T, BackendError> {
        if self.deaf.load(Ordering::Relaxed) {
            let source = "as the test asked".into();
            return Err(BackendError::Unavailable { operation, source });
        }
        Ok(answer)
    }

    /// Runs `hook` before the next change of an object of this kind, in a thread of its own.
    pub(super) fn before_change(&self, kind: ObjectKind, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some((kind, Box::new(hook)));
    }

    fn run_hook(&self, name: &ObjectName) {
        let hook = self.hook.lock().unwrap().take_if(|(kind, _)| *kind == name.kind());
        if let Some((_, hook)) = hook {
            std::thread::spawn(hook).join().unwrap();
        }
    }
}

/// Is ready the second time.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Backend for Interposed {
    fn is_current(&self, _name: &ObjectName, _revision: &Revision) -> bool {
        false
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        Once(false).await;
        self.answer(self.below.get(name).await?, "get")
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        Once(false).await;
        self.run_hook(name);
        self.below.create(name, bytes).await
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        Once(false).await;
        self.run_hook(name);
        self.answer(self.below.replace(name, bytes, revision).await?, "replace")
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        Once(false).await;
        self.below.delete(name, revision).await
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        Once(false).await;
        self.below.list(kind).await
    }
}
