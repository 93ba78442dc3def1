//! The custom resources of Watchword: types, CEL rules and the generated YAML beside this crate.
//!
//! ```text
//! [ TaskDefinition ] ──owns──► [ TaskRevision ] ◄──names── pod
//!        │ id                        │ tasks
//!        ▼                           ▼
//!    [ Space ] ──allows──► [ SecretResolver ] ──asks──► [ SecretStore ] ──keeps──► [ SealedRecord ]
//! ```
//!
//! The messages of Mesos ([`mesos`]) keep Mesos' spelling; everything that is ours is camelCase. The
//! schemas are structural and stay silent (no `required`, no `enum`) wherever Mesos has a text of its
//! own: the validating webhook speaks there. This crate decides nothing; `watchword-core` does.

// KubeSchema writes a copy of each struct, `pub` included, into a function; and a lint for repeated
// attributes takes the types of two printer columns for one attribute given twice.
#![allow(clippy::duplicated_attributes, unreachable_pub)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub mod mesos;
pub mod names;
pub mod sealed_record;
pub mod secret_resolver;
pub mod secret_store;
pub mod space;
pub mod status;
pub mod task_definition;
pub mod task_revision;

mod opaque;

pub use opaque::Opaque;
pub use sealed_record::{SealedRecord, SealedRecordSpec};
pub use secret_resolver::{SecretResolver, SecretResolverSpec, StoreResolver};
pub use secret_store::{
    AutoUnseal, Backend, FileBackend, KubernetesBackend, SecretRef, SecretStore, SecretStoreSpec,
    SecretStoreStatus, StoreReplica,
};
pub use space::{Space, SpaceSpec, SpaceStatus};
pub use status::ReferenceStatus;
pub use task_definition::{
    Adopt, Once, PodTemplate, Rotation, Run, Schedule, Service, TaskDefinition, TaskDefinitionSpec,
    TaskDefinitionStatus,
};
pub use task_revision::{TaskRevision, TaskRevisionSpec};

/// All custom resource definitions, in the order of their kinds' names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        SealedRecord::crd(),
        SecretResolver::crd(),
        SecretStore::crd(),
        Space::crd(),
        TaskDefinition::crd(),
        TaskRevision::crd(),
    ]
}

/// The YAML of all definitions, as (file name, content), one file per kind: `taskdefinitions.yaml` …
///
/// # Errors
///
/// If a definition cannot be written as YAML, which would be a fault of this crate.
pub fn rendered() -> Result<Vec<(String, String)>, serde_yaml::ser::Error> {
    definitions()
        .iter()
        .map(|definition| {
            Ok((
                format!("{}.yaml", definition.spec.names.plural),
                serde_yaml::to_string(definition)?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests;
