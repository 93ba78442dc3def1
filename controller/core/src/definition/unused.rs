//! What means something in Mesos and nothing, or nothing yet, in a pod: a warning for each.

use watchword_crds::mesos::{CommandInfo, ContainerInfo, HealthCheck, TaskInfo};
use watchword_crds::task_definition::Rotation;

use super::{Warning, WarningKind};

/// Warns of what a task asks for in vain; `at` is its field.
pub(super) fn warn_of_task(task: &TaskInfo, at: &str, is_adopted: bool) -> Vec<Warning> {
    let mut fields = vec![
        (task.task_id.is_some(), "task_id", NOTHING),
        (task.slave_id.is_some(), "slave_id", NOTHING),
        (task.agent_id.is_some(), "agent_id", NOTHING),
        (task.executor.is_some(), "executor", "no effect: pods have no executor"),
        (task.check.is_some(), "check", "no effect: use health_check"),
        (task.data.is_some(), "data", NOTHING),
        (task.labels.is_some(), "labels", "no effect: use template.metadata.labels"),
        (task.discovery.is_some(), "discovery", "no effect: make a Service"),
        (task.max_completion_time.is_some(), "max_completion_time", NOTHING),
    ];
    fields.extend(task.command.as_ref().map(command).unwrap_or_default());
    fields.extend(task.container.as_ref().map(container).unwrap_or_default());
    fields.extend(task.health_check.as_ref().map(health_check).unwrap_or_default());
    if is_adopted {
        fields.extend(of_adopted(task));
    }
    let resources = task
        .resources
        .iter()
        .enumerate()
        .filter(|(_, resource)| !matches!(resource.name.as_deref(), Some("cpus" | "mem")));
    let resources = resources.map(|(index, _)| {
        Warning::new(
            WarningKind::NoEffect,
            format!("{at}.resources[{index}]"),
            "no effect: only cpus and mem count here",
        )
    });
    fields
        .into_iter()
        .filter(|(is_set, ..)| *is_set)
        .map(|(_, field, message)| {
            Warning::new(WarningKind::NoEffect, format!("{at}.{field}"), message)
        })
        .chain(resources)
        .collect()
}

/// Warns of a rotation that does not happen yet.
pub(super) fn warn_of_rotation(rotation: Option<&Rotation>) -> Option<Warning> {
    let policy = rotation?.policy.as_deref()?;
    (policy != "Never").then(|| {
        Warning::new(
            WarningKind::NoEffect,
            "spec.rotation.policy",
            "does not work yet: values change with the next start",
        )
    })
}

/// Whether a field is set, which it is, and what to say of it.
type Field = (bool, &'static str, &'static str);

fn command(command: &CommandInfo) -> Vec<Field> {
    let user = command.user.as_deref().is_some_and(|user| user.parse::<i64>().is_err());
    let arguments = !command.arguments.is_empty() && command.shell.unwrap_or(true);
    vec![
        (!command.uris.is_empty(), "command.uris", "not fetched yet"),
        (user, "command.user", "no effect: only a number can be a user here"),
        (arguments, "command.arguments", "ignored, as in Mesos, unless `shell` is false"),
    ]
}

fn container(container: &ContainerInfo) -> Vec<Field> {
    let docker = container.docker.as_ref();
    let networks = container.network_infos.iter().any(|network| network.name.is_some());
    let credential = container
        .mesos
        .as_ref()
        .and_then(|mesos| mesos.image.as_ref()?.docker.as_ref()?.credential.as_ref());
    vec![
        (container.hostname.is_some(), "container.hostname", "no effect: pods name themselves"),
        (networks, "container.network_infos", "no effect: pods join the cluster's network"),
        (
            container.linux_info.is_some(),
            "container.linux_info",
            "no effect: use template.spec.securityContext",
        ),
        (container.rlimit_info.is_some(), "container.rlimit_info", NOTHING),
        (container.tty_info.is_some(), "container.tty_info", NOTHING),
        (
            docker.is_some_and(|docker| docker.privileged == Some(true)),
            "container.docker.privileged",
            "no effect: the container is not privileged",
        ),
        (
            docker.is_some_and(|docker| docker.network.is_some()),
            "container.docker.network",
            "no effect: pods join the cluster's network",
        ),
        (
            docker.is_some_and(|docker| !docker.parameters.is_empty()),
            "container.docker.parameters",
            NOTHING,
        ),
        (
            docker.is_some_and(|docker| docker.volume_driver.is_some()),
            "container.docker.volume_driver",
            NOTHING,
        ),
        (
            credential.is_some(),
            "container.mesos.image.docker.credential",
            "no effect, and plain text for readers: remove it",
        ),
    ]
}

fn health_check(check: &HealthCheck) -> Vec<Field> {
    let command = check.command.as_ref();
    vec![
        (
            command.is_some_and(|command| command.environment.is_some()),
            "health_check.command.environment",
            "no effect: probes see the task's environment",
        ),
        (
            check.http.as_ref().is_some_and(|http| !http.statuses.is_empty()),
            "health_check.http.statuses",
            "no effect: 200 to 399 is healthy",
        ),
    ]
}

/// What an adopted container has from its own workload.
fn of_adopted(task: &TaskInfo) -> Vec<Field> {
    let command = task.command.as_ref();
    let container = task.container.as_ref();
    let has_image = container.is_some_and(|one| one.mesos.is_some() || one.docker.is_some());
    vec![
        (command.is_some_and(|one| one.value.is_some()), "command.value", OWN),
        (has_image, "container", "no effect but for secret volumes: the pod is your own"),
        (!task.resources.is_empty(), "resources", OWN),
        (task.limits.is_some(), "limits", OWN),
        (task.health_check.is_some(), "health_check", OWN),
        (task.kill_policy.is_some(), "kill_policy", OWN),
    ]
}

const NOTHING: &str = "no effect in Kubernetes";
const OWN: &str = "no effect: set it in your own pod";
