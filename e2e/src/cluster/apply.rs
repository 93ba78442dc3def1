//! Applying manifests of any kind.

use anyhow::{Context, Result, bail};
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Api, core::ApiResource};
use serde_json::Value;

use super::{Cluster, rights, wait_for};
use crate::watchword::LIMIT;

impl Cluster {
    /// Server-side applies every document of a YAML text, in order, and returns what the server
    /// made of it. A custom resource definition and a binding are waited for: what follows may
    /// hang on them.
    ///
    /// # Errors
    ///
    /// At the first document that is no object or that the server refuses; its message is the
    /// end of the error.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_in(yaml, None).await
    }

    pub(super) async fn apply_in(
        &self,
        yaml: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for document in documents(yaml)? {
            applied.push(self.apply_object(document, namespace).await?);
        }
        Ok(applied)
    }

    /// Finds the API of an object by its `apiVersion` and `kind`.
    ///
    /// # Errors
    ///
    /// If the server does not have it.
    pub async fn api_of(
        &self,
        object: &DynamicObject,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>> {
        let types = object.types.as_ref().context("an object without apiVersion and kind")?;
        let kind = GroupVersionKind::try_from(types).context("a broken apiVersion")?;
        let (resource, capabilities): (ApiResource, ApiCapabilities) =
            pinned_kind(&self.client, &kind).await.with_context(|| {
                format!("the server has no {} {}", types.api_version, types.kind)
            })?;
        let own = object.metadata.namespace.as_deref();
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client(), &resource),
            Scope::Namespaced => {
                let namespace = own.or(namespace).unwrap_or("default");
                Api::namespaced_with(self.client(), namespace, &resource)
            }
        })
    }

    async fn apply_object(
        &self,
        document: Value,
        namespace: Option<&str>,
    ) -> Result<DynamicObject> {
        let object: DynamicObject =
            serde_json::from_value(document).context("a document that is no object")?;
        let name = object.metadata.name.clone().context("an object without a name")?;
        let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        let api = self.api_of(&object, namespace).await?;
        let applied = api
            .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot apply {kind} `{name}`"))?;
        match kind.as_str() {
            "CustomResourceDefinition" => {
                wait_for(&format!("`{name}` to be served"), LIMIT, async || {
                    established(&api.get(&name).await?)
                })
                .await?;
            }
            "ClusterRoleBinding" | "RoleBinding" => rights::take_effect(self, &applied).await?,
            _ => {}
        }
        Ok(applied)
    }
}

/// The objects of a YAML text; lists are taken apart.
fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_yaml::from_multiple(yaml).context("cannot read the manifest")?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut fields) if fields.get("kind").is_some_and(|kind| kind == "List") => {
                match fields.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => bail!("a List without items"),
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn established(definition: &DynamicObject) -> Result<()> {
    let conditions = definition.data["status"]["conditions"].as_array();
    let established = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    if established { Ok(()) } else { bail!("{}", definition.data["status"]["conditions"]) }
}

const FIELD_MANAGER: &str = "watchword-e2e";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_separated_lists_taken_apart_and_empty_ones_left_out() {
        let objects = documents(
            "---\nkind: A\n---\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n",
        )
        .unwrap();

        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }
}
