//! Whose turn it is: writers of one path in this replica stand in line.
//!
//! The back end's compare-and-swap alone would keep writers from undoing each other's work, but of
//! many at once one succeeds at a time and all others start again, and who is unlucky often enough
//! starves. In line, each waits for those that came before it, and only the replicas compete, of
//! which there are a few. It is about fairness and wasted work: nothing relies on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::name::ObjectName;

/// The lines that there are.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ObjectName, Weak<tokio::sync::Mutex<Line>>>>);

/// What is known of a line, apart from who stands in it.
#[derive(Default)]
struct Line {
    /// Whether the one before met writers of other replicas.
    contended: bool,
}

/// One's turn, until it is dropped.
pub(super) struct Turn {
    line: OwnedMutexGuard<Line>,
    was_contended: bool,
}

impl Turn {
    /// Whether the one before met writers of other replicas.
    pub(super) fn was_contended(&self) -> bool {
        self.was_contended
    }

    /// Tells the next one that this one did.
    pub(super) fn contended(&mut self) {
        self.line.contended = true;
    }
}

impl Turns {
    /// Waits behind all that asked before for the same head.
    pub(super) async fn wait(&self, head: &ObjectName) -> Turn {
        let line = {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match lines.get(head).and_then(Weak::upgrade) {
                Some(line) => line,
                None => {
                    // Lines that everybody has left; few are in use at a time.
                    if lines.len() >= MANY {
                        lines.retain(|_, line| line.strong_count() > 0);
                    }
                    let line = Arc::default();
                    lines.insert(head.clone(), Arc::downgrade(&line));
                    line
                }
            }
        };
        let mut line = line.lock_owned().await;
        let was_contended = std::mem::take(&mut line.contended);
        Turn { line, was_contended }
    }
}

const MANY: usize = 256;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn head(number: u8) -> ObjectName {
        ObjectName::head(&[number; 32], &"a".parse().unwrap())
    }

    #[test]
    fn who_came_first_goes_first_and_other_paths_do_not_wait() {
        let (turns, name) = (Turns::default(), head(1));
        let first = turns.wait(&name).now_or_never().unwrap();
        let mut second = Box::pin(turns.wait(&name));
        let mut third = Box::pin(turns.wait(&name));

        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        assert!(turns.wait(&head(2)).now_or_never().is_some());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        drop(second.now_or_never().unwrap());
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn lines_that_nobody_stands_in_are_forgotten() {
        let turns = Turns::default();
        for number in 0..=255 {
            drop(turns.wait(&head(number)).now_or_never().unwrap());
        }

        drop(turns.wait(&ObjectName::keyring()).now_or_never().unwrap());

        assert!(turns.0.lock().unwrap().len() < 3);
    }
}
