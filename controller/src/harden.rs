//! What the process forbids itself before it reads anything secret.
//!
//! No core dumps, no debugger of the same user, and one TLS provider for everything. It is no
//! sandbox: what the pod's security context forbids is in the manifests.

use std::io;

use rustix::process::{self, DumpableBehavior, Resource, Rlimit};
use rustls::crypto::aws_lc_rs;

/// Makes the process non-dumpable, sets its core limit to 0 and installs aws-lc-rs for TLS.
///
/// A second call changes nothing.
///
/// # Errors
///
/// The kernel refused one of the two limits.
pub fn harden() -> Result<(), HardenError> {
    // An error here means that a provider is installed already: ours, as there is no other.
    let _ = aws_lc_rs::default_provider().install_default();
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| HardenError::ForbidDebuggers(errno.into()))?;
    process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|errno| HardenError::ForbidCores(errno.into()))
}

/// Why the process could not be hardened.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// `setrlimit` failed.
    #[error("cannot set the limit of core files to 0")]
    ForbidCores(#[source] io::Error),
    /// `prctl` failed.
    #[error("cannot make the process non-dumpable")]
    ForbidDebuggers(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_and_can_be_hardened_again() {
        harden().unwrap();
        harden().unwrap();

        assert_eq!(process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(process::getrlimit(Resource::Core).maximum, Some(0));
    }
}
