//! The end of the process, as one signal that every task can wait for.
//!
//! SIGTERM and SIGINT ask for it, and so does a role that fails. Asked, the process is no longer
//! Ready; listeners go on for [`DRAIN_DELAY`], so that no client still sends to an address that is
//! closed, then finish what they have begun; leases are given up; after [`DEADLINE`] the process
//! ends whatever is still running.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long listeners accept connections after the signal: about as long as a Service's endpoints
/// take to reach every node.
pub const DRAIN_DELAY: Duration = Duration::from_secs(3);

/// When the process ends at the latest, counted from the signal: five seconds before the kubelet's
/// default grace period of 30 s runs out.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// What tasks wait for; clones are the same signal.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A signal and what gives it.
    pub fn channel() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Returns as soon as the process has been asked to end; at once if it already has.
    pub async fn requested(&self) {
        // The sender being gone means that nothing is left that could ask: end as well.
        let _ = self.0.clone().wait_for(|requested| *requested).await;
    }

    /// Whether the process has been asked to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Gives the signal; clones give the same one. It is given too when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Asks everything to end.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Waits for SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// The signal handlers cannot be installed.
    pub async fn wait_for_signal() -> io::Result<&'static str> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_the_request_even_after_it() {
        let (trigger, shutdown) = Shutdown::channel();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());

        trigger.request();

        early.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_lost_trigger_counts_as_a_request() {
        let (trigger, shutdown) = Shutdown::channel();

        drop(trigger);

        shutdown.requested().await;
    }
}
