//! `copy`: puts this binary where the pod's containers find it, for clusters without image volumes.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::confined::{Directory, FileName};
use crate::failure::Failure;

/// Copies the running binary to `directory/agent`, executable for all and writable for nobody.
pub(crate) fn copy_to(directory: &Path) -> Result<(), Failure> {
    let copy = || {
        let mut binary = File::open("/proc/self/exe")?;
        let name: FileName = "agent".parse().map_err(io::Error::other)?;
        Directory::open(directory)?
            .replace(&name, 0o555, |file| io::copy(&mut binary, file).map(drop))
    };
    copy().map_err(|error: io::Error| {
        Failure::launch(format!("cannot copy the agent to `{}`: {error}", directory.display()))
    })
}
