//! A task, and the small messages that it shares with its executor.

use std::collections::BTreeMap;

use super::{CheckInfo, CommandInfo, ContainerInfo, ExecutorInfo, HealthCheck, Resource, Scalar};

super::messages! {
    /// One task, which is one container of the pod.
    #[derive(Debug)]
    pub struct TaskInfo {
        /// The task's name; the container is named after it.
        pub name: Option<String>,
        /// The task's id under Mesos. No effect here.
        pub task_id: Option<Id>,
        /// The Mesos agent's id (old name). No effect here.
        pub slave_id: Option<Id>,
        /// The Mesos agent's id. No effect here.
        pub agent_id: Option<Id>,
        /// What the task needs: `cpus`, `mem`, `disk` become requests; may be absent.
        pub resources: Vec<Resource>,
        /// The process that runs the task under Mesos. No effect here.
        pub executor: Option<ExecutorInfo>,
        /// What the task runs.
        pub command: Option<CommandInfo>,
        /// The image, the volumes and the secret files.
        pub container: Option<ContainerInfo>,
        /// How it is known whether the task is well.
        pub health_check: Option<HealthCheck>,
        /// A check whose result is only reported. No effect here.
        pub check: Option<CheckInfo>,
        /// How the task is stopped.
        pub kill_policy: Option<KillPolicy>,
        /// Bytes for the executor, in base64. No effect here.
        pub data: Option<String>,
        /// Labels of the task.
        pub labels: Option<Labels>,
        /// How the task is found. No effect here: make a Service.
        pub discovery: Option<DiscoveryInfo>,
        /// How long the task may run.
        pub max_completion_time: Option<DurationInfo>,
        /// The most the task may use, by resource: `cpus`, `mem`.
        pub limits: Option<BTreeMap<String, Scalar>>,
    }

    /// An id.
    #[derive(Debug)]
    pub struct Id {
        /// The id's text.
        pub value: Option<String>,
    }

    /// Labels.
    #[derive(Debug)]
    pub struct Labels {
        /// The labels.
        pub labels: Vec<Label>,
    }

    /// A label.
    #[derive(Debug)]
    pub struct Label {
        /// The key.
        pub key: Option<String>,
        /// The value.
        pub value: Option<String>,
    }

    /// How a task is stopped.
    #[derive(Debug)]
    pub struct KillPolicy {
        /// How long it may take after SIGTERM.
        pub grace_period: Option<DurationInfo>,
    }

    /// A length of time.
    #[derive(Debug)]
    pub struct DurationInfo {
        /// Nanoseconds.
        pub nanoseconds: Option<i64>,
    }

    /// How a task is found.
    #[derive(Debug)]
    pub struct DiscoveryInfo {
        /// `FRAMEWORK`, `CLUSTER` or `EXTERNAL`.
        pub visibility: Option<String>,
        /// The service's name.
        pub name: Option<String>,
        /// The environment, such as `prod`.
        pub environment: Option<String>,
        /// The location.
        pub location: Option<String>,
        /// The version.
        pub version: Option<String>,
        /// The ports.
        pub ports: Option<Ports>,
        /// Labels.
        pub labels: Option<Labels>,
    }

    /// Ports.
    #[derive(Debug)]
    pub struct Ports {
        /// The ports.
        pub ports: Vec<Port>,
    }

    /// A port.
    #[derive(Debug)]
    pub struct Port {
        /// The number.
        pub number: Option<i64>,
        /// The name.
        pub name: Option<String>,
        /// The protocol.
        pub protocol: Option<String>,
        /// `FRAMEWORK`, `CLUSTER` or `EXTERNAL`.
        pub visibility: Option<String>,
        /// Labels.
        pub labels: Option<Labels>,
    }
}
