//! A JSON patch (RFC 6902), written as the decisions are carried out rather than found by comparing
//! a pod with another one.
//!
//! The operations follow each other: a place that one of them names is the place after those before.

use serde::Serialize;
use serde_json::Value;

/// What is to be done to a pod, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Patch(Vec<Operation>);

/// One step of a patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "op")]
enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
}

impl Patch {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a member of an object, there or not.
    pub fn add(&mut self, path: String, value: Value) {
        self.0.push(Operation::Add { path, value });
    }

    /// Sets what is there.
    pub(super) fn replace(&mut self, path: String, value: Value) {
        self.0.push(Operation::Replace { path, value });
    }

    /// Takes out what is there.
    pub(super) fn remove(&mut self, path: String) {
        self.0.push(Operation::Remove { path });
    }

    /// Puts items in front of a list and behind it; a list that is not there is made of them.
    pub(super) fn surround(
        &mut self,
        list: &str,
        is_there: bool,
        before: Vec<Value>,
        after: Vec<Value>,
    ) {
        if is_there {
            for (place, item) in before.into_iter().enumerate() {
                self.add(format!("{list}/{place}"), item);
            }
            for item in after {
                self.add(format!("{list}/-"), item);
            }
        } else if !(before.is_empty() && after.is_empty()) {
            self.add(list.to_owned(), before.into_iter().chain(after).collect());
        }
    }
}
