//! What the agent, the controller and the store of Watchword say to each other.
//!
//! Everything is JSON over HTTP/1.1 over TLS 1.3. A request carries a service-account token as
//! `Authorization: Bearer …`; who asks is read from that token and never from the body.
//!
//! ```text
//! agent      ── POST /v1/resolve  ResolveRequest ──►  store   200 ResolveAnswer | ErrorAnswer
//! controller ── POST /v1/check    CheckRequest   ──►  store   200 CheckAnswer   | ErrorAnswer
//! webhook    ── env WATCHWORD_FILES  FilePlan    ──►  agent   (`files`)
//! ```
//!
//! Requests and plans refuse unknown fields, so that a newer caller cannot believe that an older
//! receiver did what it asked for. Answers ignore unknown fields, and an error code that is not
//! known reads as [`ErrorCode::Internal`], so that an older agent gets along with a newer store.
//!
//! This crate is types only: no network, no clock, no opinion on what is allowed. The one type that
//! holds a value is [`SecretBytes`].

mod check;
mod error;
mod files;
mod resolve;
mod secret_bytes;

pub use check::{CheckAnswer, CheckRequest, CheckedReference};
pub use error::{ErrorAnswer, ErrorCode};
pub use files::{ContainerFiles, FilePlan, PlannedFile};
pub use resolve::{EnvSecret, FileSecret, ResolveAnswer, ResolveRequest, Want};
pub use secret_bytes::SecretBytes;

/// The version of this protocol, which every request names.
pub const VERSION: u32 = 1;

/// Where a container asks for its secrets (POST).
pub const RESOLVE_PATH: &str = "/v1/resolve";

/// Where the controller asks whether a revision's references can be read (POST).
pub const CHECK_PATH: &str = "/v1/check";

/// The audience of the token that the controller shows at [`CHECK_PATH`].
pub const CHECK_AUDIENCE: &str = "watchword-check";

/// The most bytes that one `NAME=VALUE` of an environment may have, name and `=` included.
///
/// Linux refuses a string of 131,072 bytes (`MAX_ARG_STRLEN`, 32 pages), and that count includes
/// the terminating NUL.
pub const MAX_VARIABLE_BYTES: usize = 131_071;

/// The audience of the token with which a container asks for its own secrets.
///
/// The store reads the container's name from the audience, so that a token is good for exactly one
/// container of one pod.
pub fn audience(container: &str) -> String {
    format!("watchword:{container}")
}

/// The names of the agent's own environment variables.
///
/// All start with [`PREFIX`](env_names::PREFIX); the agent takes every variable with that prefix out
/// of the environment before the application starts.
pub mod env_names {
    /// What the names of all of the agent's own variables start with.
    pub const PREFIX: &str = "WATCHWORD_";

    /// The certificates that the store's is checked against: PEM text.
    pub const WATCHWORD_CA: &str = "WATCHWORD_CA";

    /// The name of the container that the agent starts.
    pub const WATCHWORD_CONTAINER: &str = "WATCHWORD_CONTAINER";

    /// The path of the file in which `exec` leaves the secret variables for `exec --cached`.
    pub const WATCHWORD_ENV_CACHE: &str = "WATCHWORD_ENV_CACHE";

    /// What `files` writes: a [`FilePlan`](crate::FilePlan) as JSON.
    pub const WATCHWORD_FILES: &str = "WATCHWORD_FILES";

    /// The task revision of the pod; the store reads it from the pod's spec, the agent does not.
    pub const WATCHWORD_REVISION: &str = "WATCHWORD_REVISION";

    /// The address of the store: an `https` URL without a path.
    pub const WATCHWORD_STORE: &str = "WATCHWORD_STORE";

    /// Where the agent leaves its termination message; only set for containers whose
    /// `terminationMessagePath` is not `/dev/termination-log`.
    pub const WATCHWORD_TERMINATION_LOG: &str = "WATCHWORD_TERMINATION_LOG";

    /// The path of the file that holds the container's token.
    pub const WATCHWORD_TOKEN: &str = "WATCHWORD_TOKEN";
}
