//! TaskDefinition: Mesos tasks with their secrets, and how they run in this namespace.
//!
//! The schema asks for as little as it can: what Mesos has a text for is said by the validating
//! webhook in Mesos' words, and controller and store judge again with the same function.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::mesos::TaskInfo;
use crate::opaque;
use crate::status::ReferenceStatus;

/// What is asked for.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "watchword.dev",
    version = "v1alpha1",
    kind = "TaskDefinition",
    namespaced,
    doc = "Mesos tasks with their secrets, and how they run in this namespace.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "td",
    category = "watchword",
    status = "TaskDefinitionStatus",
    selectable = ".spec.id",
    scale(
        spec_replicas_path = ".spec.run.service.instances",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "The state in Mesos' words"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods that are ready"
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.currentRevision",
        description = "The revision that new pods get"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Id",
        type_ = "string",
        json_path = ".spec.id",
        description = "The service id, if it is not the default",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.reason",
        description = "Why it is in this state",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "The reason in full",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 42")
        .message("metadata.name must not be longer than 42 bytes, so that what is named after it still fits")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = Rule::new("has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)")
        .message("id cannot be changed, added or removed: make another TaskDefinition")
        .field_path(".id")
)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionSpec {
    /// The service id that secrets are given out by, such as `/shop/web`; `/<namespace>/<name>` when absent.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tasks, as Mesos writes them in JSON. Each is one container; several are one pod.
    #[schemars(length(min = 1, max = 20))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
    /// How the tasks run: exactly one of `service`, `once`, `schedule`, `adopt`; one instance of a service when absent.
    #[schemars(transform = without_default)]
    #[serde(default)]
    pub run: Run,
    /// The SecretResolver that references go to; the sealed store when absent.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// What happens when a secret's value changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The service account of the pods; `default` when absent.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Fields of the pod that Mesos has no word for, merged over what Watchword renders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
}

/// How the tasks run.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("[has(self.service), has(self.once), has(self.schedule), has(self.adopt)].exists_one(x, x)")
        .message("exactly one of service, once, schedule, adopt must be set")
)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// As a Deployment that never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// As a Job that runs to completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// As a CronJob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Not at all: the secrets go into pods that somebody else makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
}

/// Takes the default out of the schema: written into the object it would be a `service` that nobody
/// asked for, beside which a later `once` is one too many.
fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

impl Default for Run {
    fn default() -> Self {
        Self {
            service: Some(Service { instances: Some(1) }),
            once: None,
            schedule: None,
            adopt: None,
        }
    }
}

/// As a Deployment.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// How many pods; left alone when absent, so that an autoscaler can set it.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<i32>,
}

/// As a Job.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Once {
    /// How many pods must succeed; 1 when absent.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completions: Option<i32>,
    /// How many pods run at once; 1 when absent.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// How often a failure is tried again; 6 when absent.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
    /// Whether a changed definition replaces the Job; when not, the Job stays as it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
}

/// As a CronJob.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When, in cron's five fields, such as `30 2 * * *`.
    #[schemars(length(min = 1, max = 253))]
    pub cron: String,
    /// The time zone of `cron`, such as `Europe/Berlin`; the cluster's when absent.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens while the last run goes on: `Allow` (when absent), `Forbid` or `Replace`.
    #[x_kube(
        validation = Rule::new("self in ['Allow', 'Forbid', 'Replace']")
            .message("concurrencyPolicy must be Allow, Forbid or Replace")
    )]
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<String>,
    /// Whether runs are paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How many seconds late a run may start.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<i64>,
    /// How often a failure is tried again; 6 when absent.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
}

/// Pods of the user's own workloads.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.serviceAccountName != '' && self.serviceAccountName != 'default'")
        .message("adopt needs a service account of its own: set serviceAccountName to one that is not `default`")
        .field_path(".serviceAccountName")
)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// Which pods of this namespace, by their labels.
    pub selector: LabelSelector,
    /// The service account that the pods run as; required, and not `default`.
    #[schemars(length(max = 253))]
    pub service_account_name: String,
}

/// What happens when a secret's value changes.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// `Never` (when absent): values change with the next start, as under Mesos. `Restart` and `Refresh` do not work yet.
    #[x_kube(
        validation = Rule::new("self in ['Never', 'Refresh', 'Restart']")
            .message("rotation.policy must be Never, Refresh or Restart")
    )]
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The most restarts in an hour; for policy `Restart`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts_per_hour: Option<i32>,
}

/// Fields of a pod template (`metadata`, `spec`) as Kubernetes writes them.
///
/// The schema keeps whatever is there, so that the CRD stays small; `watchword-core` holds the list
/// of the fields that are allowed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

impl JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        opaque::preserve_unknown_fields()
    }
}

/// What is observed; for people, nothing decides by it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionStatus {
    /// Accepted, SecretsResolved, Available, StoreTrusted and Conflict.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The TaskRevision that new pods get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// The state in Mesos' words: `TASK_STAGING`, `TASK_RUNNING`, `TASK_FINISHED`, `TASK_FAILED` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why, in Mesos' words: `REASON_CONTAINER_LAUNCH_FAILED` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How many pods there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The pods' label selector as text, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What is known of each secret reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceStatus>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn definition(name: &str, spec: Value) -> TaskDefinition {
        TaskDefinition::new(name, serde_json::from_value(spec).unwrap())
    }

    fn complaint(definition: &TaskDefinition) -> Option<String> {
        definition.validate_cel().err().map(|errors| errors.to_string())
    }

    #[test]
    fn without_run_one_instance_is_asked_for() {
        let definition = definition("web", json!({"tasks": [{"name": "web"}]}));

        let service = definition.spec.run.service.clone().unwrap();
        assert_eq!(service.instances, Some(1));
        assert_eq!(complaint(&definition), None);
    }

    #[rstest]
    #[case::none(json!({}))]
    #[case::two(json!({"service": {}, "once": {}}))]
    #[case::three(json!({
        "service": {}, "once": {}, "schedule": {"cron": "* * * * *"}
    }))]
    fn tasks_run_in_exactly_one_way(#[case] run: Value) {
        let complaint = complaint(&definition("web", json!({"run": run}))).unwrap();

        assert!(
            complaint.contains("exactly one of service, once, schedule, adopt must be set"),
            "{complaint}"
        );
    }

    #[rstest]
    #[case::service(json!({"service": {}}))]
    #[case::once(json!({"once": {}}))]
    #[case::schedule(json!({"schedule": {"cron": "* * * * *", "concurrencyPolicy": "Forbid"}}))]
    #[case::adopt(json!({"adopt": {"selector": {}, "serviceAccountName": "web"}}))]
    fn each_way_to_run_will_do(#[case] run: Value) {
        assert_eq!(complaint(&definition("web", json!({"run": run}))), None);
    }

    #[rstest]
    #[case::default_account(
        json!({"run": {"adopt": {"selector": {}, "serviceAccountName": "default"}}}),
        "adopt needs a service account of its own"
    )]
    #[case::no_account(
        json!({"run": {"adopt": {"selector": {}, "serviceAccountName": ""}}}),
        "adopt needs a service account of its own"
    )]
    #[case::concurrency(
        json!({"run": {"schedule": {"cron": "* * * * *", "concurrencyPolicy": "Maybe"}}}),
        "concurrencyPolicy must be Allow, Forbid or Replace"
    )]
    #[case::rotation(
        json!({"rotation": {"policy": "Sometimes"}}),
        "rotation.policy must be Never, Refresh or Restart"
    )]
    fn a_broken_rule_says_so(#[case] spec: Value, #[case] message: &str) {
        let complaint = complaint(&definition("web", spec)).unwrap();

        assert!(complaint.contains(message), "{complaint}");
    }

    #[test]
    fn a_name_has_at_most_42_bytes() {
        assert_eq!(complaint(&definition(&"a".repeat(42), json!({}))), None);
        assert!(complaint(&definition(&"a".repeat(43), json!({}))).unwrap().contains("42 bytes"));
    }

    #[rstest]
    #[case(Some("/shop/web"), Some("/shop/web"), true)]
    #[case(None, None, true)]
    #[case(Some("/shop/web"), Some("/bank/web"), false)]
    #[case(Some("/shop/web"), None, false)]
    #[case(None, Some("/shop/web"), false)]
    fn an_id_never_changes(
        #[case] before: Option<&str>,
        #[case] after: Option<&str>,
        #[case] is_allowed: bool,
    ) {
        let with = |id: Option<&str>| {
            let mut definition = definition("web", json!({}));
            definition.spec.id = id.map(str::to_owned);
            definition
        };

        let result = with(after).validate_cel_update(&with(before));

        assert_eq!(result.is_ok(), is_allowed, "{result:?}");
    }
}
