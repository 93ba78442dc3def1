// Builders take JSON as literals, which are values.
#![allow(clippy::needless_pass_by_value)]

use rstest::rstest;
use serde_json::{Value, json};
use watchword_crds::task_definition::TaskDefinitionSpec;

use super::*;
use crate::revision;

#[rstest]
#[case::service("Deployment", json!({"service": {"instances": 2}}))]
#[case::once("Job", json!({"once": {"completions": 3, "backoffLimit": 1}}))]
#[case::schedule("CronJob", json!({"schedule": {"cron": "*/5 * * * *", "timeZone": "Etc/UTC"}}))]
fn a_definition_becomes_the_recorded_workload(#[case] kind: &str, #[case] run: Value) {
    let workload = render_spec(json!({"tasks": [web()], "run": run})).unwrap();

    assert_eq!(workload.kind.kind(), kind);
    insta::assert_json_snapshot!(kind, workload.manifest);
}

#[test]
fn an_adopted_workload_is_not_made() {
    let run = json!({"adopt": {"selector": {}, "serviceAccountName": "web"}});

    assert_eq!(render_spec(json!({"tasks": [web()], "run": run})), None);
}

#[test]
fn absent_instances_leave_the_replicas_to_an_autoscaler() {
    let absent = render_spec(json!({"tasks": [web()], "run": {"service": {}}})).unwrap();
    let default = render_spec(json!({"tasks": [web()]})).unwrap();

    assert_eq!(absent.manifest["spec"].get("replicas"), None);
    assert_eq!(default.manifest["spec"]["replicas"], 1);
}

#[rstest]
#[case::shell(json!({"value": "echo $$ $(A) ${B}"}), json!(["/bin/sh", "-c", "echo $$$$ $$(A) $${B}"]), None)]
#[case::shell_ignores_arguments(json!({"value": "a", "arguments": ["b"]}), json!(["/bin/sh", "-c", "a"]), None)]
#[case::program(json!({"shell": false, "value": "/bin/app", "arguments": ["app", "$(A)"]}), json!(["/bin/app"]), Some(json!(["$$(A)"])))]
#[case::program_without_arguments(json!({"shell": false, "value": "/bin/app"}), json!(["/bin/app"]), None)]
#[case::entry_point(json!({"shell": false, "arguments": ["-v"]}), Value::Null, Some(json!(["-v"])))]
fn commands_arrive_as_mesos_delivers_them(
    #[case] command: Value,
    #[case] expected: Value,
    #[case] arguments: Option<Value>,
) {
    let task: TaskInfo = serde_json::from_value(json!({"name": "t", "command": command})).unwrap();

    let container = container(&task, "t");

    assert_eq!(container.get("command").cloned().unwrap_or_default(), expected);
    assert_eq!(container.get("args"), arguments.as_ref());
}

#[rstest]
#[case::request_and_limit(json!({"resources": [scalar("cpus", 0.1), scalar("mem", 32.0)]}), json!({"requests": {"cpu": "100m", "memory": "32768Ki"}, "limits": {"memory": "32768Ki"}}))]
#[case::several_roles_add_up(json!({"resources": [scalar("cpus", 0.5), scalar("cpus", 1.0)]}), json!({"requests": {"cpu": "1500m"}, "limits": {}}))]
#[case::own_limits(json!({"resources": [scalar("mem", 1.0)], "limits": {"cpus": {"value": 2.0}}}), json!({"requests": {"memory": "1024Ki"}, "limits": {"cpu": "2000m", "memory": "1024Ki"}}))]
fn resources_are_counted_in_kubernetes_units(#[case] task: Value, #[case] expected: Value) {
    let task: TaskInfo = serde_json::from_value(task).unwrap();

    assert_eq!(container(&task, "t")["resources"], expected);
}

#[test]
fn a_template_that_forbids_root_hardens_the_tasks() {
    let spec = json!({
        "tasks": [web()],
        "template": {"spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000},
            "nodeSelector": {"disk": "ssd"},
            "volumes": [{"name": "own", "emptyDir": {}}],
        }},
    });

    let workload = render_spec(spec).unwrap();

    let pod = &workload.manifest["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 1000);
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn a_definition_without_secrets_is_not_injected() {
    let spec = json!({"tasks": [{"name": "t", "command": {"value": "true"}}]});

    let workload = render_spec(spec).unwrap();

    let pod = &workload.manifest["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"], json!({"watchword.dev/task-definition": "web"}));
    assert!(!pod.to_string().contains("WATCHWORD"));
}

#[test]
fn only_containers_that_the_agent_starts_are_forgiven_its_exit_code() {
    let other = json!({"name": "other", "command": {"value": "exit 78"}});
    let mut variables = web();
    variables["container"]["volumes"] = json!([]);

    let with_variables = rules_of(json!([variables, other]), Value::Null);
    let without = rules_of(json!([other]), Value::Null);

    assert_eq!(with_variables, json!({"rules": [rule("Ignore", Some("web"))]}));
    assert_eq!(without, Value::Null);
}

#[test]
fn where_files_are_written_those_without_an_agent_are_counted_first() {
    let mut files = web();
    files["name"] = "files".into();
    files["command"]["environment"]["variables"] = json!([]);
    let template = json!({"spec": {"initContainers": [{"name": "own"}]}});

    let rules = rules_of(json!([web(), files]), template);

    // The init container that writes them is not in the template, so no rule can name it.
    assert_eq!(
        rules,
        json!({"rules": [
            rule("Count", Some("own")), rule("Count", Some("files")), rule("Ignore", None),
        ]})
    );
}

#[test]
fn no_job_has_more_rules_than_the_api_server_takes() {
    let own: Vec<Value> = (0..30).map(|number| json!({"name": format!("own-{number}")})).collect();

    let rules = rules_of(json!([web()]), json!({"spec": {"containers": own}}));

    let rules = rules["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 20);
    assert_eq!(rules.last(), Some(&rule("Ignore", None)));
}

/// The `podFailurePolicy` of a Job with these tasks.
fn rules_of(tasks: Value, template: Value) -> Value {
    let spec = json!({"tasks": tasks, "run": {"once": {}}, "template": template});
    render_spec(spec).unwrap().manifest["spec"]["podFailurePolicy"].take()
}

fn rule(action: &str, container: Option<&str>) -> Value {
    let mut codes = json!({"operator": "In", "values": [78]});
    if let Some(name) = container {
        codes["containerName"] = name.into();
    }
    json!({"action": action, "onExitCodes": codes})
}

fn render_spec(spec: Value) -> Option<Workload> {
    let spec: TaskDefinitionSpec = serde_json::from_value(spec).unwrap();
    let revision = revision::snapshot(&spec, "shop", "web");
    render("web", "shop", &spec.run, &revision)
}

fn scalar(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

fn web() -> Value {
    let reference =
        json!({"type": "REFERENCE", "reference": {"name": "/shop/db", "key": "password"}});
    json!({
        "name": "web",
        "task_id": {"value": "web"},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "command": {
            "value": "exec serve --home $HOME",
            "environment": {"variables": [
                {"name": "DB", "type": "SECRET", "secret": reference},
                {"name": "PRICE", "value": "5$"},
            ]},
        },
        "container": {
            "type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": "app:1"}}},
            "volumes": [{
                "mode": "RO",
                "container_path": "certs/key",
                "source": {"type": "SECRET", "secret": reference},
            }],
        },
        "health_check": {"type": "COMMAND", "command": {"value": "test $PRICE"}, "interval_seconds": 5.0},
        "kill_policy": {"grace_period": {"nanoseconds": 3_000_000_000_i64}},
    })
}
