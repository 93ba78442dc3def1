//! TaskRevision: an immutable snapshot of what pods see of a TaskDefinition.
//!
//! It is named `<definition>-<digest>`; the store recomputes the digest, so a revision that was
//! edited behind the API server's back is worth nothing.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::mesos::TaskInfo;
use crate::task_definition::PodTemplate;

/// The snapshot. Only the controller may write it, once.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "watchword.dev",
    version = "v1alpha1",
    kind = "TaskRevision",
    namespaced,
    doc = "An immutable snapshot of what pods see of a TaskDefinition; written by Watchword only.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "tr",
    category = "watchword",
    printcolumn(
        name = "Definition",
        type_ = "string",
        json_path = ".spec.definition",
        description = "The TaskDefinition that this is a snapshot of"
    ),
    printcolumn(
        name = "Id",
        type_ = "string",
        json_path = ".spec.id",
        description = "The service id"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.definition",
    selectable = ".spec.id"
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(validation = Rule::new("self == oldSelf").message("a TaskRevision cannot be changed"))]
#[serde(rename_all = "camelCase")]
pub struct TaskRevisionSpec {
    /// The service id that secrets are given out by.
    pub id: String,
    /// The name of the TaskDefinition that this is a snapshot of.
    pub definition: String,
    /// The tasks, as Mesos writes them in JSON.
    #[schemars(length(min = 1, max = 20))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
    /// Fields of the pod that Mesos has no word for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// The service account of the pods; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The SecretResolver that references go to; the sealed store when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Whether the pods are those of the user's own workloads.
    pub adopt: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_never_changes() {
        let spec = TaskRevisionSpec {
            id: "/shop/web".to_owned(),
            definition: "web".to_owned(),
            tasks: vec![TaskInfo { name: Some("web".to_owned()), ..TaskInfo::default() }],
            ..TaskRevisionSpec::default()
        };
        let before = TaskRevision::new("web-1", spec);
        let mut after = before.clone();

        assert!(after.validate_cel_update(&before).is_ok());
        after.spec.tasks[0].name = Some("evil".to_owned());

        let complaint = after.validate_cel_update(&before).unwrap_err().to_string();
        assert!(complaint.contains("a TaskRevision cannot be changed"), "{complaint}");
    }
}
