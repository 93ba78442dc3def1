//! The agent's own variables, read and checked.
//!
//! The webhook writes them; what is wrong here is wrong for good, so that every error is final.

use std::path::PathBuf;

use watchword_protocol::FilePlan;
use watchword_protocol::env_names::{
    WATCHWORD_CA, WATCHWORD_CONTAINER, WATCHWORD_ENV_CACHE, WATCHWORD_FILES, WATCHWORD_STORE,
    WATCHWORD_TOKEN,
};

use crate::failure::Failure;

/// Where the store is and how to know it.
#[derive(Debug)]
pub(crate) struct Store {
    /// `https://host[:port]`, without a trailing `/`.
    pub(crate) url: String,
    /// Certificates in PEM.
    pub(crate) ca: String,
}

/// Whose secrets to ask for.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The container's name.
    pub(crate) container: String,
    /// The path of its token.
    pub(crate) token: PathBuf,
}

/// Reads `WATCHWORD_STORE` and `WATCHWORD_CA`.
pub(crate) fn store() -> Result<Store, Failure> {
    let url = text(WATCHWORD_STORE)?;
    let url = url.trim_end_matches('/');
    if !url.starts_with("https://") {
        return Err(Failure::launch(format!(
            "{WATCHWORD_STORE}: `{url}` is no `https://` address"
        )));
    }
    Ok(Store { url: url.to_owned(), ca: text(WATCHWORD_CA)? })
}

/// Reads `WATCHWORD_CONTAINER` and `WATCHWORD_TOKEN`.
pub(crate) fn identity() -> Result<Identity, Failure> {
    Ok(Identity { container: text(WATCHWORD_CONTAINER)?, token: text(WATCHWORD_TOKEN)?.into() })
}

/// Reads `WATCHWORD_ENV_CACHE`, which is empty but for containers with exec probes or hooks.
pub(crate) fn env_cache() -> Option<PathBuf> {
    std::env::var_os(WATCHWORD_ENV_CACHE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Reads `WATCHWORD_FILES`.
pub(crate) fn file_plan() -> Result<FilePlan, Failure> {
    serde_json::from_str(&text(WATCHWORD_FILES)?)
        .map_err(|error| Failure::launch(format!("{WATCHWORD_FILES} is not a plan: {error}")))
}

fn text(name: &str) -> Result<String, Failure> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) | Err(std::env::VarError::NotPresent) => {
            Err(Failure::launch(format!("{name} is not set; was this pod injected by Watchword?")))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::launch(format!("{name} is not text")))
        }
    }
}
