//! The Secrets API v1 of DC/OS under `/secrets/v1`, and what goes beyond it: versions, roll-back,
//! conditions, an OpenAPI document.
//!
//! ```text
//! routes          which paths and methods there are
//!   ├─ secret     what is done with secrets
//!   │    operation        what a request asks for, from everything but its body
//!   │      ├─ target          the path: decoded once, then parsed
//!   │      ├─ query           `list`, `version`, `versions`, `rollback`
//!   │      ├─ condition       `If-Match`, `If-None-Match`
//!   │      └─ representation  `Accept`, `Content-Type`, bodies
//!   ├─ archives   backup and restore
//!   ├─ stores     stores and their health
//!   ├─ ceremony   (beside this module) what is done with the root key
//!   └─ openapi    the document
//! ```
//!
//! Reading a request is pure and comes first; then who may, then what is done. No answer tells a
//! denied caller whether there is a secret.

use std::sync::Arc;

use axum::Router;

use super::Service;

mod archives;
mod condition;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod openapi;
mod operation;
mod query;
mod representation;
mod routes;
mod secret;
mod stores;
mod target;

pub(super) use self::representation::discard;
pub(super) use self::stores::explain;
pub(super) use self::target::known_store;

/// What answers the paths under `/secrets/v1`.
pub(super) fn router() -> Router<Arc<Service>> {
    routes::routes().router
}
