//! Role `controller`: not written yet; it waits for the end of the process.

use std::convert::Infallible;

use crate::{args::ControllerArgs, run::Shared};

/// Runs the role until the process ends.
///
/// # Errors
///
/// None yet.
pub async fn run(_args: ControllerArgs, shared: Shared) -> Result<(), Infallible> {
    shared.shutdown.requested().await;
    Ok(())
}
