//! Workloads: what a task definition becomes in Kubernetes.
//!
//! Rendering is a pure function from a definition to one manifest, which is plain JSON because it
//! is applied server-side: it holds the fields that Watchword means, and no others. What stands in
//! a manifest is no secret: values come to the pod later, through the webhook and the agent.
//!
//! Mesos passes commands, arguments and values on literally, while the kubelet rewrites `$$` and
//! `$(NAME)`; so every `$` is doubled here.

use serde_json::{Map, Value, json};
use watchword_crds::mesos::{CommandInfo, ContainerInfo, HealthCheck, Image, TaskInfo};
use watchword_crds::names;
use watchword_crds::task_definition::{Once, PodTemplate, Run, Schedule};
use watchword_crds::task_revision::TaskRevisionSpec;
use watchword_protocol::env_names;

use crate::container_name::container_names;
use crate::mesos::VariableType;
use crate::pod;
use crate::wanted::secrets_of;

mod resources;
mod template;

/// One manifest, ready to be applied server-side.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What kind of object it is.
    pub kind: WorkloadKind,
    /// The whole object, without owner references.
    pub manifest: Value,
}

/// The kinds of workload that Watchword makes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum WorkloadKind {
    /// `batch/v1` CronJob, for `run.schedule`.
    CronJob,
    /// `apps/v1` Deployment, for `run.service`.
    Deployment,
    /// `batch/v1` Job, for `run.once`.
    Job,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::CronJob, Self::Deployment, Self::Job];

    /// The kind that `run` asks for; `None` for adopted workloads, which Watchword does not make.
    pub fn of(run: &Run) -> Option<Self> {
        if run.adopt.is_some() {
            None
        } else if run.once.is_some() {
            Some(Self::Job)
        } else if run.schedule.is_some() {
            Some(Self::CronJob)
        } else {
            Some(Self::Deployment)
        }
    }

    /// `apps/v1` or `batch/v1`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment => "apps/v1",
            Self::CronJob | Self::Job => "batch/v1",
        }
    }

    /// `Deployment`, `Job` or `CronJob`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::CronJob => "CronJob",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
        }
    }
}

/// Renders the workload of a definition called `name` in `namespace`; `None` for adopted ones.
pub fn render(
    name: &str,
    namespace: &str,
    run: &Run,
    revision: &TaskRevisionSpec,
) -> Option<Workload> {
    let kind = WorkloadKind::of(run)?;
    let labels = json!({ names::TASK_DEFINITION_LABEL: name });
    let spec = match kind {
        WorkloadKind::CronJob => cron_job(&run.schedule.clone()?, revision),
        WorkloadKind::Deployment => deployment(run, revision),
        WorkloadKind::Job => job(run.once.as_ref()?, revision),
    };
    let manifest = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    });
    Some(Workload { kind, manifest })
}

fn deployment(run: &Run, revision: &TaskRevisionSpec) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {names::TASK_DEFINITION_LABEL: revision.definition}},
        "template": pod_template(revision, "Always"),
    });
    // Left out when absent, so that an autoscaler owns the field.
    let instances = run.service.as_ref().map_or(Some(1), |service| service.instances);
    insert(&mut spec, "replicas", instances.map(Value::from));
    spec
}

fn job(once: &Once, revision: &TaskRevisionSpec) -> Value {
    let mut spec = job_spec(once.backoff_limit, revision);
    insert(&mut spec, "completions", once.completions.map(Value::from));
    insert(&mut spec, "parallelism", once.parallelism.map(Value::from));
    spec
}

fn cron_job(schedule: &Schedule, revision: &TaskRevisionSpec) -> Value {
    let mut spec = json!({
        "schedule": schedule.cron,
        "jobTemplate": {
            "metadata": {"labels": {names::TASK_DEFINITION_LABEL: revision.definition}},
            "spec": job_spec(schedule.backoff_limit, revision),
        },
    });
    insert(&mut spec, "timeZone", schedule.time_zone.clone().map(Value::from));
    insert(&mut spec, "concurrencyPolicy", schedule.concurrency_policy.clone().map(Value::from));
    insert(&mut spec, "suspend", schedule.suspend.map(Value::from));
    insert(
        &mut spec,
        "startingDeadlineSeconds",
        schedule.starting_deadline_seconds.map(Value::from),
    );
    spec
}

fn job_spec(backoff_limit: Option<i32>, revision: &TaskRevisionSpec) -> Value {
    let template = pod_template(revision, "Never");
    let rules = failure_rules(revision, &template);
    let mut spec = json!({"template": template});
    insert(&mut spec, "podFailurePolicy", (!rules.is_empty()).then(|| json!({"rules": rules})));
    insert(&mut spec, "backoffLimit", backoff_limit.map(Value::from));
    spec
}

/// The agent ends with 78 when a secret cannot be had: that is no failure of the application, and it
/// must not use up the Job's attempts. Where there is no agent, 78 is a code like any other.
///
/// A rule may name a container of the template only, and the init container that writes files comes
/// later. So where there are files, everybody's 78 is ignored but that of those who are counted by
/// an earlier rule.
fn failure_rules(revision: &TaskRevisionSpec, template: &Value) -> Vec<Value> {
    let rule = |action: &str, container: Option<&str>| {
        let mut codes = json!({"operator": "In", "values": [AGENT_REFUSED]});
        insert(&mut codes, "containerName", container.map(Value::from));
        json!({"action": action, "onExitCodes": codes})
    };
    let wants: Vec<_> = revision.tasks.iter().map(secrets_of).collect();
    let names = container_names(&revision.tasks);
    let through_agent: Vec<&str> = names
        .iter()
        .zip(&wants)
        .filter(|(_, wanted)| !wanted.env.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    if wants.iter().all(|wanted| wanted.files.is_empty()) {
        return through_agent.iter().map(|name| rule("Ignore", Some(name))).collect();
    }
    let others = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| template["spec"][list].as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .filter(|name| !through_agent.contains(name));
    let counts = others.map(|name| rule("Count", Some(name))).take(MAX_FAILURE_RULES - 1);
    counts.chain([rule("Ignore", None)]).collect()
}

/// The pod template of a revision: the same for every kind of workload but for `restart_policy`.
fn pod_template(revision: &TaskRevisionSpec, restart_policy: &str) -> Value {
    let names = container_names(&revision.tasks);
    let hardened = template::runs_as_non_root(revision.template.as_ref());
    let mut labels = Map::new();
    labels.insert(names::TASK_DEFINITION_LABEL.to_owned(), revision.definition.clone().into());

    let mut containers = Vec::new();
    let mut volumes = Vec::new();
    for (index, (task, name)) in revision.tasks.iter().zip(&names).enumerate() {
        let sandbox = format!("sandbox-{index}");
        let mut container = container(task, name);
        insert(
            &mut container,
            "volumeMounts",
            Some(json!([{
                "name": sandbox, "mountPath": pod::SANDBOX,
            }])),
        );
        if hardened {
            harden(&mut container);
        }
        if !secrets_of(task).is_empty() {
            labels.insert(names::INJECT_LABEL.to_owned(), "true".into());
            push(
                &mut container,
                "env",
                json!({
                    "name": env_names::WATCHWORD_REVISION, "value": crate::revision::name(revision),
                }),
            );
        }
        containers.push(container);
        volumes.push(json!({"name": sandbox, "emptyDir": {}}));
    }
    let mut pod = json!({
        "metadata": {"labels": labels},
        "spec": {
            // A Mesos task has no Kubernetes credentials either; the agent's token is its own.
            "automountServiceAccountToken": false,
            "containers": containers,
            "restartPolicy": restart_policy,
            "volumes": volumes,
        },
    });
    insert(
        &mut pod["spec"],
        "serviceAccountName",
        revision.service_account_name.clone().map(Value::from),
    );
    insert(&mut pod["spec"], "terminationGracePeriodSeconds", grace_period(&revision.tasks));
    if let Some(PodTemplate(overlay)) = &revision.template {
        template::merge(&mut pod, overlay);
    }
    pod
}

/// The container of one task as it stands in a rendered pod template, before injection: name,
/// image, command, arguments, plain variables, resources, probe.
///
/// The store compares a pod's container with this one before it answers.
pub fn container(task: &TaskInfo, name: &str) -> Value {
    let command = task.command.as_ref();
    let (program, arguments) = command.map(argv).unwrap_or_default();
    let mut container = json!({"name": name, "env": environment(task)});
    insert(&mut container, "image", image(task).map(Value::from));
    insert(&mut container, "imagePullPolicy", pull_policy(task).map(Value::from));
    insert(&mut container, "command", non_empty(program));
    insert(&mut container, "args", non_empty(arguments));
    insert(&mut container, "resources", resources::of(task));
    insert(&mut container, "ports", ports(task));
    insert(&mut container, "livenessProbe", task.health_check.as_ref().and_then(liveness));
    insert(&mut container, "securityContext", command.and_then(user));
    container
}

/// The image that a task asks for, if it names one.
pub fn image(task: &TaskInfo) -> Option<&str> {
    let container = task.container.as_ref()?;
    let of_mesos = || container.mesos.as_ref()?.image.as_ref()?.docker.as_ref()?.name.as_deref();
    let of_docker = || container.docker.as_ref()?.image.as_deref();
    of_mesos().or_else(of_docker)
}

/// Doubles every `$`, so that the kubelet passes the text on as it stands.
pub fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// `command` and `args` of a Mesos command.
///
/// With `shell` (the default) the value is run by `/bin/sh -c` and the arguments are ignored;
/// without, the value is the program and the arguments are the whole argv. Kubernetes has no way
/// to set `argv[0]` apart from the program, so the first argument is dropped. Without a value the
/// arguments go to the image's own entry point (`mesos.proto`, `CommandInfo`).
fn argv(command: &CommandInfo) -> (Vec<String>, Vec<String>) {
    let shell = command.shell.unwrap_or(true);
    match (&command.value, shell) {
        (Some(value), true) => {
            (vec!["/bin/sh".to_owned(), "-c".to_owned(), escape(value)], Vec::new())
        }
        (Some(value), false) => (
            vec![escape(value)],
            command.arguments.iter().skip(1).map(|text| escape(text)).collect(),
        ),
        (None, true) => Default::default(),
        (None, false) => (Vec::new(), command.arguments.iter().map(|text| escape(text)).collect()),
    }
}

fn environment(task: &TaskInfo) -> Vec<Value> {
    let variables = task.command.iter().flat_map(|command| &command.environment);
    let plain = variables.flat_map(|environment| &environment.variables).filter_map(|variable| {
        match VariableType::read(variable.r#type.as_deref()) {
            VariableType::Value => Some(json!({
                "name": variable.name.as_deref().unwrap_or_default(),
                "value": escape(variable.value.as_deref().unwrap_or_default()),
            })),
            VariableType::Secret | VariableType::Unknown => None,
        }
    });
    // The agent of Mesos sets it; a plain variable of the definition wins, as it does there.
    let sandbox = json!({"name": pod::SANDBOX_VARIABLE, "value": pod::SANDBOX});
    std::iter::once(sandbox).chain(plain).fold(Vec::new(), |mut list, variable| {
        // Equal names would make server-side apply refuse the list; the last one wins in Mesos.
        list.retain(|other: &Value| other["name"] != variable["name"]);
        list.push(variable);
        list
    })
}

fn pull_policy(task: &TaskInfo) -> Option<&'static str> {
    let container: &ContainerInfo = task.container.as_ref()?;
    let image: Option<&Image> = container.mesos.as_ref().and_then(|mesos| mesos.image.as_ref());
    let uncached = image.is_some_and(|image| image.cached == Some(false));
    let forced =
        container.docker.as_ref().is_some_and(|docker| docker.force_pull_image == Some(true));
    (uncached || forced).then_some("Always")
}

fn ports(task: &TaskInfo) -> Option<Value> {
    let container = task.container.as_ref()?;
    let docker = container.docker.iter().flat_map(|docker| &docker.port_mappings);
    let networks = container.network_infos.iter().flat_map(|network| &network.port_mappings);
    let of_docker = docker.map(|port| (port.container_port, port.protocol.as_deref()));
    let of_networks = networks.map(|port| (port.container_port, port.protocol.as_deref()));
    let ports: Vec<Value> = of_docker
        .chain(of_networks)
        .filter_map(|(port, protocol)| {
            let protocol = protocol.unwrap_or("tcp").to_uppercase();
            Some(json!({"containerPort": port?, "protocol": protocol}))
        })
        .fold(Vec::new(), |mut list, port| {
            if !list.contains(&port) {
                list.push(port);
            }
            list
        });
    (!ports.is_empty()).then(|| ports.into())
}

/// A Mesos health check kills the task that fails it, as a liveness probe does. Defaults are those
/// of `mesos.proto`, `HealthCheck`. Failures within the grace period do not count there; here the
/// first check comes after it.
fn liveness(check: &HealthCheck) -> Option<Value> {
    let handler = if let Some(command) = &check.command {
        let (mut line, arguments) = argv(command);
        line.extend(arguments);
        json!({"exec": {"command": line}})
    } else if let Some(http) = &check.http {
        json!({"httpGet": {
            "path": http.path.as_deref().unwrap_or("/"),
            "port": http.port?,
            "scheme": http.scheme.as_deref().unwrap_or("http").to_uppercase(),
        }})
    } else {
        json!({"tcpSocket": {"port": check.tcp.as_ref()?.port?}})
    };
    let delay = check.delay_seconds.unwrap_or(15.0) + check.grace_period_seconds.unwrap_or(10.0);
    let mut probe = handler;
    insert(&mut probe, "initialDelaySeconds", Some(seconds(delay, 0)));
    insert(&mut probe, "periodSeconds", Some(seconds(check.interval_seconds.unwrap_or(10.0), 1)));
    insert(&mut probe, "timeoutSeconds", Some(seconds(check.timeout_seconds.unwrap_or(20.0), 1)));
    insert(
        &mut probe,
        "failureThreshold",
        Some(check.consecutive_failures.unwrap_or(3).max(1).into()),
    );
    Some(probe)
}

/// `user` has a meaning here only as a number: names belong to the image.
fn user(command: &CommandInfo) -> Option<Value> {
    let uid: i64 = command.user.as_ref()?.parse().ok()?;
    Some(json!({"runAsUser": uid}))
}

/// The longest grace period among the tasks, in whole seconds (`KillPolicy.grace_period`).
fn grace_period(tasks: &[TaskInfo]) -> Option<Value> {
    let nanoseconds = tasks
        .iter()
        .filter_map(|task| task.kill_policy.as_ref()?.grace_period.as_ref()?.nanoseconds)
        .max()?;
    Some(Value::from(nanoseconds.max(0).div_euclid(1_000_000_000)))
}

/// What `restricted` asks of a container, for definitions whose template says `runAsNonRoot`.
fn harden(container: &mut Value) {
    let context = &mut container["securityContext"];
    insert(context, "allowPrivilegeEscalation", Some(false.into()));
    insert(context, "capabilities", Some(json!({"drop": ["ALL"]})));
    insert(context, "seccompProfile", Some(json!({"type": "RuntimeDefault"})));
}

fn seconds(value: f64, least: i64) -> Value {
    Value::from((value.ceil() as i64).max(least))
}

fn non_empty(list: Vec<String>) -> Option<Value> {
    (!list.is_empty()).then(|| list.into())
}

fn insert(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}

fn push(object: &mut Value, key: &str, item: Value) {
    if let Some(list) = object[key].as_array_mut() {
        list.push(item);
    }
}

/// The exit code of the agent when a secret cannot be had (`EX_CONFIG` of `sysexits.h`).
pub const AGENT_REFUSED: i32 = 78;

/// How many rules a `podFailurePolicy` may have.
const MAX_FAILURE_RULES: usize = 20;

#[cfg(test)]
mod tests;
