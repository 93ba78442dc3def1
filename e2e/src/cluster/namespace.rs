//! Namespaces: every story has its own.

use std::fmt::Debug;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;
use std::{env, process};

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, PostParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Cluster, wait_for};
use crate::watchword::LIMIT;

/// A namespace that a story has for itself.
#[derive(Clone, Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

impl Cluster {
    /// Makes a namespace whose name begins with `story`, and waits until pods can be made in it.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn namespace(&self, story: &str) -> Result<Namespace> {
        self.namespace_with(story, &[]).await
    }

    /// Makes a namespace with labels, such as
    /// `("pod-security.kubernetes.io/enforce", "restricted")`.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn namespace_with(&self, story: &str, labels: &[(&str, &str)]) -> Result<Namespace> {
        let name = unique(story);
        self.namespace_named(&name, labels).await
    }

    /// Makes a namespace of exactly this name, for stories in which the name matters.
    ///
    /// # Errors
    ///
    /// If the server refuses it, for one because it exists.
    pub async fn namespace_named(&self, name: &str, labels: &[(&str, &str)]) -> Result<Namespace> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let object = NamespaceObject {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        Api::all(self.client())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("cannot make namespace `{name}`"))?;
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        let namespace = Namespace { cluster: self.clone(), name: name.to_owned() };
        // A pod made before is refused.
        let accounts: Api<ServiceAccount> = namespace.api();
        wait_for("the default service account", LIMIT, async || accounts.get("default").await)
            .await?;
        Ok(namespace)
    }

    /// Best effort: nothing waits for it, and the cluster may be gone.
    pub(super) async fn remove_namespaces(&self) {
        if env::var_os("WATCHWORD_E2E_KEEP").is_some() {
            return;
        }
        let api: Api<NamespaceObject> = Api::all(self.client());
        for name in self.made_namespaces() {
            api.delete(&name, &DeleteParams::default()).await.ok();
        }
    }
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The API of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    /// As [`Cluster::apply`]; objects without a namespace go into this one.
    ///
    /// # Errors
    ///
    /// At the first document that is no object or that the server refuses.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.cluster.apply_in(yaml, Some(&self.name)).await
    }

    /// Runs `kubectl --namespace=<this>`.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<process::Output> {
        let namespace = format!("--namespace={}", self.name);
        let arguments: Vec<&str> =
            [namespace.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        self.cluster.kubectl(&arguments).await
    }

    /// Removes the namespace and what is in it, without waiting for the end of that.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn delete(&self) -> Result<()> {
        let api: Api<NamespaceObject> = Api::all(self.cluster.client());
        api.delete(&self.name, &DeleteParams::default())
            .await
            .with_context(|| format!("cannot delete namespace `{}`", self.name))?;
        Ok(())
    }
}

/// A name that no other story of this or another run has: the time, the process and a counter.
pub(super) fn unique(story: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{story}-{:x}-{:x}-{count:x}", time & 0xff_ffff, process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_of_one_story_differ() {
        assert_ne!(unique("story"), unique("story"));
    }
}
