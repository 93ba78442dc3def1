//! For the fuzz target: what replicas send each other, as somebody who got between them might.

use super::Forwarded;
use super::handover::{Asked, Exchange, Given, give};
use crate::serve::ceremony::operation::{Reply, WireReply};

/// Reads JSON as each message that there is.
pub fn peer(bytes: &[u8]) {
    if let Ok(asked) = serde_json::from_slice::<Asked>(bytes) {
        // Answered or refused, and never opened by another exchange than the one that asked.
        if let (Ok(given), Ok(other)) = (give(&asked, POD, b"a root key"), Exchange::begin()) {
            assert!(other.open(&given, POD).is_err());
        }
    }
    if let (Ok(given), Ok(exchange)) = (serde_json::from_slice::<Given>(bytes), Exchange::begin()) {
        assert!(exchange.open(&given, POD).is_err());
    }
    if let Ok(forwarded) = serde_json::from_slice::<Forwarded>(bytes) {
        // Another replica reads what this one has read, and so does the access review.
        let sent = serde_json::to_vec(&forwarded).unwrap_or_default();
        let read = serde_json::from_slice::<Forwarded>(&sent);
        assert!(read.is_ok_and(|read| {
            read.person == forwarded.person
                && read.operation.verb().as_str() == forwarded.operation.verb().as_str()
                && serde_json::to_vec(&read).is_ok_and(|again| again == sent)
        }));
    }
    if let Ok(reply) = serde_json::from_slice::<WireReply>(bytes) {
        drop(Reply::from_wire(reply));
    }
}

const POD: &str = "4b5c7f5e-5d6f-4f0e-9f3e-3f1d1c0b9a87";
