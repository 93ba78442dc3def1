//! What the fuzz targets of the store call.

pub use super::ceremony::api::fuzzing::ceremony;
pub use super::peer::fuzzing::peer;
pub use super::secrets_api::fuzzing::request;
