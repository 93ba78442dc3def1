//! The caches that reviews are answered from.

use std::sync::Arc;

use futures::future::try_join3;
use kube::runtime::reflector::{ObjectRef, Store};
use watchword_core::space::Ownership;
use watchword_crds::{Space, TaskDefinition, task_revision::TaskRevision};

use crate::follow::{follow, follow_readable};
use crate::shared::Shared;

/// Task definitions, their revisions, and spaces.
pub struct Caches {
    /// All task definitions of the cluster.
    pub definitions: Store<TaskDefinition>,
    /// All revisions of the cluster.
    pub revisions: Store<TaskRevision>,
    /// All spaces.
    pub spaces: Store<Space>,
}

impl Caches {
    /// Starts watching; the role is not Ready until each cache has been filled once.
    pub fn watch(shared: &Shared) -> Self {
        let caches = Self {
            definitions: follow_readable(shared),
            revisions: follow_readable(shared),
            // Spaces restrict: without one, its ids belong to the namespace of their name.
            spaces: follow(shared),
        };
        let condition = shared.readiness.condition("caches");
        let (definitions, revisions, spaces) =
            (caches.definitions.clone(), caches.revisions.clone(), caches.spaces.clone());
        tokio::spawn(async move {
            let ready = try_join3(
                definitions.wait_until_ready(),
                revisions.wait_until_ready(),
                spaces.wait_until_ready(),
            );
            if ready.await.is_ok() {
                condition.met();
            }
        });
        caches
    }

    /// The revision of this name.
    pub fn revision(&self, namespace: &str, name: &str) -> Option<Arc<TaskRevision>> {
        self.revisions.get(&ObjectRef::new(name).within(namespace))
    }

    /// Who owns which service ids, as the spaces stand now.
    pub fn ownership(&self) -> Ownership {
        let spaces = self.spaces.state();
        Ownership::of(spaces.iter().map(AsRef::as_ref))
    }

    /// The task definitions of a namespace.
    pub fn definitions_of(&self, namespace: &str) -> Vec<Arc<TaskDefinition>> {
        let mut definitions = self.definitions.state();
        definitions.retain(|one| one.metadata.namespace.as_deref() == Some(namespace));
        definitions
    }
}
