//! Work that goes on to its end, whether or not the client stays: a connection that ends must not cut
//! an effect off from its audit line.
//!
//! Such work holds the turn of the request that asked for it, so that it counts among what a host has
//! at work also when its client has given it up.

use std::future::Future;

use axum::http::Extensions;

use super::failure::Failure;
use crate::listen::Turn;

/// Runs to its end what a request with these extensions has asked for.
///
/// # Errors
///
/// Those of `work`; `Unavailable` if it does not come to an end.
pub(super) async fn detached<T: Send + 'static>(
    extensions: &Extensions,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let turn = extensions.get::<Turn>().cloned();
    let work = async move {
        let outcome = work.await;
        drop(turn);
        outcome
    };
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(Failure::unavailable("the request failed", &error)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::sync::Semaphore;
    use tokio::time;

    use super::*;
    use crate::listen::http2::{Client, PlainHttp2};
    use crate::listen::{self, Limits};
    use crate::shutdown::Shutdown;

    #[tokio::test]
    async fn a_client_that_resets_its_streams_has_no_more_at_work_than_it_has_turns() {
        let limits = Limits { requests: 16, ..Limits::default() };
        // Loopback has half of all.
        let turns = 8;
        let at_work = Arc::new(());
        let go_on = Arc::new(Semaphore::new(0));
        let handler = {
            let (at_work, go_on) = (at_work.clone(), go_on.clone());
            async move |extensions: Extensions| {
                let work = async move {
                    let _ = go_on.acquire().await;
                    drop(at_work);
                    Ok(())
                };
                detached(&extensions, work).await
            }
        };
        let router = Router::new().route("/", get(handler));
        let idle = Arc::strong_count(&at_work);
        let listener = listen::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_trigger, shutdown) = Shutdown::channel();
        tokio::spawn(listen::serve(listener, PlainHttp2, router, limits, shutdown));
        let mut client = Client::connect(address, 0).await;

        for number in 1..=3 * turns {
            let stream = client.get().await;
            until(|| Arc::strong_count(&at_work) - idle >= number.min(turns)).await;
            client.reset(stream).await;
            assert!(Arc::strong_count(&at_work) - idle <= turns);
        }

        go_on.add_permits(100);
        until(|| Arc::strong_count(&at_work) == idle).await;
    }

    async fn until(condition: impl Fn() -> bool) {
        time::timeout(Duration::from_secs(30), async {
            while !condition() {
                time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}
