//! Role `certificates`: not written yet.
use std::convert::Infallible;

use crate::{args::CertificatesArgs, run::Shared};

/// Runs the role until the process ends.
///
/// # Errors
///
/// None yet.
pub async fn run(_args: CertificatesArgs, shared: Shared) -> Result<(), Infallible> {
    shared.shutdown.requested().await;
    Ok(())
}
