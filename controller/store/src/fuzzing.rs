//! For fuzz targets: parsers that are reached only past a seal, and must not lean on it.

use std::hint::black_box;

use crate::head::Head;
use crate::store::Uids;

/// Reads the metadata of a head, as a key holder may have written it.
pub fn head(json: &[u8]) {
    if let Ok(head) = serde_json::from_slice::<Head>(json) {
        black_box(head.find(Some(1)).is_some());
        // What is kept of unknown fields must be written again as it was read.
        let written = serde_json::to_vec(&head).unwrap_or_default();
        let again: Result<Head, _> = serde_json::from_slice(&written);
        assert!(again.is_ok_and(|again| serde_json::to_vec(&again).unwrap_or_default() == written));
    }
}

/// Reads the uids of namespaces.
pub fn namespaces(json: &[u8]) {
    black_box(Uids::parse(json).is_ok());
}
