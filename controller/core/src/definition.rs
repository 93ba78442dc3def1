//! Judging task definitions: Mesos' rules first, in Mesos' words, then our own stricter ones.
//!
//! The webhook refuses by this function, controller and store judge again by it, so that a
//! definition that came in while the webhook was away is worth no more. Our own rules close what
//! Mesos leaves open: paths that climb, names used twice, secrets of unknown type, references that
//! name nothing. What means something in Mesos and nothing in a pod is accepted with a warning.
//!
//! What depends on other objects is not judged here: whether the service id belongs to the
//! namespace, whether its Space allows inline values and the resolver (see `space`), and whether the
//! secrets exist.

use std::fmt;

use watchword_crds::mesos::TaskInfo;
use watchword_crds::names;
use watchword_crds::task_definition::{PodTemplate, Run, TaskDefinitionSpec};
use watchword_crds::task_revision::TaskRevisionSpec;

use crate::container_name::{container_names, is_container_name, is_label};
use crate::mesos::{read_task, validate_task, validate_task_group};
use crate::space::check_service_id;
use crate::wanted::asks_for_secrets;

mod environment;
mod inline;
mod schedule;
mod secrets;
mod task;
mod template;
mod unused;
mod volumes;

/// Why a definition is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The field, from the object's root: `spec.tasks[0].container.volumes[1].container_path`.
    pub field: String,
    /// What is wrong, in Mesos' words where it has some, and how to mend it where it has none.
    pub message: String,
}

impl Invalid {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What is accepted, though its author should know something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// The field, from the object's root.
    pub field: String,
    /// What kind of warning it is.
    pub kind: WarningKind,
    /// What to know.
    pub message: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum WarningKind {
    /// A secret stands in the definition itself. To be refused unless the namespace's Space allows
    /// inline values.
    InlineValue,
    /// The field means something in Mesos and nothing here.
    NoEffect,
    /// The field has an effect that its author might not expect.
    Surprise,
}

impl Warning {
    fn new(kind: WarningKind, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), kind, message: message.into() }
    }

    /// The refusal that this inline value gets where no Space allows it.
    pub fn into_invalid(self) -> Invalid {
        let message = match self.kind {
            WarningKind::InlineValue => {
                "an inline secret is plain text for whoever reads this object; store it and use \
                 type REFERENCE, or ask a cluster administrator for a Space with inlineValues: Allow"
                    .to_owned()
            }
            WarningKind::NoEffect | WarningKind::Surprise => self.message,
        };
        Invalid { field: self.field, message }
    }
}

/// One line of at most 120 characters, as the API server passes warnings on.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{}: {}", self.field, self.message);
        match line.char_indices().nth(MAX_WARNING_CHARACTERS) {
            None => f.write_str(&line),
            Some(_) => {
                let kept: String = line.chars().take(MAX_WARNING_CHARACTERS - 1).collect();
                write!(f, "{kept}…")
            }
        }
    }
}

/// Judges a TaskDefinition called `name` in `namespace`.
///
/// # Errors
///
/// The first rule that is broken: how long lists may be, then the reader's and validator's of
/// Mesos for all tasks, then ours.
pub fn validate(
    spec: &TaskDefinitionSpec,
    namespace: &str,
    name: &str,
) -> Result<Vec<Warning>, Invalid> {
    if name.len() > names::MAX_DEFINITION_NAME_BYTES {
        return Err(Invalid::new(
            "metadata.name",
            format!("{name:?} has {} bytes; use at most 42", name.len()),
        ));
    }
    let id = spec.id.clone().unwrap_or_else(|| format!("/{namespace}/{name}"));
    check_service_id(&id).map_err(|error| Invalid::new("spec.id", error.to_string()))?;
    let mut warnings = validate_tasks(&spec.tasks, spec.run.adopt.is_some())?;
    validate_run(&spec.run)?;
    if let Some(account) = &spec.service_account_name {
        judge_account(account, "spec.serviceAccountName")?;
    }
    if let Some(adopt) = &spec.run.adopt
        && spec.service_account_name.as_ref().is_some_and(|own| *own != adopt.service_account_name)
    {
        return Err(Invalid::new(
            "spec.serviceAccountName",
            "it differs from run.adopt.serviceAccountName; leave it out",
        ));
    }
    if spec.run.adopt.is_some() && !asks_for_secrets(&spec.tasks) {
        return Err(Invalid::new(
            "spec.tasks",
            "no task asks for a secret, and adopted pods get nothing else; give one a variable or \
             a volume of type SECRET",
        ));
    }
    warnings.extend(validate_template(
        spec.template.as_ref(),
        &spec.tasks,
        spec.run.adopt.is_some(),
    )?);
    // Not of a revision, which is judged at each release: there the store looks at the values themselves.
    for (index, task) in spec.tasks.iter().enumerate() {
        warnings.extend(inline::warn(task, &format!("spec.tasks[{index}]")));
    }
    warnings.extend(unused::warn_of_rotation(spec.rotation.as_ref()));
    Ok(warnings)
}

/// Judges a TaskRevision by the same rules, as far as they apply to one. The store and the webhook
/// trust no revision that an earlier, laxer version let in.
///
/// # Errors
///
/// As for [`validate`].
pub fn validate_revision(spec: &TaskRevisionSpec) -> Result<Vec<Warning>, Invalid> {
    check_service_id(&spec.id).map_err(|error| Invalid::new("spec.id", error.to_string()))?;
    let mut warnings = validate_tasks(&spec.tasks, spec.adopt)?;
    warnings.extend(validate_template(spec.template.as_ref(), &spec.tasks, spec.adopt)?);
    Ok(warnings)
}

/// Judges the tasks of one pod; with `is_adopted` the containers are somebody else's.
///
/// # Errors
///
/// As for [`validate`].
pub fn validate_tasks(tasks: &[TaskInfo], is_adopted: bool) -> Result<Vec<Warning>, Invalid> {
    if tasks.is_empty() {
        return Err(Invalid::new("spec.tasks", "there is no task; add at least one"));
    }
    if tasks.len() > names::MAX_TASKS {
        return Err(Invalid::new(
            "spec.tasks",
            format!("there are {} tasks; use at most {}", tasks.len(), names::MAX_TASKS),
        ));
    }
    for (index, task) in tasks.iter().enumerate() {
        judge_sizes(task, &format!("spec.tasks[{index}]"))?;
    }
    judge_by_mesos(tasks)?;

    let mut warnings = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        warnings.extend(task::judge(task, &format!("spec.tasks[{index}]"), is_adopted)?);
    }
    warnings.extend(judge_names(tasks, is_adopted)?);
    Ok(warnings)
}

/// Before anything looks at what the lists hold: an author's long list must not cost others time.
fn judge_sizes(task: &TaskInfo, at: &str) -> Result<(), Invalid> {
    let command = task.command.as_ref();
    let environment = command.and_then(|command| command.environment.as_ref());
    let variables = environment.map_or(0, |environment| environment.variables.len());
    if variables > MAX_VARIABLES {
        return Err(Invalid::new(
            format!("{at}.command.environment.variables"),
            format!("there are {variables} variables; use at most {MAX_VARIABLES}"),
        ));
    }
    let uris = command.map_or(0, |command| command.uris.len());
    if uris > MAX_URIS {
        return Err(Invalid::new(
            format!("{at}.command.uris"),
            format!("there are {uris} uris; use at most {MAX_URIS}"),
        ));
    }
    let volumes = task.container.as_ref().map_or(0, |container| container.volumes.len());
    if volumes > MAX_VOLUMES {
        return Err(Invalid::new(
            format!("{at}.container.volumes"),
            format!("there are {volumes} volumes; use at most {MAX_VOLUMES}"),
        ));
    }
    Ok(())
}

fn judge_by_mesos(tasks: &[TaskInfo]) -> Result<(), Invalid> {
    let field = |path: &str| match path.is_empty() {
        true => "spec.tasks".to_owned(),
        false => format!("spec.tasks{path}"),
    };
    let field_of = |index: usize, path: &str| match path.is_empty() {
        true => field(&format!("[{index}]")),
        false => field(&format!("[{index}].{path}")),
    };
    for (index, task) in tasks.iter().enumerate() {
        read_task(task).map_err(|violation| {
            Invalid::new(field_of(index, violation.path()), violation.message())
        })?;
    }
    match tasks {
        [task] => validate_task(task)
            .map_err(|violation| Invalid::new(field_of(0, violation.path()), violation.message())),
        tasks => validate_task_group(tasks)
            .map_err(|violation| Invalid::new(field(violation.path()), violation.message())),
    }
}

/// Tasks have names of their own, and containers get names like them.
fn judge_names(tasks: &[TaskInfo], is_adopted: bool) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    for (index, (task, container)) in tasks.iter().zip(container_names(tasks)).enumerate() {
        let name = task.name.as_deref().unwrap_or_default();
        let field = format!("spec.tasks[{index}].name");
        if name.is_empty() {
            return Err(Invalid::new(field, "the name is empty; name the task, such as \"web\""));
        }
        if tasks[..index].iter().any(|other| other.name.as_deref() == Some(name)) {
            return Err(Invalid::new(
                field,
                format!("{name:?} is the name of an earlier task too; give each its own"),
            ));
        }
        if is_adopted && !is_container_name(name) {
            return Err(Invalid::new(
                field,
                format!(
                    "{name:?} cannot be the name of a container; use that of the container that \
                     the secrets are for"
                ),
            ));
        }
        if container != name {
            warnings.push(Warning::new(
                WarningKind::Surprise,
                field,
                format!("the container will be called {container:?}"),
            ));
        }
    }
    Ok(warnings)
}

fn validate_run(run: &Run) -> Result<(), Invalid> {
    let ways =
        [run.service.is_some(), run.once.is_some(), run.schedule.is_some(), run.adopt.is_some()];
    if ways.iter().filter(|set| **set).count() != 1 {
        return Err(Invalid::new(
            "spec.run",
            "exactly one of service, once, schedule, adopt must be set",
        ));
    }
    if let Some(schedule) = &run.schedule {
        schedule::judge(schedule)?;
    }
    let Some(adopt) = &run.adopt else { return Ok(()) };
    if matches!(adopt.service_account_name.as_str(), "" | "default") {
        return Err(Invalid::new(
            "spec.run.adopt.serviceAccountName",
            "adopted pods need a service account of their own; use one that is not \"default\"",
        ));
    }
    judge_account(&adopt.service_account_name, "spec.run.adopt.serviceAccountName")?;
    let selector = &adopt.selector;
    let has_labels = selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty());
    let has_terms = selector.match_expressions.as_ref().is_some_and(|terms| !terms.is_empty());
    if !has_labels && !has_terms {
        return Err(Invalid::new(
            "spec.run.adopt.selector",
            "an empty selector matches every pod; name at least one label",
        ));
    }
    Ok(())
}

fn validate_template(
    template: Option<&PodTemplate>,
    tasks: &[TaskInfo],
    is_adopted: bool,
) -> Result<Vec<Warning>, Invalid> {
    let Some(template) = template else { return Ok(Vec::new()) };
    template::judge(template, tasks)?;
    let warning = Warning::new(
        WarningKind::NoEffect,
        "spec.template",
        "no effect: adopted pods are made by somebody else",
    );
    Ok(is_adopted.then_some(warning).into_iter().collect())
}

fn judge_account(name: &str, field: &str) -> Result<(), Invalid> {
    match is_subdomain(name) {
        true => Ok(()),
        false => Err(Invalid::new(
            field,
            format!(
                "{name:?} cannot be the name of a service account; use small letters, digits, \
                 \"-\" and \".\""
            ),
        )),
    }
}

/// Whether it is what Kubernetes calls a DNS subdomain (RFC 1123), as most names of objects are.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// How many URIs a task may have.
const MAX_URIS: usize = 256;

/// How many variables a task may have.
const MAX_VARIABLES: usize = 512;

/// How many volumes a task may have.
const MAX_VOLUMES: usize = 128;

/// What Kubernetes asks of whoever writes warnings.
const MAX_WARNING_CHARACTERS: usize = 120;

#[cfg(test)]
mod tests;
