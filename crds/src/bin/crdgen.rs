//! Writes the custom resource definitions beside this crate, one YAML file per kind.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    for (file, yaml) in watchword_crds::rendered().map_err(io::Error::other)? {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), yaml)?;
    }
    Ok(())
}
