//! The domain of Watchword, pure: no clock, no network, no client, no environment.
//!
//! ```text
//! TaskDefinition ──definition──► accepted, in Mesos' words or ours
//!       │ revision                         ▲ mesos
//!       ▼
//! TaskRevision ──wanted──► secrets ──reference, space──► may this service have them?
//!       │                      │
//!       ├──workload──► Deployment, Job, CronJob
//!       └──injection──► what the webhook does to a pod
//! ```
//!
//! Everything here is a function from values to values; controller, webhook and store call the same
//! ones, so that what was refused at one place is refused at all.

pub mod claim;
pub mod container_name;
pub mod container_path;
pub mod definition;
pub mod injection;
pub mod mesos;
pub mod pod;
pub mod reconciliation;
pub mod reference;
pub mod revision;
pub mod selector;
pub mod space;
pub mod wanted;
pub mod workload;
