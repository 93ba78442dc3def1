//! `TaskInfo`, alone and in a group, by `src/master/validation.cpp`.

use watchword_crds::mesos::{ContainerInfo, DurationInfo, ExecutorInfo, TaskInfo};

use super::{
    ContainerType, Violation, validate_check, validate_command, validate_container,
    validate_health_check,
};

/// An id can be the name of a directory.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_id(id: &str) -> Result<(), Violation> {
    let is_invalid = |one: char| one.is_ascii_control() || matches!(one, '/' | '\\');
    if id.is_empty() {
        Err(Violation::new("ID must not be empty"))
    } else if id.len() > MAX_ID_BYTES {
        Err(Violation::new("ID must not be greater than 255 characters"))
    } else if matches!(id, "." | "..") {
        Err(Violation::new(format!("'{id}' is disallowed")))
    } else if id.contains(is_invalid) {
        Err(Violation::new(format!("'{id}' contains invalid characters")))
    } else {
        Ok(())
    }
}

/// A task that runs alone.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_task(task: &TaskInfo) -> Result<(), Violation> {
    if let Some(id) = task.task_id.as_ref().and_then(|id| id.value.as_deref()) {
        validate_id(id).map_err(|violation| violation.within("task_id"))?;
    }
    let grace_period = task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
    if is_negative(grace_period) {
        return Err(Violation::new("Task's 'kill_policy.grace_period' must be non-negative")
            .within("kill_policy.grace_period"));
    }
    if is_negative(task.max_completion_time.as_ref()) {
        return Err(Violation::new("Task's `max_completion_time` must be non-negative")
            .within("max_completion_time"));
    }
    if let Some(check) = &task.check {
        validate_check(check)
            .map_err(|violation| violation.within("check").told("Task uses invalid check: "))?;
    }
    if let Some(check) = &task.health_check {
        validate_health_check(check).map_err(|violation| {
            violation.within("health_check").told("Task uses invalid health check: ")
        })?;
    }
    if let Some(command) = &task.command {
        validate_command(command).map_err(|violation| {
            violation.within("command").told("Task's `CommandInfo` is invalid: ")
        })?;
    }
    if let Some(container) = &task.container {
        validate_container(container).map_err(|violation| {
            violation.within("container").told("Task's `ContainerInfo` is invalid: ")
        })?;
    }
    match &task.executor {
        None => Ok(()),
        Some(executor) => {
            validate_executor(executor).map_err(|violation| violation.within("executor"))
        }
    }
}

/// Tasks that run together: each valid alone, none of type DOCKER. The violation's path begins with
/// `[<index>]`.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken; a task without an id is called by its name.
pub fn validate_task_group(tasks: &[TaskInfo]) -> Result<(), Violation> {
    for (index, task) in tasks.iter().enumerate() {
        validate_task(task).and_then(|()| validate_in_group(task)).map_err(|violation| {
            violation
                .within(&format!("[{index}]"))
                .told(&format!("Task '{}' is invalid: ", called(task)))
        })?;
    }
    // The executor is judged after all tasks, and without their words in front.
    match tasks.iter().position(|task| {
        let executor = task.executor.as_ref().and_then(|executor| executor.container.as_ref());
        executor.is_some_and(is_docker)
    }) {
        None => Ok(()),
        Some(index) => Err(Violation::new("Docker ContainerInfo is not supported on the executor")
            .within(&format!("[{index}].executor.container.type"))),
    }
}

fn validate_in_group(task: &TaskInfo) -> Result<(), Violation> {
    if task.container.as_ref().is_some_and(is_docker) {
        return Err(Violation::new("Docker ContainerInfo is not supported on the task")
            .within("container.type"));
    }
    Ok(())
}

fn is_docker(container: &ContainerInfo) -> bool {
    ContainerType::read(container.r#type.as_deref()) == Some(ContainerType::Docker)
}

fn validate_executor(executor: &ExecutorInfo) -> Result<(), Violation> {
    if let Some(command) = &executor.command {
        validate_command(command).map_err(|violation| {
            violation.within("command").told("Executor's `CommandInfo` is invalid: ")
        })?;
    }
    if let Some(container) = &executor.container {
        validate_container(container).map_err(|violation| {
            violation.within("container").told("Executor's `ContainerInfo` is invalid: ")
        })?;
    }
    Ok(())
}

/// A task's id, or its name where no framework gave it one.
fn called(task: &TaskInfo) -> &str {
    let id = task.task_id.as_ref().and_then(|id| id.value.as_deref());
    id.or(task.name.as_deref()).unwrap_or_default()
}

fn is_negative(duration: Option<&DurationInfo>) -> bool {
    duration.and_then(|duration| duration.nanoseconds).is_some_and(|nanoseconds| nanoseconds < 0)
}

/// `NAME_MAX` of Linux: ids become directories.
const MAX_ID_BYTES: usize = 255;
