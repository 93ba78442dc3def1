//! Asking again: work that goes through a whole store makes hundreds of thousands of requests, and
//! one that stays without an answer must not cost all the others.
//!
//! What is done again is the whole work on one object, from its first look at it: of a change
//! without an answer nobody knows whether it has happened. So only work that finds out, and does no
//! harm twice, may be handed in here.

use std::error::Error;
use std::iter;
use std::time::Duration;

use tokio::time::sleep;

use crate::backend::BackendError;

/// Does `work`, and does it again, a few times, after the back end has not answered.
///
/// # Errors
///
/// What the last attempt ends with.
pub(crate) async fn insist<T, E, F>(mut work: impl FnMut() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    for pause in PAUSES {
        match work().await {
            Err(error) if is_unanswered(&error) => sleep(pause).await,
            outcome => return outcome,
        }
    }
    work().await
}

/// Whether the back end's silence is behind this error, whichever operation it is of.
fn is_unanswered(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |&error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(BackendError::Unavailable { .. })))
}

/// A restart of an API server behind a load balancer is over by then. All attempts together take
/// less than a minute even if each runs into the ten seconds that a request has.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// Runs a future to its end; time passes at once whenever all of it waits.
#[cfg(test)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ObjectName;
    use crate::store::{AccessError, RewrapError};

    fn unanswered() -> BackendError {
        BackendError::Unavailable { operation: "get", source: "no route".into() }
    }

    fn conflict() -> BackendError {
        BackendError::Conflict { name: ObjectName::keyring() }
    }

    /// How often work is done that fails so often, with this error.
    fn attempts(failures: usize, error: fn() -> BackendError) -> (usize, bool) {
        let mut attempts = 0;
        let outcome = block_on(insist(|| {
            attempts += 1;
            let fails = attempts <= failures;
            async move {
                match fails {
                    true => Err(RewrapError::Access(AccessError::Backend(error()))),
                    false => Ok(()),
                }
            }
        }));
        (attempts, outcome.is_ok())
    }

    #[test]
    fn what_stays_without_an_answer_is_done_again_a_few_times() {
        assert_eq!(attempts(0, unanswered), (1, true));
        assert_eq!(attempts(1, unanswered), (2, true));
        assert_eq!(attempts(3, unanswered), (4, true));
        assert_eq!(attempts(9, unanswered), (4, false));
    }

    #[test]
    fn an_answer_is_taken_as_it_is() {
        assert_eq!(attempts(1, conflict), (1, false));
    }
}
