//! What interrupted writes and deletions leave behind, removed by the replica that leads.
//!
//! Nobody reads such an object, and a rotation that retires its term makes it unreadable; but what
//! was deleted should also be gone.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};
use watchword_store::SweepError;

use super::Service;
use crate::chain::Chain;

/// Sweeps now and then, as long as this replica leads.
pub(super) async fn keep(service: &Service) {
    loop {
        let pause = match service.store.sweep().await {
            Ok(removed) => {
                if removed > 0 {
                    info!(removed, "removed what interrupted writes had left behind");
                }
                INTERVAL
            }
            Err(SweepError::Sealed) => UNTIL_UNSEALED,
            Err(error) => {
                warn!(error = %Chain(&error), "cannot remove what interrupted writes have left behind");
                match &error {
                    // A damaged record is damaged in ten minutes too.
                    SweepError::Access(error) if error.record().is_some() => INTERVAL,
                    _ => PAUSE,
                }
            }
        };
        sleep(pause).await;
    }
}

/// Two lists, and a look at heads that are in memory: nothing for a store, and not in a hurry.
const INTERVAL: Duration = Duration::from_hours(6);

/// Before the next attempt after one that failed.
const PAUSE: Duration = Duration::from_mins(10);

/// How often it is looked whether the store has been unsealed.
const UNTIL_UNSEALED: Duration = Duration::from_secs(10);
