//! Stories that are told beside each other on one cluster, each in a namespace of its own. They
//! leave Watchword's own pods and settings as they are.

mod admission;
mod adoption;
mod backend;
mod cli;
mod files;
mod hostile;
mod injection;
mod lifecycle;
mod manifests;
mod node;
mod policies;
mod process;
mod secrets_api;
mod spaces;
