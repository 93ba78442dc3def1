//! Watchword's roles: everything that runs in its own namespace.
//!
//! ```text
//! main ─► args ─► run ─┬─► controller    reconcile     definitions become revisions and workloads
//!                      ├─► webhook       admission     pods get their agent
//!                      ├─► store         serve         the only role that ever holds a value
//!                      └─► certificates  certificates  the authority that the others' TLS hangs on
//! ```
//!
//! What the roles share is in plain modules: [`readiness`], [`metrics`], [`shutdown`],
//! [`leadership`], [`tls`], [`listen`], [`certificate`], [`backoff`], [`chain`] and [`telemetry`]. A
//! module of one role does not import from another role's. The binary is thin over this library, so
//! that benches and tests can reach the roles.

pub mod admission;
pub mod args;
pub mod backoff;
pub mod certificate;
pub mod certificates;
pub mod chain;
pub mod follow;
pub mod guard;
pub mod harden;
pub mod leadership;
pub mod listen;
pub mod metrics;
pub mod readiness;
pub mod reconcile;
pub mod resolvers;
pub mod run;
pub mod serve;
pub mod shared;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
