//! Mesos' validation, case by case: `vectors/mesos-validation.json` says what Mesos answers.

#![allow(clippy::unwrap_used)] // tests; clippy.toml does not reach helpers of integration tests

use rstest::rstest;
use serde_json::{Value, json};
use watchword_core::mesos::{self, Violation};

/// Runs one case and returns the text, if the input is refused.
fn refusal(kind: &str, input: &Value) -> Option<String> {
    let read = || input.clone();
    let result: Result<(), Violation> = match kind {
        "id" => mesos::validate_id(input.as_str().unwrap()),
        "secret" => mesos::validate_secret(&serde_json::from_value(read()).unwrap()),
        "environment" => mesos::validate_environment(&serde_json::from_value(read()).unwrap()),
        "volume" => mesos::validate_volume(&serde_json::from_value(read()).unwrap()),
        "container" => mesos::validate_container(&serde_json::from_value(read()).unwrap()),
        "task" => mesos::validate_task(&serde_json::from_value(read()).unwrap()),
        "group" => {
            let tasks: Vec<_> = serde_json::from_value(read()).unwrap();
            mesos::validate_task_group(&tasks)
        }
        other => panic!("no such kind: {other}"),
    };
    result.err().map(|violation| violation.message().to_owned())
}

#[test]
fn every_case_comes_out_as_in_mesos() {
    let vectors: Value =
        serde_json::from_str(include_str!("vectors/mesos-validation.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();

    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let got = refusal(case["kind"].as_str().unwrap(), &case["input"]);
            let expected = case["error"].as_str().map(str::to_owned);
            (got != expected).then(|| format!("{}: {got:?}, not {expected:?}", case["name"]))
        })
        .collect();

    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(cases.len(), 68, "the vectors are cut short");
}

#[rstest]
#[case::command(
    json!({"command": {"environment": {"variables": [{"name": "A"}]}}}),
    "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"
)]
#[case::volume(
    json!({"container": {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "a"}]}}),
    "Task's `ContainerInfo` is invalid: Invalid volume: Only one of them should be set: 'host_path', 'image' and 'source'"
)]
#[case::docker(
    json!({"container": {"type": "DOCKER"}}),
    "Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
)]
#[case::docker_parameter(
    json!({"container": {"type": "DOCKER", "docker": {"image": "a", "parameters": [{"key": "name", "value": "x"}]}}}),
    "Task's `ContainerInfo` is invalid: Parameter in DockerInfo must not be 'name'"
)]
#[case::executor_command(
    json!({"executor": {"command": {"environment": {"variables": [{"name": "A"}]}}}}),
    "Executor's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"
)]
#[case::executor_container(
    json!({"executor": {"container": {"type": "DOCKER"}}}),
    "Executor's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
)]
#[case::kill_policy(
    json!({"kill_policy": {"grace_period": {"nanoseconds": -1}}}),
    "Task's 'kill_policy.grace_period' must be non-negative"
)]
#[case::max_completion_time(
    json!({"max_completion_time": {"nanoseconds": -1}}),
    "Task's `max_completion_time` must be non-negative"
)]
#[case::health_check_without_type(
    json!({"health_check": {"http": {"port": 80}}}),
    "Task uses invalid health check: HealthCheck must specify 'type'"
)]
#[case::health_check_path(
    json!({"health_check": {"type": "HTTP", "http": {"port": 80, "path": "healthz"}}}),
    "Task uses invalid health check: The path 'healthz' of HTTP health check must start with '/'"
)]
#[case::health_check_command(
    json!({"health_check": {"type": "COMMAND", "command": {"shell": false}}}),
    "Task uses invalid health check: Command health check must contain 'executable path'"
)]
#[case::health_check_delay(
    json!({"health_check": {"type": "TCP", "tcp": {"port": 80}, "delay_seconds": -1}}),
    "Task uses invalid health check: Expecting 'delay_seconds' to be non-negative"
)]
#[case::check(
    json!({"check": {"type": "TCP"}}),
    "Task uses invalid check: Expecting 'tcp' to be set for TCP check"
)]
#[case::id(json!({"task_id": {"value": "a/b"}}), "'a/b' contains invalid characters")]
fn a_task_is_refused_in_mesos_words(#[case] task: Value, #[case] text: &str) {
    assert_eq!(refusal("task", &task).as_deref(), Some(text));
}

#[test]
fn a_task_may_go_without_resources_here() {
    assert_eq!(refusal("task", &json!({"name": "web", "command": {"value": "true"}})), None);
}

#[rstest]
#[case::task(
    json!([{"name": "a"}, {"name": "b", "container": {"type": "DOCKER", "docker": {"image": "x"}}}]),
    "Task 'b' is invalid: Docker ContainerInfo is not supported on the task"
)]
#[case::member(
    json!([{"task_id": {"value": "one"}, "container": {"type": "DOCKER"}}, {"name": "b"}]),
    "Task 'one' is invalid: Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
)]
#[case::executor(
    json!([{"name": "a", "executor": {"container": {"type": "DOCKER", "docker": {"image": "x"}}}}]),
    "Docker ContainerInfo is not supported on the executor"
)]
fn a_task_group_is_refused_in_mesos_words(#[case] tasks: Value, #[case] text: &str) {
    assert_eq!(refusal("group", &tasks).as_deref(), Some(text));
}

#[test]
fn a_violation_knows_its_field() {
    let task = json!({"command": {"environment": {"variables": [
        {"name": "A", "value": "a"}, {"name": "B", "type": "SECRET", "secret": {"type": "VALUE"}},
    ]}}});

    let violation = mesos::validate_task(&serde_json::from_value(task).unwrap()).unwrap_err();

    assert_eq!(violation.path(), "command.environment.variables[1].secret");
}
