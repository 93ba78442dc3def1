//! One single-node Kubernetes cluster inside Linux namespaces.
//!
//! ```text
//! holder ──(pipe: life line)──► unshare ──► PID 1 in new net, mount, pid, ipc and uts namespaces
//! PID 1: mounts, links, etcd, kube-apiserver, containerd, then the rest; reaps; ends at EOF
//! ```
//!
//! The *holder* is whatever process called [`launch`]: a test, or the small supervisor that
//! `local-cluster up` leaves behind. When it ends, in whatever way, the pipe closes, PID 1 exits
//! and the kernel ends every process of the cluster and drops its mounts, links and addresses.
//! Only empty control groups and plain files stay, which the next `up` or `down` sweeps away.
//!
//! Every cluster has its own network, so fixed ports and addresses never clash.

mod cgroup;
mod configuration;
mod daemons;
mod init;
mod keys;
mod launch;
mod layout;
mod lifecycle;
mod network;
mod prerequisites;
mod process;
mod tools;

pub use init::{InitArguments, init};
pub use launch::{Node, import as load_images, launch, wait_until_ready};
pub use layout::Layout;
pub use lifecycle::{State, UpOptions, down, state, supervise, up, up_owned};
pub use network::{enter_network, inside, network_runtime};
pub use prerequisites::install as install_prerequisites;
pub use prerequisites::{Missing, check as check_prerequisites, demand as demand_prerequisites};
pub(crate) use prerequisites::{busybox, is_static};
pub use process::{ProcessIdentity, Record};
pub use tools::{Tools, build as build_tools};
