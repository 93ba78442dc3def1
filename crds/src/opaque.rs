//! Parts of an object that are kept as they are written and that nothing here looks into.
//!
//! They keep a rendered CRD small: Kubernetes' schemas have no references, so a deep message that is
//! used in four places is written out four times.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A JSON object whose members the schema does not name; all of them survive.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Opaque(pub Map<String, Value>);

impl JsonSchema for Opaque {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Opaque".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        preserve_unknown_fields()
    }
}

/// The schema of an object with any members, which the API server keeps.
pub(crate) fn preserve_unknown_fields() -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
