//! Waiting on conditions, never on sleeps.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

/// Asks every 100 ms until there is a value.
///
/// `poll` returns `Some(value)` or `None`, or, better, `Ok(value)` or an error that says what is
/// seen instead: the last one is part of the message when time is up.
///
/// # Errors
///
/// If there is no value after `limit`. A poll that hangs is given up then too.
pub async fn wait_for<T, O, P>(what: &str, limit: Duration, mut poll: P) -> Result<T>
where
    P: AsyncFnMut() -> O,
    O: Observation<Value = T>,
{
    let deadline = Instant::now() + limit;
    let mut seen = "nothing yet".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, poll()).await.map(Observation::into_value) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(instead)) => seen = instead,
            Err(_) => {}
        }
        // Asked here and not of `timeout`, which lets a look that takes no time pass for ever.
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}; seen last: {seen}", limit.as_secs_f64());
        }
        sleep(INTERVAL).await;
    }
}

/// What one look at the cluster gives: the value that is waited for, or what is there instead.
pub trait Observation {
    /// What is waited for.
    type Value;

    /// The value, or a text on what is there instead.
    ///
    /// # Errors
    ///
    /// If the value is not there yet.
    fn into_value(self) -> Result<Self::Value, String>;
}

impl<T> Observation for Option<T> {
    type Value = T;

    fn into_value(self) -> Result<T, String> {
        self.ok_or_else(|| "not yet".to_owned())
    }
}

impl<T, E: Display> Observation for Result<T, E> {
    type Value = T;

    fn into_value(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

const INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_that_comes_late_is_returned() {
        let mut looks = 0;

        let value = wait_for("three looks", Duration::from_secs(5), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await
        .unwrap();

        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn when_time_is_up_the_message_says_what_was_seen_last() {
        let error =
            wait_for("the pod", Duration::from_millis(250), async || -> Result<(), &str> {
                Err("phase Pending")
            })
            .await
            .unwrap_err();

        assert_eq!(error.to_string(), "waited 0.25 s for the pod; seen last: phase Pending");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let error = wait_for("ever", Duration::from_millis(250), async || -> Option<()> {
            std::future::pending().await
        })
        .await
        .unwrap_err();

        assert_eq!(error.to_string(), "waited 0.25 s for ever; seen last: nothing yet");
    }
}
