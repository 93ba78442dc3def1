use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_crds::task_definition::TaskDefinitionSpec;

use super::*;
use crate::{revision, workload};

#[rstest]
#[case::image_volume(Delivery::ImageVolume)]
#[case::init_container(Delivery::InitContainer)]
fn a_pod_with_variables_and_files_becomes_as_recorded(#[case] delivery: Delivery) {
    let revision = revision(json!([variable("web", "DB"), file("web", "certs/tls.key", "RO")]));

    let mutated = inject(&pod(), &revision, delivery).unwrap();

    insta::assert_json_snapshot!(format!("{delivery:?}"), mutated);
}

#[test]
fn a_container_without_secrets_is_left_alone() {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    let other = json!({"name": "other", "image": "x", "env": [{"name": "A", "value": "b"}]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(other.clone());

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    assert_eq!(mutated["spec"]["containers"][1], other);
}

#[test]
fn a_pod_with_variables_only_has_no_init_container_where_image_volumes_work() {
    let revision = revision(json!([variable("web", "DB")]));

    let mutated = inject(&pod(), &revision, Delivery::ImageVolume).unwrap();

    assert_eq!(mutated["spec"].get("initContainers"), None);
}

#[test]
fn exec_probes_and_hooks_are_wrapped_and_others_are_not() {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    let container = &mut pod["spec"]["containers"][0];
    container["livenessProbe"] = json!({"exec": {"command": ["check"]}});
    container["readinessProbe"] = json!({"httpGet": {"port": 80}});
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "stop"]}}});

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    let container = &mutated["spec"]["containers"][0];
    assert_eq!(
        container["livenessProbe"]["exec"]["command"],
        json!(["/watchword/agent", "exec", "--cached", "--", "check"])
    );
    assert_eq!(container["readinessProbe"], json!({"httpGet": {"port": 80}}));
    assert_eq!(
        container["lifecycle"]["preStop"]["exec"]["command"],
        json!(["/watchword/agent", "exec", "--cached", "--", "sh", "-c", "stop"])
    );
    assert!(has_volume(&mutated, "watchword-env-0"));
}

#[rstest]
#[case::application("containers", json!({}))]
#[case::sidecar("initContainers", json!({"restartPolicy": "Always"}))]
fn every_program_that_a_container_names_is_wrapped(#[case] place: &str, #[case] more: Value) {
    let handlers = [
        "/livenessProbe/exec/command",
        "/readinessProbe/exec/command",
        "/startupProbe/exec/command",
        "/lifecycle/postStart/exec/command",
        "/lifecycle/preStop/exec/command",
    ];
    let exec = || json!({"exec": {"command": ["check"]}});
    let mut side = json!({
        "name": "side", "image": "s", "command": ["side"],
        "livenessProbe": exec(), "readinessProbe": exec(), "startupProbe": exec(),
        "lifecycle": {"postStart": exec(), "preStop": exec()},
    });
    json_patch::merge(&mut side, &more);
    let mut pod = pod();
    let list = pod["spec"].as_object_mut().unwrap().entry(place).or_insert(json!([]));
    list.as_array_mut().unwrap().push(side);

    let revision = revision(json!([variable("side", "DB")]));
    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    let containers = mutated["spec"][place].as_array().unwrap();
    let side = containers.iter().find(|one| one["name"] == "side").unwrap();
    assert_eq!(side["command"], json!(["/watchword/agent", "exec", "--", "side"]));
    for handler in handlers {
        assert_eq!(
            side.pointer(handler),
            Some(&json!(["/watchword/agent", "exec", "--cached", "--", "check"])),
            "{handler}"
        );
    }
}

#[test]
fn a_container_without_a_command_is_refused_and_told_the_mend() {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    pod["spec"]["containers"][0].as_object_mut().unwrap().remove("command");

    let denial = inject(&pod, &revision, Delivery::ImageVolume).unwrap_err();

    assert!(denial.to_string().contains("set `command`"), "{denial}");
}

#[rstest]
#[case::default_of_kubernetes(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}), false)]
#[case::nothing_said(json!({"hostNetwork": true}), false)]
#[case::mended(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), true)]
#[case::chosen(json!({"hostNetwork": true, "dnsPolicy": "Default"}), true)]
#[case::network_of_its_own(json!({"hostNetwork": false, "dnsPolicy": "ClusterFirst"}), true)]
fn a_pod_that_would_not_find_the_store_is_refused_and_told_the_mend(
    #[case] fields: Value,
    #[case] passes: bool,
) {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    json_patch::merge(&mut pod["spec"], &fields);

    let mutated = inject(&pod, &revision, Delivery::InitContainer);

    let denial = mutated.err().map(|denial| denial.to_string());
    assert_eq!(denial.is_none(), passes, "{denial:?}");
    let mend = "set `dnsPolicy: ClusterFirstWithHostNet`";
    assert!(denial.is_none_or(|denial| denial.contains(mend)));
}

#[test]
fn a_container_that_the_pod_lacks_is_refused() {
    let revision = revision(json!([variable("db", "DB")]));

    let denial = inject(&pod(), &revision, Delivery::ImageVolume).unwrap_err();

    assert!(denial.to_string().contains("`db`"), "{denial}");
}

#[test]
fn a_mount_in_the_way_of_a_file_is_refused_however_it_is_spelled() {
    let revision = revision(json!([file("web", "/etc/app/key", "RO")]));
    let mut pod = pod();
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "own", "mountPath": "/etc//app/key/"}]);

    let denial = inject(&pod, &revision, Delivery::ImageVolume).unwrap_err();

    assert!(denial.to_string().contains("/etc//app/key/"), "{denial}");
}

#[rstest]
#[case::known_user(json!({"runAsUser": 1000}), "RO", 0o400)]
#[case::known_user_writes(json!({"runAsUser": 1000}), "RW", 0o600)]
#[case::group_of_the_pod(json!({"fsGroup": 2000}), "RO", 0o440)]
#[case::user_before_group(json!({"runAsUser": 1000, "fsGroup": 2000}), "RO", 0o400)]
#[case::nothing_known(json!({}), "RO", 0o444)]
#[case::nothing_known_writes(json!({}), "RW", 0o666)]
fn files_are_for_as_few_as_the_spec_lets_know(
    #[case] context: Value,
    #[case] mode: &str,
    #[case] expected: u32,
) {
    let revision = revision(json!([file("web", "key", mode)]));
    let mut pod = pod();
    pod["spec"]["securityContext"] = context;

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    let plan = mutated["spec"]["initContainers"][0]["env"][3]["value"].as_str().unwrap();
    let plan: Value = serde_json::from_str(plan).unwrap();
    assert_eq!(plan["containers"][0]["files"][0]["mode"], expected);
}

#[rstest]
#[case::nothing_said(Value::Null, Value::Null)]
#[case::somebody(json!({"runAsUser": 1000}), Value::Null)]
#[case::root(json!({"runAsUser": 0}), json!(65532))]
#[case::root_and_its_group(json!({"runAsUser": 0, "runAsGroup": 0}), json!(65532))]
fn the_agent_is_not_copied_by_root_where_pods_run_as_root(
    #[case] context: Value,
    #[case] user: Value,
) {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    pod["spec"]["securityContext"] = context;

    let mutated = inject(&pod, &revision, Delivery::InitContainer).unwrap();

    let install = &mutated["spec"]["initContainers"][0];
    assert_eq!(install["name"], "watchword-install");
    let context = &install["securityContext"];
    assert_eq!(context.get("runAsUser").cloned().unwrap_or_default(), user);
    // What `restricted` asks for.
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
}

#[test]
fn a_definition_whose_template_says_root_has_its_agent_copied_by_another_user() {
    let mut web = task("web", json!([secret("DB")]), json!([]));
    web["command"]["value"] = "serve".into();
    let spec: TaskDefinitionSpec = serde_json::from_value(json!({
        "tasks": [web],
        "template": {"spec": {"securityContext": {"runAsUser": 0}}},
    }))
    .unwrap();
    let revision = revision::snapshot(&spec, "shop", "web");
    let workload = workload::render("web", "shop", &spec.run, &revision).unwrap();

    let pod = &workload.manifest["spec"]["template"];
    let mutated = inject(pod, &revision, Delivery::InitContainer).unwrap();

    let install = &mutated["spec"]["initContainers"][0];
    assert_eq!(install["securityContext"]["runAsUser"], 65532);
}

#[test]
fn each_user_has_an_init_container_of_its_own() {
    let revision = revision(json!([
        task("web", json!([]), json!([volume("a", "RO")])),
        task("db", json!([]), json!([volume("b", "RO")])),
    ]));
    let mut pod = pod();
    let mut other = pod["spec"]["containers"][0].clone();
    other["name"] = "db".into();
    other["securityContext"] = json!({"runAsUser": 7});
    pod["spec"]["containers"].as_array_mut().unwrap().push(other);

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    let writers = mutated["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(writers.len(), 2);
    assert_eq!(writers[0]["name"], "watchword-files-0");
    assert_eq!(writers[1]["securityContext"]["runAsUser"], 7);
    let mounts = |writer: usize| -> Vec<&str> {
        let mounts = writers[writer]["volumeMounts"].as_array().unwrap();
        mounts.iter().map(|mount| mount["name"].as_str().unwrap()).collect()
    };
    assert_eq!(mounts(0), ["watchword-token-0", "watchword-files-0", "watchword-sandbox-0"]);
    assert_eq!(mounts(1), ["watchword-token-1", "watchword-files-1", "watchword-sandbox-1"]);
}

#[test]
fn fields_that_this_build_does_not_know_survive() {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    let unknown = json!({"name": "F", "valueFrom": {"fileKeyRef": {"path": "x", "key": "y"}}});
    pod["spec"]["containers"][0]["env"] = json!([unknown]);
    pod["spec"]["fromTheFuture"] = json!({"deep": [1]});

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    assert_eq!(mutated["spec"]["fromTheFuture"], pod["spec"]["fromTheFuture"]);
    let variables = mutated["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(variables.first(), Some(&unknown));
}

#[test]
fn variables_of_the_pod_cannot_refer_to_ours_but_may_to_the_sandbox() {
    let revision = revision(json!([variable("web", "DB"), file("web", "key", "RO")]));
    let mut pod = pod();
    let own = json!({"name": "A", "value": "$(WATCHWORD_STORE) $(MESOS_SANDBOX)"});
    pod["spec"]["containers"][0]["env"] = json!([own]);

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    // The kubelet expands what stands in front.
    let variables = mutated["spec"]["containers"][0]["env"].as_array().unwrap();
    let place = variables.iter().position(|variable| *variable == own).unwrap();
    let is_ours = |variable: &Value| variable["name"].as_str().unwrap().starts_with("WATCHWORD_");
    assert_eq!(
        variables[..place],
        [json!({"name": "MESOS_SANDBOX", "value": "/mnt/mesos/sandbox"})]
    );
    assert!(variables[place + 1..].iter().all(is_ours), "{variables:?}");
    assert!(!variables[place + 1..].is_empty());
}

#[test]
fn what_a_tenant_put_under_our_names_is_gone() {
    let revision = revision(json!([variable("web", "DB")]));
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "watchword-token-0", "hostPath": {"path": "/"}}]);
    let container = &mut pod["spec"]["containers"][0];
    container["env"] = json!([{"name": "WATCHWORD_STORE", "value": "https://evil.example"}]);
    container["volumeMounts"] = json!([{"name": "watchword-token-0", "mountPath": "/steal"}]);

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    assert!(!mutated.to_string().contains("evil"));
    assert!(!mutated.to_string().contains("/steal"));
    assert!(!mutated.to_string().contains("hostPath"));
}

#[test]
fn each_container_gets_a_token_of_its_own() {
    let revision = revision(json!([variable("web", "A"), variable("db", "B")]));
    let mut pod = pod();
    let mut other = pod["spec"]["containers"][0].clone();
    other["name"] = "db".into();
    pod["spec"]["containers"].as_array_mut().unwrap().push(other);

    let mutated = inject(&pod, &revision, Delivery::ImageVolume).unwrap();

    for (index, name) in ["web", "db"].iter().enumerate() {
        let token = format!("watchword-token-{index}");
        let volumes = mutated["spec"]["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == token.as_str()).unwrap();
        let audience = &volume["projected"]["sources"][0]["serviceAccountToken"]["audience"];
        assert_eq!(audience, &format!("watchword:{name}"));
        let mounts = mutated["spec"]["containers"][index]["volumeMounts"].as_array().unwrap();
        let tokens = mounts
            .iter()
            .filter(|mount| mount["name"].as_str().unwrap().starts_with("watchword-token"));
        assert_eq!(tokens.map(|mount| &mount["name"]).collect::<Vec<_>>(), [&Value::from(token)]);
    }
}

proptest! {
    #[test]
    fn mutating_twice_is_mutating_once(pod in pods(), image_volume: bool) {
        let revision = revision(json!([
            task("web", json!([secret("DB")]), json!([volume("a/b", "RO"), volume("/etc/key", "RW")])),
            variable("side", "S"),
        ]));
        let delivery = if image_volume { Delivery::ImageVolume } else { Delivery::InitContainer };

        let once = inject(&pod, &revision, delivery).unwrap();
        let twice = inject(&once, &revision, delivery).unwrap();

        prop_assert_eq!(&once, &twice);
    }

    #[test]
    fn the_patch_makes_the_mutated_pod(pod in pods()) {
        let revision = revision(json!([
            task("web", json!([secret("DB")]), json!([volume("a/b", "RO")])),
        ]));

        let mutated = inject(&pod, &revision, Delivery::InitContainer).unwrap();
        let text = pod.to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let settings = settings(Delivery::InitContainer);
        let patch = mutate(view, &revision::name(&revision), &revision, &settings).unwrap().patch;

        prop_assert_eq!(applied(&pod, &patch), mutated);
    }

    #[test]
    fn stripping_gives_back_what_came_in(pod in pods()) {
        let revision = revision(json!([variable("web", "DB"), variable("side", "S")]));
        let mut before = pod.clone();
        strip(&mut before);

        let mut stripped = inject(&pod, &revision, Delivery::ImageVolume).unwrap();
        strip(&mut stripped);

        prop_assert_eq!(without_empty_lists(stripped), without_empty_lists(before));
    }
}

/// Pods with a container `web` and a sidecar `side`, and more or less around them, some of it ours.
fn pods() -> impl Strategy<Value = Value> {
    let names =
        prop_oneof!["[a-z]{1,8}", Just("watchword-x".to_owned()), Just("watchword".to_owned())];
    let volumes = proptest::collection::vec(names.clone(), 0..4);
    let mounts = proptest::collection::vec((names, "/[a-z]{1,8}"), 0..4);
    let variable = prop_oneof!["[A-Z]{1,6}", Just("WATCHWORD_REVISION".to_owned())];
    let variables = proptest::collection::vec((variable, "\\PC{0,12}"), 0..4);
    (volumes, mounts, variables, any::<[bool; 4]>()).prop_map(
        |(volumes, mounts, variables, [probe, wrapped, init, context])| {
            let mut pod = pod();
            let spec = &mut pod["spec"];
            spec["volumes"] = volumes.iter().map(|name| json!({"name": name})).collect();
            let web = &mut spec["containers"][0];
            web["volumeMounts"] = mounts
                .iter()
                .map(|(name, path)| json!({"name": name, "mountPath": format!("/mnt{path}")}))
                .collect();
            web["env"] = variables
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            if probe {
                web["startupProbe"] = json!({"exec": {"command": ["true"]}});
            }
            if wrapped {
                web["command"] = json!(["/watchword/agent", "exec", "--", "sh"]);
            }
            if context {
                spec["securityContext"] = json!({"runAsUser": 12, "fsGroup": 3});
            }
            let mut side = json!({"name": "side", "image": "s", "command": ["side"]});
            if init {
                side["restartPolicy"] = "Always".into();
                spec["initContainers"] = json!([{"name": "own", "image": "o"}, side]);
            } else {
                spec["containers"].as_array_mut().unwrap().push(side);
            }
            pod
        },
    )
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"watchword.dev/inject": "true"}},
        "spec": {"containers": [{
            "name": "web", "image": "app:1", "command": ["/bin/app"], "args": ["--port", "80"],
        }]},
    })
}

fn inject(pod: &Value, revision: &TaskRevisionSpec, delivery: Delivery) -> Result<Value, Denial> {
    let view = PodView::deserialize(pod).unwrap();
    let mutation = mutate(view, &revision::name(revision), revision, &settings(delivery))?;
    Ok(applied(pod, &mutation.patch))
}

fn settings(delivery: Delivery) -> Settings {
    Settings {
        agent: AgentSource { delivery, image: "watchword:1".to_owned(), pull_policy: None },
        ca_bundle: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        store_url: "https://watchword-store.watchword-system.svc".to_owned(),
    }
}

/// What somebody else's reading of RFC 6902 makes of a patch, as the API server's is.
fn applied(pod: &Value, patch: &Patch) -> Value {
    let patch: json_patch::Patch =
        serde_json::from_value(serde_json::to_value(patch).unwrap()).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// What stripping means, said once more and of the whole pod: nothing of ours is left in it.
fn strip(pod: &mut Value) {
    let ours = |item: &Value| {
        let name = item["name"].as_str().unwrap_or_default();
        name == "watchword" || name.starts_with("watchword-")
    };
    let retain = |list: Option<&mut Value>, keep: &dyn Fn(&Value) -> bool| {
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.retain(keep);
        }
    };
    let spec = &mut pod["spec"];
    retain(spec.get_mut("volumes"), &|volume| !ours(volume));
    retain(spec.get_mut("initContainers"), &|container| !ours(container));
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            retain(container.get_mut("volumeMounts"), &|mount| !ours(mount));
            retain(container.get_mut("env"), &|variable| {
                !variable["name"].as_str().unwrap().starts_with(names::ENVIRONMENT_PREFIX)
            });
            for path in ["/command", "/startupProbe/exec/command"] {
                if let Some(command) = container.pointer_mut(path).and_then(Value::as_array_mut) {
                    let words: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
                    let wrapping = words.len() - unwrap_command(&words).len();
                    command.drain(..wrapping);
                }
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "callers write `json!(…)`")]
fn revision(tasks: Value) -> TaskRevisionSpec {
    let spec: TaskDefinitionSpec = serde_json::from_value(json!({
        "tasks": merged(&tasks),
        "run": {"adopt": {"selector": {}, "serviceAccountName": "web"}},
    }))
    .unwrap();
    revision::snapshot(&spec, "shop", "web")
}

/// Tasks of one name become one.
fn merged(tasks: &Value) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for task in tasks.as_array().unwrap() {
        match merged.iter_mut().find(|other| other["name"] == task["name"]) {
            None => merged.push(task.clone()),
            Some(other) => {
                for path in ["/command/environment/variables", "/container/volumes"] {
                    let more = task.pointer(path).unwrap().as_array().unwrap().clone();
                    other.pointer_mut(path).unwrap().as_array_mut().unwrap().extend(more);
                }
            }
        }
    }
    merged
}

fn variable(task_name: &str, name: &str) -> Value {
    task(task_name, json!([secret(name)]), json!([]))
}

fn file(task_name: &str, path: &str, mode: &str) -> Value {
    task(task_name, json!([]), json!([volume(path, mode)]))
}

#[allow(clippy::needless_pass_by_value, reason = "callers write `json!(…)`")]
fn task(name: &str, variables: Value, volumes: Value) -> Value {
    json!({
        "name": name,
        "command": {"environment": {"variables": variables}},
        "container": {"type": "MESOS", "volumes": volumes},
    })
}

fn secret(name: &str) -> Value {
    json!({"name": name, "type": "SECRET", "secret": reference()})
}

fn volume(path: &str, mode: &str) -> Value {
    let source = json!({"type": "SECRET", "secret": reference()});
    json!({"mode": mode, "container_path": path, "source": source})
}

fn reference() -> Value {
    json!({"type": "REFERENCE", "reference": {"name": "shop/db"}})
}

fn has_volume(pod: &Value, name: &str) -> bool {
    pod["spec"]["volumes"].as_array().unwrap().iter().any(|volume| volume["name"] == name)
}

fn without_empty_lists(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            let entries = std::mem::take(map);
            *map = entries
                .into_iter()
                .map(|(key, value)| (key, without_empty_lists(value)))
                .filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()))
                .collect();
        }
        Value::Array(list) => {
            for item in list {
                *item = without_empty_lists(item.take());
            }
        }
        _ => {}
    }
    value
}
