//! The program as it is run: the real binary against a store of this process, over real TLS.
//!
//! The store here knows no keys and no rights; it answers as `watchword_cli`'s `api` module says that
//! a store does, and remembers what it was asked.

// The root clippy.toml excuses tests only where the compiler sees them as such; helpers it does not.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod audit;
mod ceremonies;
mod copies;
mod fake_store;
mod seal;
mod secrets;
mod terminal;
mod trust;
mod usage;
mod watchword;
