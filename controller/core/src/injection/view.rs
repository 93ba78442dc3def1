//! A pod as decisions see it: the few fields that they hang on, borrowed from the JSON text.
//!
//! Everything else is passed over unread, and cannot be lost: a pod is changed by a patch that
//! names only what is ours. Reading a pod this way takes a fraction of what it takes to build it,
//! and a pod that is made to be expensive costs the less. Lists are limited: three bytes of JSON
//! would else become a container of hundreds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use watchword_protocol::env_names;

/// A pod.
#[derive(Debug, Deserialize)]
pub struct PodView<'a> {
    metadata: Option<Metadata>,
    #[serde(borrow)]
    pub(super) spec: Option<SpecView<'a>>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    labels: Option<BTreeMap<String, String>>,
}

/// Of a pod's `spec`, what counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpecView<'a> {
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) containers: Option<Vec<ContainerView<'a>>>,
    #[serde(borrow)]
    pub(super) dns_policy: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) ephemeral_containers: Option<Vec<ContainerView<'a>>>,
    pub(super) host_network: Option<bool>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) init_containers: Option<Vec<ContainerView<'a>>>,
    #[serde(borrow)]
    pub(super) os: Option<Named<'a>>,
    pub(super) security_context: Option<SecurityContext>,
    pub(super) share_process_namespace: Option<bool>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) volumes: Option<Vec<Named<'a>>>,
}

/// Of a container, what counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerView<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) command: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) env: Option<Vec<Variable<'a>>>,
    #[serde(borrow)]
    lifecycle: Option<Box<Lifecycle<'a>>>,
    #[serde(borrow)]
    liveness_probe: Option<Box<Handler<'a>>>,
    #[serde(borrow)]
    readiness_probe: Option<Box<Handler<'a>>>,
    pub(super) security_context: Option<Box<SecurityContext>>,
    #[serde(borrow)]
    startup_probe: Option<Box<Handler<'a>>>,
    #[serde(borrow)]
    pub(super) termination_message_path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) volume_mounts: Option<Vec<Mount<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle<'a> {
    #[serde(borrow)]
    post_start: Option<Handler<'a>>,
    #[serde(borrow)]
    pre_stop: Option<Handler<'a>>,
}

/// A probe or a hook.
#[derive(Debug, Deserialize)]
struct Handler<'a> {
    #[serde(borrow)]
    exec: Option<Exec<'a>>,
}

/// A program that a probe or a hook runs.
#[derive(Debug, Deserialize)]
pub(super) struct Exec<'a> {
    #[serde(borrow)]
    pub(super) command: Option<Vec<Text<'a>>>,
}

/// What is known by its name.
#[derive(Debug, Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Variable<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) mount_path: Text<'a>,
}

/// Of a pod's or a container's `securityContext`, what decides whom files belong to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) fs_group: Option<i64>,
    pub(super) run_as_group: Option<i64>,
    pub(super) run_as_user: Option<i64>,
}

/// A text: borrowed, unless JSON spells it with escapes.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A list of as many items as a pod may have.
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_ITEMS} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::invalid_length(items.len() + 1, &self));
            }
            items.push(item);
        }
        Ok(Few(items))
    }
}

fn few<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Few<T>>::deserialize(deserializer)?.map(|few| few.0))
}

impl PodView<'_> {
    /// The label of this name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels()?.get(name).map(String::as_str)
    }

    /// All labels, if there are any.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.as_ref()?.labels.as_ref()
    }

    /// The revision that the containers name in their spec, if they agree on one.
    pub fn named_revision(&self) -> Option<&str> {
        let containers = self.spec.iter().flat_map(SpecView::all_containers);
        super::agreed(containers.filter_map(ContainerView::revision))
    }
}

impl<'a> SpecView<'a> {
    /// All containers but ephemeral ones: init containers, sidecars among them, then the others.
    pub(super) fn all_containers(&self) -> impl Iterator<Item = &ContainerView<'a>> {
        self.init_containers.iter().flatten().chain(self.containers.iter().flatten())
    }
}

impl<'a> ContainerView<'a> {
    /// The programs of probes and hooks, each with the place of its command in the container.
    pub(super) fn execs(&self) -> impl Iterator<Item = (&'static str, &Exec<'a>)> {
        let hooks = self.lifecycle.as_deref();
        [
            ("livenessProbe/exec/command", self.liveness_probe.as_deref()),
            ("readinessProbe/exec/command", self.readiness_probe.as_deref()),
            ("startupProbe/exec/command", self.startup_probe.as_deref()),
            ("lifecycle/postStart/exec/command", hooks.and_then(|hooks| hooks.post_start.as_ref())),
            ("lifecycle/preStop/exec/command", hooks.and_then(|hooks| hooks.pre_stop.as_ref())),
        ]
        .into_iter()
        .filter_map(|(place, handler)| Some((place, handler?.exec.as_ref()?)))
    }

    /// Whether it has a variable of this name.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.env.iter().flatten().any(|variable| &*variable.name == name)
    }

    fn revision(&self) -> Option<&str> {
        let variables = self.env.as_deref().unwrap_or_default();
        let variable = variables.iter().find(|one| &*one.name == env_names::WATCHWORD_REVISION)?;
        variable.value.as_deref()
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// More than a pod that fits into etcd has a use for.
const MAX_ITEMS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_made_of_nothing_but_containers_is_refused_early() {
        let pod = |count| {
            let containers = vec!["{}"; count].join(",");
            format!(r#"{{"spec": {{"containers": [{containers}], "volumes": null}}}}"#)
        };

        assert!(serde_json::from_str::<PodView<'_>>(&pod(MAX_ITEMS)).is_ok());
        let refused = serde_json::from_str::<PodView<'_>>(&pod(MAX_ITEMS + 1)).unwrap_err();

        assert!(refused.to_string().contains("at most 4096 items"), "{refused}");
    }
}
