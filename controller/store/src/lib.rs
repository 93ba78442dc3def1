//! The sealed store of Watchword: secrets that rest as ciphertext, whatever lies below.
//!
//! ```text
//! shares ──Shamir──► root key
//! root key ──HKDF──► opens the keyring ─┬─ name key ──HMAC(path)──► names of objects
//!  (never kept)                         └─ term key ──HKDF──► key-encryption key
//!                                                                │ AES-256-KW
//!                                               fresh data key ◄─┘ one per record
//!                                                    │ AES-256-GCM, header as additional data
//!                                           metadata ┴ value
//! ```
//!
//! | object | name | sealed under | holds |
//! |---|---|---|---|
//! | keyring | `keyring` | the root key | the keys of all terms, the name key, the audit seed; who holds the shares |
//! | namespaces | `namespaces` | a data key of its own | which uid each namespace had when secrets below its name came into use |
//! | seal state | `seal` | nothing: it holds no secret | whether the store should be open |
//! | head, one per path | keyed hash of the path | a data key of its own | path, versions with author, time and type, what is left to remove |
//! | version, one per value | head's name, version, random suffix | a data key of its own | metadata, and apart from it the value |
//!
//! The bytes of heads and versions are described in [`record`], those of the keyring in
//! [`keyring`], shares and seal state in [`share`] and [`seal`]. How the objects of one path change together, what a crash leaves, and how several
//! replicas stay in step, in [`store`]. What a back end must promise, in [`backend`].
//!
//! The crate decides nothing by a clock or by its environment: times come in as arguments. A tokio
//! runtime is needed by what goes through the whole store, to pause before it asks again, and by the
//! back ends, each behind a feature: `file` (one file, redb), `kubernetes` (SealedRecord objects)
//! and `zookeeper`. The feature `openpgp` entrusts shares to people's keys
//! (the module of that name), `testing` brings the suite for back ends and one in memory.

mod cache;
mod data_key;
mod encoding;
mod head;
mod insist;
#[cfg(test)]
mod known_answers;
mod random;
mod shamir;

pub mod archive;
pub mod backend;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod keyring;
pub mod location;
pub mod migrate;
pub mod name;
#[cfg(feature = "openpgp")]
pub mod openpgp;
pub mod path;
pub mod record;
pub mod root_key;
pub mod seal;
pub mod secret;
pub mod share;
pub mod store;

pub use backend::{AnyBackend, Backend, BackendError};
pub use head::{About, ContentType, Meta, SealHeadError};
pub use keyring::Keyring;
pub use location::{Access, Location, OpenLocationError, ParseLocationError};
pub use name::{ObjectKind, ObjectName};
#[cfg(feature = "openpgp")]
pub use openpgp::{EntrustError, entrust};
pub use path::{MAX_PATH_BYTES, ParsePathError, SecretPath};
pub use random::RandomError;
pub use root_key::{ROOT_KEY_BYTES, RootKey};
pub use seal::{
    Collector, Custody, Given, Intent, ParseSealStateError, Rotation, SealConfig, SealConfigError,
    SealState,
};
pub use secret::{MAX_VALUE_BYTES, Value};
pub use shamir::CombineError;
pub use share::{ParseShareError, Share};
pub use store::{
    AccessError, Config, DeleteError, Entry, InitializeError, Initialized, ListError, Listing,
    NamespaceError, Precondition, ReadError, RekeyError, RetireError, RewrapError, Rewrapped,
    RotateError, Secret, Standing, Store, SweepError, Term, UnsealError, Verified, VerifyError,
    WriteError,
};
