// Builders take JSON as literals, which are values.
#![allow(clippy::needless_pass_by_value)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A definition with one task, which `task` is merged over.
fn with_task(task: Value) -> TaskDefinitionSpec {
    let mut whole = json!({
        "name": "web",
        "command": {"value": "sleep 1"},
        "container": {
            "type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": "busybox:1"}}},
        },
    });
    json_patch::merge(&mut whole, &task);
    with(json!({"tasks": [whole]}))
}

fn with(spec: Value) -> TaskDefinitionSpec {
    serde_json::from_value(spec).unwrap()
}

fn variables(variables: Value) -> Value {
    json!({"command": {"environment": {"variables": variables}}})
}

fn files(paths: &[&str]) -> Value {
    let volume = |path: &&str| json!({"mode": "RO", "container_path": path, "source": {"type": "SECRET", "secret": secret()}});
    json!({"container": {"volumes": paths.iter().map(volume).collect::<Vec<_>>()}})
}

fn secret() -> Value {
    json!({"type": "REFERENCE", "reference": {"name": "/shop/db"}})
}

fn judge(spec: &TaskDefinitionSpec) -> Result<Vec<Warning>, Invalid> {
    validate(spec, "shop", "web")
}

fn refusal(spec: &TaskDefinitionSpec) -> String {
    judge(spec).unwrap_err().to_string()
}

fn warnings(spec: &TaskDefinitionSpec) -> Vec<String> {
    judge(spec).unwrap().iter().map(Warning::to_string).collect()
}

#[test]
fn an_ordinary_definition_passes_without_a_word() {
    let mut task = variables(json!([
        {"name": "PASSWORD", "type": "SECRET", "secret": secret()},
        {"name": "PLAIN", "value": "a"},
    ]));
    json_patch::merge(&mut task, &files(&["etc/password", "/etc/other"]));

    assert_eq!(warnings(&with_task(task)), [""; 0]);
}

#[rstest]
#[case::mesos_environment(
    variables(json!([{"name": "A", "type": "SECRET"}])),
    "spec.tasks[0].command.environment.variables[0]: Task's `CommandInfo` is invalid: Environment variable 'A' of type 'SECRET' must have a secret set"
)]
#[case::mesos_reader(
    json!({"container": {"type": "LXC"}}),
    "spec.tasks[0].container.type: Failed to find enum for 'LXC'"
)]
#[case::mesos_volume(
    json!({"container": {"volumes": [{"mode": "RO", "container_path": "a"}]}}),
    "spec.tasks[0].container.volumes[0]: Task's `ContainerInfo` is invalid: Invalid volume: Only one of them should be set: 'host_path', 'image' and 'source'"
)]
#[case::path_that_climbs(
    files(&["a", "../x"]),
    r#"spec.tasks[0].container.volumes[1].container_path: "../x" leaves the sandbox; use a path without "..""#
)]
#[case::empty_path(
    files(&[""]),
    r#"spec.tasks[0].container.volumes[0].container_path: the path is empty; use the path of a file, such as "etc/password""#
)]
#[case::path_with_a_colon(
    files(&["a:b"]),
    r#"spec.tasks[0].container.volumes[0].container_path: "a:b" holds a colon, which no mount can; use a path without ":""#
)]
#[case::path_twice(
    files(&["a/b", ".//a/b"]),
    r#"spec.tasks[0].container.volumes[1].container_path: "/mnt/mesos/sandbox/a/b" is the path of an earlier volume too; give each its own"#
)]
#[case::path_in_a_path(
    files(&["/a/b", "/a"]),
    r#"spec.tasks[0].container.volumes[1].container_path: "/a" and "/a/b" of an earlier volume lie in each other; a secret is a file"#
)]
#[case::secret_of_no_type(
    variables(json!([{"name": "A", "type": "SECRET", "secret": {"reference": {"name": "a"}}}])),
    "spec.tasks[0].command.environment.variables[0].secret.type: the type is not set; use REFERENCE"
)]
#[case::secret_of_an_odd_type(
    variables(json!([{"name": "A", "type": "SECRET", "secret": {"type": "UNKNOWN"}}])),
    r#"spec.tasks[0].command.environment.variables[0].secret.type: "UNKNOWN" is no type of secret; use REFERENCE"#
)]
#[case::empty_reference(
    variables(json!([{"name": "A", "type": "SECRET", "secret": {"type": "REFERENCE", "reference": {"name": ""}}}])),
    "spec.tasks[0].command.environment.variables[0].secret.reference.name: the name is empty; use one like `shop/db`"
)]
#[case::empty_key(
    variables(json!([{"name": "A", "type": "SECRET", "secret": {"type": "REFERENCE", "reference": {"name": "a", "key": ""}}}])),
    "spec.tasks[0].command.environment.variables[0].secret.reference.key: the key is empty; name a member of the secret, or leave it out"
)]
#[case::invalid_secret_in_a_volume(
    json!({"container": {"volumes": [{"mode": "RO", "container_path": "a",
        "source": {"type": "SECRET", "secret": {"type": "REFERENCE"}}}]}}),
    "spec.tasks[0].container.volumes[0].source.secret: Invalid secret specified in volume: Secret of type REFERENCE must have the 'reference' field set"
)]
#[case::secret_and_plain_variable(
    variables(json!([{"name": "A", "type": "SECRET", "secret": secret()}, {"name": "A", "value": "a"}])),
    r#"spec.tasks[0].command.environment.variables[1].name: "A" is set twice, and one is a secret; leave one out"#
)]
#[case::variable_without_a_name(
    variables(json!([{"name": "", "value": "a"}])),
    "spec.tasks[0].command.environment.variables[0].name: the name is empty; name the variable"
)]
#[case::variable_with_an_equals_sign(
    variables(json!([{"name": "A=B", "value": "a"}])),
    r#"spec.tasks[0].command.environment.variables[0].name: "A=B" is no variable's name; use letters, digits and "_""#
)]
#[case::variable_with_nul(
    variables(json!([{"name": "A\0", "value": "a"}])),
    r#"spec.tasks[0].command.environment.variables[0].name: "A\0" is no variable's name; use letters, digits and "_""#
)]
#[case::variable_of_the_agent(
    variables(json!([{"name": "WATCHWORD_TOKEN", "value": "a"}])),
    r#"spec.tasks[0].command.environment.variables[0].name: "WATCHWORD_TOKEN" begins with "WATCHWORD_", which is the agent's; use another name"#
)]
#[case::value_with_nul(
    variables(json!([{"name": "A", "value": "a\0b"}])),
    "spec.tasks[0].command.environment.variables[0].value: it holds a NUL byte; no program could see what follows"
)]
#[case::no_image(
    json!({"container": {"mesos": null}}),
    "spec.tasks[0].container: no image is named; set mesos.image.docker.name (or docker.image with type DOCKER)"
)]
#[case::appc_image(
    json!({"container": {"mesos": {"image": {"type": "APPC"}}}}),
    "spec.tasks[0].container.mesos.image.type: Kubernetes has no Appc images; use type DOCKER"
)]
#[case::both_pull_secrets(
    json!({"container": {"mesos": {"image": {"docker": {"config": secret(), "secret": secret()}}}}}),
    "spec.tasks[0].container.mesos.image.docker.secret: it is another name of `config`, which is set too; leave one out"
)]
#[case::unknown_entry_point(
    json!({"command": {"value": null, "environment": {"variables": [{"name": "A", "type": "SECRET", "secret": secret()}]}}}),
    "spec.tasks[0].command.value: the image's entry point is not known, and secret variables need it; set `value` to the program"
)]
#[case::negative_resources(
    json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -0.5}}]}),
    "spec.tasks[0].resources[0].scalar.value: -0.5 is negative; use zero or more"
)]
#[case::odd_port(
    json!({"health_check": {"type": "TCP", "tcp": {"port": 70000}}}),
    "spec.tasks[0].health_check.tcp.port: 70000 is no port; use 1 to 65535"
)]
#[case::empty_name(
    json!({"name": ""}),
    "spec.tasks[0].name: the name is empty; name the task, such as \"web\""
)]
fn a_bad_task_is_refused_by_field_and_mend(#[case] task: Value, #[case] message: &str) {
    assert_eq!(refusal(&with_task(task)), message);
}

#[rstest]
#[case::no_tasks(json!({"tasks": []}), "spec.tasks: there is no task; add at least one")]
#[case::two_tasks_of_one_name(
    json!({"tasks": [
        {"name": "a", "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "x"}}}}},
        {"name": "a", "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "x"}}}}},
    ]}),
    "spec.tasks[1].name: \"a\" is the name of an earlier task too; give each its own"
)]
#[case::docker_in_a_group(
    json!({"tasks": [
        {"name": "a", "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "x"}}}}},
        {"name": "b", "container": {"type": "DOCKER", "docker": {"image": "x"}}},
    ]}),
    "spec.tasks[1].container.type: Task 'b' is invalid: Docker ContainerInfo is not supported on the task"
)]
#[case::id_that_climbs(
    json!({"id": "/shop/../bank", "tasks": [{"name": "a"}]}),
    "spec.id: `/shop/../bank` is no service id; use one like `/shop/web`, of letters, digits, `-`, `_` and `.` between slashes"
)]
#[case::two_ways_to_run(
    json!({"run": {"service": {}, "once": {}}}),
    "spec.run: exactly one of service, once, schedule, adopt must be set"
)]
#[case::no_way_to_run(
    json!({"run": {}}),
    "spec.run: exactly one of service, once, schedule, adopt must be set"
)]
#[case::cron(
    json!({"run": {"schedule": {"cron": "* * *"}}}),
    "spec.run.schedule.cron: \"* * *\" has 3 fields; use five, such as \"30 2 * * *\""
)]
#[case::the_default_account(
    json!({"run": {"adopt": {"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "default"}}}),
    "spec.run.adopt.serviceAccountName: adopted pods need a service account of their own; use one that is not \"default\""
)]
#[case::every_pod(
    json!({"run": {"adopt": {"selector": {}, "serviceAccountName": "web"}}}),
    "spec.run.adopt.selector: an empty selector matches every pod; name at least one label"
)]
#[case::adopted_container_name(
    json!({
        "tasks": [{"name": "Web Server"}],
        "run": {"adopt": {"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"}},
    }),
    "spec.tasks[0].name: \"Web Server\" cannot be the name of a container; use that of the container that the secrets are for"
)]
#[case::adopted_for_nothing(
    json!({
        "tasks": [{"name": "web", "command": {"environment": {"variables": [{"name": "A", "value": "a"}]}}}],
        "run": {"adopt": {"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"}},
    }),
    "spec.tasks: no task asks for a secret, and adopted pods get nothing else; give one a variable or a volume of type SECRET"
)]
fn a_bad_definition_is_refused_by_field_and_mend(#[case] spec: Value, #[case] message: &str) {
    let mut whole = serde_json::to_value(with_task(json!({}))).unwrap();
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }

    assert_eq!(refusal(&with(whole)), message);
}

#[test]
fn a_name_of_43_bytes_is_too_long_for_what_is_named_after_it() {
    let spec = with_task(json!({}));

    assert_eq!(validate(&spec, "shop", &"a".repeat(42)), Ok(Vec::new()));
    let refused = validate(&spec, "shop", &"a".repeat(43)).unwrap_err();
    assert_eq!(refused.field, "metadata.name");
}

#[test]
fn mesos_rules_of_all_tasks_come_before_ours() {
    let image =
        json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "x"}}}});
    let spec = with(json!({"tasks": [
        {"name": "a", "container": image, "command": {"environment": {"variables": [{"name": "", "value": "x"}]}}},
        {"name": "b", "container": image, "command": {"environment": {"variables": [{"name": "B"}]}}},
    ]}));

    assert!(refusal(&spec).starts_with("spec.tasks[1].command.environment.variables[0]: Task 'b'"));
}

#[rstest]
#[case::variables(
    |count| variables(json!(vec![json!({"name": ""}); count])),
    513,
    "spec.tasks[0].command.environment.variables: there are 513 variables; use at most 512"
)]
#[case::uris(
    |count| json!({"command": {"uris": vec![json!({"value": "x"}); count]}}),
    257,
    "spec.tasks[0].command.uris: there are 257 uris; use at most 256"
)]
#[case::volumes(
    |count| files(&vec!["../x"; count]),
    129,
    "spec.tasks[0].container.volumes: there are 129 volumes; use at most 128"
)]
fn a_list_that_is_too_long_is_refused_before_anything_in_it(
    #[case] task: fn(usize) -> Value,
    #[case] count: usize,
    #[case] message: &str,
) {
    assert_eq!(refusal(&with_task(task(count))), message);
}

#[test]
fn the_longest_lists_pass() {
    let names = (0..512).map(|index| json!({"name": format!("A{index}"), "value": "x"}));
    let mut task = variables(names.collect());
    let paths: Vec<String> = (0..128).map(|index| format!("a/{index}")).collect();
    json_patch::merge(&mut task, &files(&paths.iter().map(String::as_str).collect::<Vec<_>>()));

    assert_eq!(warnings(&with_task(task)), [""; 0]);
}

#[test]
fn a_plain_variable_may_be_set_again_and_again_but_not_by_a_secret() {
    let plain = json!({"name": "A", "value": "a"});
    let thrice = variables(json!([plain, plain, plain]));
    let last =
        variables(json!([plain, plain, {"name": "A", "type": "SECRET", "secret": secret()}]));

    assert_eq!(warnings(&with_task(thrice)).len(), 2);
    assert_eq!(
        refusal(&with_task(last)),
        "spec.tasks[0].command.environment.variables[2].name: \"A\" is set twice, and one is a \
         secret; leave one out"
    );
}

#[test]
fn inline_values_are_found_wherever_mesos_has_secrets_so_that_the_caller_can_refuse_them() {
    let inline = json!({"type": "VALUE", "value": {"data": "aHVudGVyMg=="}});
    let environment = json!({"variables": [{"name": "A", "type": "SECRET", "secret": inline}]});
    let csi = json!({"plugin_name": "p", "static_provisioning": {
        "volume_id": "v", "volume_capability": {}, "node_stage_secrets": {"s": inline},
    }});
    let task = json!({
        "command": {"value": "true", "environment": environment},
        "container": {
            "mesos": {"image": {"docker": {"name": "web", "config": inline}}},
            "volumes": [
                {"mode": "RO", "container_path": "a",
                    "source": {"type": "SECRET", "secret": inline}},
                {"mode": "RO", "container_path": "b",
                    "source": {"type": "CSI_VOLUME", "csi_volume": csi}},
            ],
        },
        "executor": {"command": {"value": "true", "environment": environment}},
        "health_check": {"type": "COMMAND",
            "command": {"value": "true", "environment": environment}},
    });

    let found = judge(&with_task(task)).unwrap();

    let fields: Vec<&str> = found
        .iter()
        .filter(|warning| warning.kind == WarningKind::InlineValue)
        .map(|warning| warning.field.strip_prefix("spec.tasks[0].").unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "command.environment.variables[0].secret",
            "container.mesos.image.docker.config",
            "container.volumes[0].source.secret",
            "container.volumes[1].source.csi_volume.static_provisioning.node_stage_secrets.s",
            "executor.command.environment.variables[0].secret",
            "health_check.command.environment.variables[0].secret",
        ]
    );
    let first = found.iter().find(|one| one.kind == WarningKind::InlineValue).unwrap();
    assert!(first.clone().into_invalid().message.contains("use type REFERENCE"));
    assert!(!format!("{found:?}").contains("aHVudGVyMg"));
}

#[test]
fn what_has_no_meaning_here_is_accepted_with_short_warnings() {
    let spec = with_task(json!({
        "task_id": {"value": "t"}, "slave_id": {"value": "s"}, "agent_id": {"value": "a"},
        "executor": {"executor_id": {"value": "e"}}, "data": "", "labels": {"labels": []},
        "check": {"type": "TCP", "tcp": {"port": 1}}, "discovery": {"visibility": "CLUSTER"},
        "max_completion_time": {"nanoseconds": 1},
        "resources": [{"name": "gpus", "type": "SCALAR", "scalar": {"value": 1}}],
        "command": {"uris": [{"value": "http://x"}], "user": "nobody", "arguments": ["x"]},
        "container": {
            "hostname": "h", "linux_info": {}, "rlimit_info": {}, "tty_info": {},
            "network_infos": [{"name": "n"}],
            "volumes": [{"mode": "RW", "container_path": "a", "host_path": "/a"}],
            "mesos": {"image": {"docker": {"config": secret(), "credential": {"principal": "p"}}}},
        },
        "health_check": {"type": "HTTP", "http": {"port": 80, "statuses": [200]}},
    }));

    let lines = warnings(&spec);

    assert_eq!(lines.len(), 22, "{lines:#?}");
    for line in &lines {
        assert!(line.chars().count() <= 120 && !line.ends_with('…'), "{line}");
    }
}

#[test]
fn a_long_warning_is_cut_to_120_characters() {
    let warning = Warning::new(WarningKind::Surprise, "spec", "é".repeat(200));

    let line = warning.to_string();

    assert_eq!(line.chars().count(), 120);
    assert!(line.ends_with('…'));
}

#[test]
fn an_adopted_task_needs_neither_image_nor_command() {
    let spec = with(json!({
        "tasks": [{"name": "web", "command": {"environment": {"variables": [
            {"name": "A", "type": "SECRET", "secret": secret()},
        ]}}}],
        "run": {"adopt": {"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"}},
    }));

    assert_eq!(warnings(&spec), [""; 0]);
}

#[test]
fn an_adopted_task_is_told_what_it_sets_in_vain() {
    let mut spec = with_task(variables(json!([
        {"name": "A", "value": "a"},
        {"name": "B", "type": "SECRET", "secret": secret()},
    ])));
    spec.run = with(json!({
        "run": {"adopt": {"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"}},
    }))
    .run;

    assert_eq!(warnings(&spec).len(), 3, "variable, command and image");
}

#[test]
fn a_renamed_container_is_said() {
    let lines = warnings(&with_task(json!({"name": "Web Server"})));

    assert_eq!(lines, ["spec.tasks[0].name: the container will be called \"web-server\""]);
}

#[rstest]
#[case::task_container(
    json!({"spec": {"containers": [{"name": "web", "image": "evil"}]}}),
    "spec.template.spec.containers[0].name: \"web\" is taken, and a task's container cannot be changed; use another name"
)]
#[case::task_container_as_init(
    json!({"spec": {"initContainers": [{"name": "web"}]}}),
    "spec.template.spec.initContainers[0].name: \"web\" is taken, and a task's container cannot be changed; use another name"
)]
#[case::twice(
    json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "a"}]}}),
    "spec.template.spec.initContainers[0].name: \"a\" is taken, and a task's container cannot be changed; use another name"
)]
#[case::our_container(
    json!({"spec": {"initContainers": [{"name": "watchword-files"}]}}),
    "spec.template.spec.initContainers[0].name: \"watchword-files\" cannot be the name of a container; names of Watchword's cannot either"
)]
#[case::our_volume_mounted(
    json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"name": "watchword-files-0"}]}]}}),
    "spec.template.spec.containers[0].volumeMounts[0].name: \"watchword-files-0\" is a task's or Watchword's; use a volume of your own"
)]
#[case::sandbox_mounted(
    json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"name": "sandbox-0"}]}]}}),
    "spec.template.spec.containers[0].volumeMounts[0].name: \"sandbox-0\" is a task's or Watchword's; use a volume of your own"
)]
#[case::our_variable(
    json!({"spec": {"containers": [{"name": "a", "env": [{"name": "WATCHWORD_REVISION"}]}]}}),
    "spec.template.spec.containers[0].env[0].name: \"WATCHWORD_REVISION\" is the agent's; use another name"
)]
#[case::our_volume(
    json!({"spec": {"volumes": [{"name": "watchword", "emptyDir": {}}]}}),
    "spec.template.spec.volumes[0].name: \"watchword\" is a name of Watchword's; use another"
)]
#[case::our_audience(
    json!({"spec": {"volumes": [{"name": "a", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "watchword:web"}}]}}]}}),
    "spec.template.spec.volumes[0].projected.sources: tokens for \"watchword:web\" are projected by Watchword only"
)]
#[case::our_label(
    json!({"metadata": {"labels": {"watchword.dev/task-definition": "other"}}}),
    "spec.template.metadata.labels: \"watchword.dev/task-definition\" is Watchword's; leave it out"
)]
#[case::label_that_is_no_text(
    json!({"metadata": {"annotations": {"a": true}}}),
    "spec.template.metadata.annotations.a: it is no text; put it in quotes"
)]
#[case::service_account(
    json!({"spec": {"serviceAccountName": "admin"}}),
    "spec.template.spec.serviceAccountName: it cannot be set here; what can is affinity, containers, imagePullSecrets, initContainers, nodeSelector, priorityClassName, securityContext, tolerations, topologySpreadConstraints, volumes"
)]
#[case::another_part(
    json!({"status": {}}),
    "spec.template.status: it cannot be set here; what can is metadata, spec"
)]
#[case::not_an_object(json!({"spec": []}), "spec.template.spec: it is no object")]
#[case::not_a_list(
    json!({"spec": {"containers": {"name": "web"}}}),
    "spec.template.spec.containers: it is no list"
)]
fn a_template_reaches_nothing_of_ours(#[case] template: Value, #[case] message: &str) {
    let mut spec = with_task(json!({}));
    spec.template = serde_json::from_value(template).unwrap();

    assert_eq!(refusal(&spec), message);
}

#[rstest]
#[case("hostPID")]
#[case("hostNetwork")]
#[case("hostIPC")]
#[case("shareProcessNamespace")]
#[case("restartPolicy")]
#[case("automountServiceAccountToken")]
#[case("ephemeralContainers")]
#[case("hostUsers")]
fn what_decides_who_sees_secrets_cannot_be_set(#[case] field: &str) {
    let mut spec = with_task(json!({}));
    spec.template = serde_json::from_value(json!({"spec": {field: true}})).unwrap();

    assert!(judge(&spec).is_err(), "{field}");
}

#[test]
fn a_template_may_say_where_and_beside_what_a_pod_runs() {
    let mut spec = with_task(json!({}));
    spec.template = serde_json::from_value(json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"example.org/note": "a"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
            "affinity": {}, "securityContext": {"runAsNonRoot": true},
            "containers": [{"name": "proxy", "image": "proxy", "volumeMounts": [{"name": "data"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }))
    .unwrap();

    assert_eq!(warnings(&spec), [""; 0]);
}

#[test]
fn a_revision_is_judged_like_its_definition() {
    let spec = with_task(files(&["../x"]));
    let revision = TaskRevisionSpec {
        id: "/shop/web".to_owned(),
        definition: "web".to_owned(),
        tasks: spec.tasks.clone(),
        ..TaskRevisionSpec::default()
    };

    assert_eq!(validate_revision(&revision).unwrap_err(), judge(&spec).unwrap_err());
}
