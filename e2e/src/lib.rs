//! A real Kubernetes node for Watchword's end-to-end tests and demo, and what the tests are
//! written with.
//!
//! ```text
//! local-cluster (binary) ─► node ─► tools      builds Kubernetes, etcd, containerd and CoreDNS
//!                            │  └─► init       PID 1 of the node: mounts, links, daemons
//!                            └────► images     the images that the pods run
//! tests ─► run ─► Cluster ─► namespaces, apply, exec, logs, what the node holds
//! ```
//!
//! [`node`] runs one single-node Kubernetes inside Linux namespaces of its own: nothing of it is
//! visible on the host, and it vanishes with one command. The harness knows nothing of how a
//! cluster is run: given `KUBECONFIG`, the same stories run against any cluster.
//!
//! This crate is for development; nothing of the product depends on it.

// It talks to people at a terminal: progress and failures go to standard error.
#![allow(clippy::print_stderr)]

pub mod cache;
pub mod cluster;
pub mod holder;
pub mod images;
pub mod node;
pub mod progress;
pub mod records;
pub mod roles;
pub mod search;
pub mod watchword;

pub use cluster::{
    Cluster, LocalNode, Namespace, SEALED, run, run_alone, run_audited, skip, wait_for,
};
