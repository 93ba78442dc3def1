//! Stories that have a cluster to themselves, so that they can be told beside any other.

mod audit;
mod ceremony;
mod deny_exec;
mod file;
mod keeper;
mod local_cluster;
mod rollout;
mod seal;
mod zookeeper;

// The stories on the shared cluster judge answers by the same document.
#[path = "../stories/secrets_api/document.rs"]
mod document;
