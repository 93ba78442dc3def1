//! The executor of a task: a process of Mesos' own that has no counterpart in a pod.

use super::{CommandInfo, ContainerInfo, DiscoveryInfo, DurationInfo, Id, Labels, Resource};

super::messages! {
    /// The process that would run the task under Mesos. No effect here.
    #[derive(Debug)]
    pub struct ExecutorInfo {
        /// `DEFAULT` or `CUSTOM`.
        pub r#type: Option<String>,
        /// Its id.
        pub executor_id: Option<Id>,
        /// The framework's id.
        pub framework_id: Option<Id>,
        /// What it runs.
        pub command: Option<CommandInfo>,
        /// Its container.
        pub container: Option<ContainerInfo>,
        /// Its resources.
        pub resources: Vec<Resource>,
        /// Its name.
        pub name: Option<String>,
        /// Where its log lines come from; deprecated.
        pub source: Option<String>,
        /// Bytes for it, in base64.
        pub data: Option<String>,
        /// How it is found.
        pub discovery: Option<DiscoveryInfo>,
        /// How long it may take to stop.
        pub shutdown_grace_period: Option<DurationInfo>,
        /// Its labels.
        pub labels: Option<Labels>,
    }
}
