//! What `kubectl apply` says to wrong definitions, and that what is injected is fit for the
//! strictest namespaces.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};
use watchword_crds::TaskDefinition;
use watchword_e2e::watchword::{LIMIT, judged, task, with_file, with_plain, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run};

#[test]
fn definitions_that_mesos_refuses_are_refused_in_its_words() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("words").await?;
        let vectors: Value = serde_json::from_str(include_str!(
            "../../../controller/core/tests/vectors/mesos-validation.json"
        ))?;
        let mut refused = 0;
        for case in vectors["cases"].as_array().context("no cases")? {
            let Some(words) = case["error"].as_str() else { continue };
            let mut web = task("web", SLEEP);
            let field = match case["kind"].as_str() {
                Some("environment") => {
                    web["command"]["environment"] = case["input"].clone();
                    "spec.tasks[0].command.environment"
                }
                Some("volume") => {
                    web["container"]["volumes"] = json!([case["input"]]);
                    "spec.tasks[0].container.volumes[0]"
                }
                Some("secret") => {
                    let source = json!({"type": "SECRET", "secret": case["input"]});
                    let volume = json!({"mode": "RO", "container_path": "f", "source": source});
                    web["container"]["volumes"] = json!([volume]);
                    "spec.tasks[0].container.volumes[0]"
                }
                Some("id") => {
                    web["task_id"] = json!({"value": case["input"]});
                    "spec.tasks[0].task_id"
                }
                kind => anyhow::bail!("a case of kind {kind:?}"),
            };
            let refusal = refusal(&namespace, "web", &json!({"tasks": [web]})).await?;
            let name = &case["name"];
            assert!(refusal.contains(words), "{name}: {words:?} is not in {refusal:?}");
            assert!(refusal.contains(field), "{name}: {field} is not in {refusal:?}");
            refused += 1;
        }
        assert!(refused >= 30, "{refused}");

        // As a person sees it.
        let definition = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
            "metadata": {"name": "web", "namespace": namespace.name()},
            "spec": {"tasks": [with_secretless(task("web", SLEEP))]},
        });
        let output =
            cluster.kubectl_with(&["apply", "--filename=-"], &definition.to_string()).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        let words = "denied the request: spec.tasks[0].command.environment.variables[0]: \
                     Task's `CommandInfo` is invalid: Environment variable 'DB' of type 'SECRET' must have a secret set";
        assert!(said.contains(words), "{said}");

        // A good one that is edited into a bad one.
        let idle = json!({"service": {"instances": 0}});
        namespace.define("web", &json!({"tasks": [task("web", SLEEP)], "run": idle})).await?;
        let edit = json!({"spec": definition["spec"]}).to_string();
        let edited = ["patch", "taskdefinition", "web", "--type=merge", "--patch", &edit];
        let output = namespace.kubectl(&edited).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
        anyhow::Ok(())
    });
}

#[test]
fn definitions_that_mesos_would_let_pass_are_refused_by_our_own_rules() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("rules").await?;
        let web = || task("web", SLEEP);
        let one = |task: Value| json!({"tasks": [task]});
        let with = |mut spec: Value, key: &str, value: Value| {
            spec[key] = value;
            spec
        };
        let run_as = |run: Value| json!({"tasks": [web()], "run": run});
        let adopt = |selector: Value, account: &str| {
            run_as(json!({"adopt": {"selector": selector, "serviceAccountName": account}}))
        };
        let twice = with_plain(with_variable(web(), "DB", "a/b"), "DB", "plain");
        let mut untyped = with_variable(web(), "DB", "a/b");
        untyped["command"]["environment"]["variables"][0]["secret"]["type"] = json!("UNKNOWN");
        let same = with_file(with_file(web(), "f", "RO", "a/b"), "./f", "RO", "a/b");
        let nested = with_file(with_file(web(), "d", "RO", "a/b"), "d/f", "RO", "a/b");
        let template = |template: Value| with(one(web()), "template", template);
        let sidecar = json!({"spec": {"containers": [{"name": "web", "image": "x"}]}});
        let label = json!({"metadata": {"labels": {"watchword.dev/inject": "false"}}});
        let rows: Vec<(Value, &str, &str)> = vec![
            (json!({"tasks": [web(), web()]}), "spec.tasks", "the name of an earlier task too"),
            (one(task("", SLEEP)), "spec.tasks[0].name", "the name is empty"),
            (
                one(with_plain(web(), "WATCHWORD_TOKEN", "x")),
                "spec.tasks[0].command.environment.variables[0].name",
                "begins with \"WATCHWORD_\"",
            ),
            (one(with_plain(web(), "A=B", "x")), "variables[0].name", "is no variable's name"),
            (one(twice), "variables[1].name", "is set twice, and one is a secret"),
            (
                one(with_variable(web(), "DB", "")),
                "variables[0].secret.reference.name",
                "the name is empty",
            ),
            (
                one(with_variable(web(), "DB", "a//b")),
                "secret.reference.name",
                "a part between slashes is empty",
            ),
            (
                one(with_variable(web(), "DB", "a/../b")),
                "secret.reference.name",
                "is no part of a secret's name",
            ),
            (one(with_variable(web(), "DB", "a/b@")), "secret.reference.key", "the key is empty"),
            (one(untyped), "variables[0].secret.type", ""),
            (
                one(with_file(web(), "../f", "RO", "a/b")),
                "volumes[0].container_path",
                "leaves the sandbox",
            ),
            (
                one(with_file(web(), "", "RO", "a/b")),
                "volumes[0].container_path",
                "the path is empty",
            ),
            (one(same), "volumes[1].container_path", "earlier volume"),
            (one(nested), "volumes[1].container_path", "lie in each other"),
            (template(json!({"spec": {"hostPID": true}})), "spec.template.spec", "hostPID"),
            (template(sidecar), "spec.template.spec.containers[0]", "web"),
            (template(label), "spec.template.metadata.labels", "is Watchword's; leave it out"),
            (run_as(json!({"schedule": {"cron": "* * *"}})), "cron", "has 3 fields; use five"),
            (adopt(json!({}), "web"), "spec.run.adopt.selector", "matches every pod"),
            (
                with(
                    adopt(json!({"matchLabels": {"a": "b"}}), "web"),
                    "serviceAccountName",
                    json!("other"),
                ),
                "spec.serviceAccountName",
                "differs from run.adopt.serviceAccountName",
            ),
            (
                adopt(json!({"matchLabels": {"a": "b"}}), "web"),
                "spec.tasks",
                "no task asks for a secret, and adopted pods get nothing else",
            ),
            (with(one(web()), "id", json!("web")), "spec.id", "is no service id"),
        ];
        for (spec, field, words) in rows {
            let refusal = refusal(&namespace, "web", &spec).await?;
            assert!(refusal.contains("denied the request: spec."), "{spec}: {refusal:?}");
            assert!(refusal.contains(field) && refusal.contains(words), "{spec}: {refusal:?}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn the_api_server_itself_holds_definitions_to_their_schema() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("schema").await?;
        let spec = |run: Value| json!({"tasks": [task("web", SLEEP)], "run": run});
        let idle = json!({"service": {"instances": 0}});
        let exactly_one = "exactly one of service, once, schedule, adopt must be set";
        let for_default = json!({"selector": {"matchLabels": {"a": "b"}},
                                 "serviceAccountName": "default"});
        let long = "a".repeat(43);
        for (name, spec, words) in [
            ("web", json!({"tasks": []}), "spec.tasks in body should have at least 1 items"),
            ("web", spec(json!({})), exactly_one),
            ("web", spec(json!({"service": {}, "once": {}})), exactly_one),
            (
                "web",
                spec(json!({"adopt": for_default})),
                "adopt needs a service account of its own",
            ),
            (&long, spec(idle.clone()), "metadata.name must not be longer than 42 bytes"),
        ] {
            let refusal = refusal(&namespace, name, &spec).await?;
            assert!(refusal.contains(words), "{name} {spec}: {refusal:?}");
            assert!(!refusal.contains("admission webhook"), "{refusal}");
        }
        assert_eq!(refusal(&namespace, &long[1..], &spec(idle.clone())).await?, "");
        // A slip of the pen is not dropped in silence.
        let mut slip = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
            "metadata": {"name": "slip"}, "spec": spec(json!({"servce": {"instances": 0}})),
        });
        slip["metadata"]["namespace"] = json!(namespace.name());
        let output = cluster.kubectl_with(&["create", "--filename=-"], &slip.to_string()).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("unknown field \"spec.run.servce\""), "{said}");

        // The id is what secrets hang on: it is there from the beginning, or never.
        let id = format!("/{}/web", namespace.name());
        let mut named = spec(idle.clone());
        named["id"] = json!(id);
        namespace.define("named", &named).await?;
        namespace.define("unnamed", &spec(idle)).await?;
        for (name, patch) in [
            ("named", json!({"spec": {"id": format!("{id}2")}})),
            ("named", json!({"spec": {"id": null}})),
            ("unnamed", json!({"spec": {"id": id}})),
        ] {
            let patch = patch.to_string();
            let arguments = ["patch", "taskdefinition", name, "--type=merge", "--patch", &patch];
            let output = namespace.kubectl(&arguments).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let words = "id cannot be changed, added or removed";
            assert!(said.contains(words), "{name} {patch}: {said}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn what_has_no_effect_is_accepted_with_a_warning() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("warned").await?;
        let mut web = task("web", SLEEP);
        web["task_id"] = json!({"value": "web.1"});
        web["agent_id"] = json!({"value": "S0"});
        web["data"] = json!("AAAA");
        web["labels"] = json!({"labels": [{"key": "a", "value": "b"}]});
        web["command"]["uris"] = json!([{"value": "https://example.com/x"}]);
        web["resources"] = json!([{"name": "gpus", "type": "SCALAR", "scalar": {"value": 1}}]);
        let definition = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
            "metadata": {"name": "web", "namespace": namespace.name()},
            "spec": {"tasks": [web], "run": {"service": {"instances": 0}}},
        });
        let output =
            cluster.kubectl_with(&["apply", "--filename=-"], &definition.to_string()).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        for field in ["task_id", "agent_id", "data", "labels", "command.uris", "resources[0]"] {
            let warning = format!("Warning: spec.tasks[0].{field}: ");
            assert!(said.contains(&warning), "{field}: {said}");
        }
        assert!(said.lines().all(|line| line.len() <= "Warning: ".len() + 123), "{said}");
        anyhow::Ok(())
    });
}

#[test]
fn kubectl_explains_the_fields() {
    run(async |cluster: Cluster| {
        for (field, texts) in [
            (
                "td.spec.tasks.command.environment.variables.secret",
                ["for type `SECRET`", "reference\t<Object>", "Where the secret is kept"].as_slice(),
            ),
            ("td.spec.run", &["service\t<Object>", "adopt\t<Object>"]),
            ("spaces.watchword.dev.spec.prefixes", &["prefixes of service ids"]),
        ] {
            let output = cluster.kubectl(&["explain", field]).await?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            for text in texts {
                assert!(said.contains(text), "{field}: {said}");
            }
            assert!(!said.contains("<no description>"), "{field}: {said}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn an_injected_pod_is_fit_for_a_restricted_namespace_and_a_copy_of_it_is_injected_alike() {
    run(async |cluster: Cluster| {
        let restricted = [("pod-security.kubernetes.io/enforce", "restricted")];
        let namespace = cluster.namespace_with("restricted", &restricted).await?;
        for (name, value) in [("db", "from the store"), ("file", "a file's text")] {
            cluster.create_secret(&namespace.secret(name), value).await?;
        }
        let web = json!({"name": "web", "command": {"environment": {"variables": []}},
                         "container": {"type": "MESOS", "volumes": []}});
        let web = with_variable(web, "DB", &namespace.secret("db"));
        let web = with_file(web, "/secret/file", "RO", &namespace.secret("file"));
        let adopt =
            json!({"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"});
        namespace.account("web").await?;
        namespace.define("web", &json!({"tasks": [web], "run": {"adopt": adopt}})).await?;
        namespace.apply(&restricted_deployment().to_string()).await?;
        let pod = namespace.pod_with("app=web", "Running").await?.name_any();
        let pod = namespace.pod_ready(&pod, LIMIT).await?;
        let name = pod.name_any();
        namespace.says(&name, Some("web"), "from the store: a file's text\n").await?;
        let whoami = namespace.printed(&name, Some("web"), &["id", "-u"]).await?;
        assert_eq!(whoami, "65532\n");

        // Copied as people copy pods, with all that was put into it.
        let first = serde_json::to_value(&pod)?;
        let mut copy = pod.clone();
        copy.metadata = ObjectMeta {
            name: Some("copy".to_owned()),
            labels: pod.metadata.labels.clone(),
            annotations: pod.metadata.annotations.clone(),
            ..ObjectMeta::default()
        };
        // Else its ReplicaSet takes it.
        copy.metadata.labels.as_mut().and_then(|labels| labels.remove("pod-template-hash"));
        copy.status = None;
        copy.spec.as_mut().context("no spec")?.node_name = None;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let second = namespace.api::<Pod>().create(&dry_run, &copy).await?;
        let second = serde_json::to_value(&second)?;
        for part in ["containers", "initContainers", "volumes"] {
            assert_eq!(first["spec"][part], second["spec"][part], "{part}");
        }
        let injected = first["spec"]["initContainers"].as_array().context("no init containers")?;
        assert!(injected.iter().any(|one| one["name"] == "watchword-files"), "{injected:?}");

        // The namespace is as strict as this story says.
        let mut lax = copy.clone();
        let spec = lax.spec.as_mut().context("no spec")?;
        spec.containers[0].security_context = None;
        let refusal = namespace.api::<Pod>().create(&dry_run, &lax).await.unwrap_err().to_string();
        assert!(refusal.contains("violates PodSecurity \"restricted"), "{refusal}");
        anyhow::Ok(())
    });
}

/// A Deployment of somebody's own that passes `restricted`, with a probe and a hook.
fn restricted_deployment() -> Value {
    let show = "echo \"$DB: $(cat /secret/file)\"; exec sleep 600";
    let is_there = json!({"exec": {"command": ["sh", "-c", "test \"$DB\" = 'from the store'"]},
                          "timeoutSeconds": 10});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "watchword.dev/inject": "true"}},
                "spec": {
                    "serviceAccountName": "web",
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532,
                                        "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "web", "image": images::BUSYBOX, "command": ["sh", "-c", show],
                        "readinessProbe": is_there,
                        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

/// A task with a variable of type SECRET that has none.
fn with_secretless(mut task: Value) -> Value {
    task["command"]["environment"]["variables"] = json!([{"name": "DB", "type": "SECRET"}]);
    task
}

/// What a definition is refused with; empty if it is let in. Nothing is made.
async fn refusal(namespace: &Namespace, name: &str, spec: &Value) -> anyhow::Result<String> {
    let definition = json!({
        "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
        "metadata": {"name": name, "namespace": namespace.name()}, "spec": spec,
    });
    let client = namespace.cluster().client();
    let path = format!(
        "/apis/watchword.dev/v1alpha1/namespaces/{}/taskdefinitions?dryRun=All",
        namespace.name()
    );
    let ask = async || {
        let request = http::Request::post(&path)
            .header("Content-Type", "application/json")
            .body(definition.to_string().into_bytes())?;
        Ok(client.request::<TaskDefinition>(request).await?)
    };
    let answer = judged(ask).await?;
    Ok(answer.err().map(|error| error.to_string()).unwrap_or_default())
}

const SLEEP: &str = "exec sleep 600";
