//! Variables: from the store into the environment of the process that asked for them, and of no
//! other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use watchword_e2e::images::BUSYBOX;
use watchword_e2e::watchword::{
    LIMIT, task, with_file, with_plain, with_variable, without_waiting,
};
use watchword_e2e::{Cluster, run, wait_for};

#[test]
fn a_variable_by_reference_reaches_the_process() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("variable").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let print = task("web", "echo \"<$DB> <$PLAIN>\"; exec sleep 600");
        let web = with_variable(print, "DB", &namespace.secret("db"));

        namespace.define("web", &json!({"tasks": [with_plain(web, "PLAIN", "plain")]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        namespace.says(&pod, None, "<s3cret-value> <plain>\n").await
    });
}

#[test]
fn variables_and_files_can_each_be_one_member_of_a_json_secret() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("key").await?;
        let secret = namespace.secret("db");
        let value = json!({"user": "shop", "password": "p\u{e4}ss\nword", "port": 5432});
        cluster.create_secret(&secret, value.to_string()).await?;
        let print = task("web", "echo \"<$DB_USER>\"; cat /etc/password; echo; exec sleep 600");
        let web = with_variable(print, "DB_USER", &format!("{secret}@user"));
        let web = with_file(web, "/etc/password", "RO", &format!("{secret}@password"));

        namespace.define("web", &json!({"tasks": [web]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        namespace.says(&pod, None, "<shop>\np\u{e4}ss\nword\n").await
    });
}

#[test]
fn a_key_that_cannot_be_taken_fails_the_task_and_says_what_is_there() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("no-key").await?;
        let (object, text) = (namespace.secret("object"), namespace.secret("text"));
        cluster.create_secret(&object, r#"{"user": "canary-value", "port": 5432}"#).await?;
        cluster.create_secret(&text, "canary-value").await?;
        let web = task("web", "echo started");
        let web = with_variable(web, "A", &format!("{object}@password"));
        let web = with_variable(web, "B", &format!("{object}@port"));
        let web = with_variable(web, "C", &format!("{text}@password"));

        namespace.define("web", &json!({"tasks": [web]})).await?;

        // The agent is told of the first that fails; the status tells of all.
        let failed = namespace.in_state("web", "TASK_FAILED").await?;
        let status = failed.status.context("no status")?;
        let missing = format!(
            "cannot use secret `{object}`: the secret has no member `password`; it has `user`, `port`"
        );
        assert_eq!(status.reason.as_deref(), Some("REASON_CONTAINER_LAUNCH_FAILED"));
        assert_eq!(status.message, Some(format!("Failed to launch container: {missing}")));
        let parts = [
            missing.as_str(),
            "the secret's member `port` is a number; only texts can be taken",
            "the key `password` needs a secret that is a JSON object, and this one is something \
             that is not JSON",
        ];
        wait_for("a condition that tells of all three", LIMIT, async || {
            let resolved = namespace.condition("web", "SecretsResolved", "False").await?;
            let said = resolved["message"].as_str().unwrap_or_default();
            let is_told = parts.iter().all(|part| said.contains(part));
            ensure!(is_told && resolved["reason"] == "Invalid", "{resolved}");
            Ok(())
        })
        .await?;
        let everything = serde_json::to_string(&namespace.definition("web").await?)?;
        assert!(!everything.contains("canary-value"), "{everything}");
        anyhow::Ok(())
    });
}

#[test]
fn a_secret_that_is_there_does_not_start_a_task_that_lacks_another() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("both").await?;
        let (there, missing) = (namespace.secret("there"), namespace.secret("missing"));
        cluster.create_secret(&there, "canary-value").await?;
        // In either order: an answer is made of all references or of none.
        for (name, first, second) in [("first", &there, &missing), ("last", &missing, &there)] {
            let task = task(name, "echo started; exec sleep 600");
            let task = with_variable(with_variable(task, "A", first), "B", second);
            namespace.define(name, &json!({"tasks": [task]})).await?;
        }

        let expected = format!("Failed to launch container: there is no secret `{missing}`");
        for name in ["first", "last"] {
            let status = namespace.in_state(name, "TASK_FAILED").await?.status;
            let status = status.context("no status")?;
            assert_eq!(status.message.as_ref(), Some(&expected), "{name}");
            let pod = namespace.running_pod(name).await?;
            // Each attempt has a log of its own, which begins empty.
            namespace.says(&pod, None, &format!("{expected}\n")).await?;
        }

        cluster.create_secret(&missing, "value of missing").await?;
        for name in ["first", "last"] {
            namespace.in_state(name, "TASK_RUNNING").await?;
            namespace.says(&namespace.running_pod(name).await?, None, "started\n").await?;
        }
        anyhow::Ok(())
    });
}

#[test]
fn of_two_tasks_in_a_pod_only_the_one_that_asks_has_anything_of_the_secret() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("group").await?;
        cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
        let print = "echo \"<$DB> <$(cat $MESOS_SANDBOX/secret)>\"; exec sleep 600";
        let asks = with_variable(task("asks", print), "DB", &namespace.secret("db"));
        let asks = with_file(asks, "secret", "RO", &namespace.secret("db"));
        let look = "env; cat /proc/mounts; ls -A $MESOS_SANDBOX; echo seen; exec sleep 600";
        let other = task("other", look);

        namespace.define("web", &json!({"tasks": [asks, other]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let name = namespace.running_pod("web").await?;
        namespace.says(&name, Some("asks"), "<s3cret-value> <s3cret-value>\n").await?;
        let seen = wait_for("all that the other sees", LIMIT, async || {
            let log = namespace.output(&name, Some("other")).await?;
            anyhow::ensure!(log.ends_with("seen\n"), "{log}");
            Ok(log)
        })
        .await?;
        assert!(seen.contains("MESOS_SANDBOX=/mnt/mesos/sandbox\n"), "{seen}");
        for trace in ["s3cret-value", "DB=", "WATCHWORD", "watchword", "secret"] {
            assert!(!seen.contains(trace), "{trace} in {seen}");
        }
        let pod: Pod = namespace.api().get(&name).await?;
        let other = container(&pod, "other")?;
        assert_eq!(other["command"][0], "/bin/sh");
        let mounts = other["volumeMounts"].as_array().context("no mounts")?;
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert_eq!(mounts[0]["mountPath"], "/mnt/mesos/sandbox");
        anyhow::Ok(())
    });
}

#[test]
fn values_arrive_byte_for_byte_up_to_the_limits_of_variables_and_files() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("exact").await?;
        let any_bytes = |count: usize| -> Vec<u8> {
            // All 256 bytes, line ends and NUL among them, in an order that does not repeat soon.
            (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
        };
        let variables: BTreeMap<&str, Vec<u8>> = [
            // One `NAME=value` takes 131,071 bytes.
            ("LONG", vec![b'x'; 131_071 - "LONG=".len()]),
            ("NEWLINE", b"two\nlines\n\n".to_vec()),
            ("QUOTES", br#"'one' "two" `three` \ $HOME $(HOME) $$ %s ;&|"#.to_vec()),
            ("UTF", "Gr\u{fc}\u{df}e \u{79d8}\u{5bc6} \u{1f511}".as_bytes().to_vec()),
        ]
        .into();
        let files: BTreeMap<&str, Vec<u8>> = [
            ("binary", any_bytes(256)),
            ("large", any_bytes(1024 * 1024 - 1024)),
            ("newline", b"one line\n".to_vec()),
        ]
        .into();
        let print: Vec<String> = variables
            .keys()
            .map(|name| format!("printf %s \"${name}\" | sha256sum"))
            .chain(files.keys().map(|name| format!("sha256sum </secrets/{name}")))
            .chain(["exec sleep 600".to_owned()])
            .collect();
        let mut web = task("web", &print.join("\n"));
        for (name, value) in &variables {
            let secret = namespace.secret(&name.to_lowercase());
            cluster.create_secret(&secret, value).await?;
            web = with_variable(web, name, &secret);
        }
        for (name, value) in &files {
            let secret = namespace.secret(&format!("file-{name}"));
            cluster.create_secret(&secret, value).await?;
            web = with_file(web, &format!("/secrets/{name}"), "RO", &secret);
        }

        namespace.define("web", &json!({"tasks": [web]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        let names = variables.keys().chain(files.keys());
        let expected: Vec<_> = names
            .zip(variables.values().chain(files.values()))
            .map(|(name, value)| (*name, format!("{}  -", digest(value))))
            .collect();
        let seen = wait_for("a line for each value", LIMIT, async || {
            let log = namespace.output(&pod, None).await?;
            let lines: Vec<String> = log.lines().map(str::to_owned).collect();
            anyhow::ensure!(lines.len() == expected.len(), "{log}");
            Ok(lines)
        })
        .await?;
        let names = expected.iter().map(|(name, _)| *name);
        assert_eq!(names.zip(seen).collect::<Vec<_>>(), expected);
        anyhow::Ok(())
    });
}

#[test]
fn what_no_variable_can_hold_is_refused_with_the_advice_to_use_a_file() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("unfit").await?;
        let cases: [(&str, &[u8], &str); 3] = [
            ("binary", b"\xff\xfe", "specifies a secret that is not UTF-8; use a file"),
            (
                "long",
                &[b'x'; 131_071 - "VALUE=".len() + 1],
                "with its secret takes more than the 131071 bytes that one variable may have; use a file",
            ),
            (
                "nul",
                b"a\0b",
                "specifies a secret containing null bytes, which is not allowed in the environment",
            ),
        ];
        for (name, value, _) in cases {
            let secret = namespace.secret(name);
            cluster.create_secret(&secret, value).await?;
            let task = with_variable(task(name, "echo started"), "VALUE", &secret);
            // Once: a Deployment would go on trying while the other cases are looked at.
            namespace.define(name, &json!({"tasks": [task], "run": {"once": {}}})).await?;
        }

        for (name, _, problem) in cases {
            let status = namespace.in_state(name, "TASK_FAILED").await?.status;
            let status = status.context("no status")?;
            assert_eq!(status.reason.as_deref(), Some("REASON_CONTAINER_LAUNCH_FAILED"), "{name}");
            let message = status.message.unwrap_or_default();
            let expected =
                format!("Failed to launch container: Environment variable 'VALUE' {problem}");
            assert_eq!(message, expected, "{name}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn probes_hooks_init_containers_and_sidecars_of_an_adopted_deployment_have_its_variables() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("adopted").await?;
        cluster.create_secret(&namespace.secret("db"), OPEN).await?;
        let with_secret = |name: &str| {
            let task = json!({"name": name, "command": {"environment": {"variables": []}}});
            with_variable(task, "DB", &namespace.secret("db"))
        };
        let definition = json!({
            "run": {"adopt": {
                "selector": {"matchLabels": {"app": "legacy"}},
                "serviceAccountName": "legacy",
            }},
            "tasks": [with_secret("prepare"), with_secret("proxy"), with_secret("app")],
        });
        namespace
            .apply(
                r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "legacy"}}"#,
            )
            .await?;
        namespace.define("legacy", &definition).await?;

        namespace.apply(&legacy_deployment().to_string()).await?;

        // Its readiness probe fails unless it sees the secret, and so does the pod.
        let pods = namespace.pods_ready("app=legacy", 1, LIMIT).await?;
        let pod = pods[0].metadata.name.as_deref().context("no name")?;
        namespace.says(pod, Some("prepare"), &format!("<{OPEN}>\n")).await?;
        namespace.says(pod, Some("proxy"), &format!("<{OPEN}>\n")).await?;
        let follow =
            LogParams { container: Some("app".to_owned()), follow: true, ..LogParams::default() };
        let mut log = namespace.api::<Pod>().log_stream(pod, &follow).await?;
        namespace.api::<Pod>().delete(pod, &DeleteParams::default()).await?;
        let mut text = String::new();
        log.read_to_string(&mut text).await?;
        let text = without_waiting(&text);
        let mut lines: Vec<_> = text.lines().collect();
        // The hook after the start runs beside the program.
        lines.sort_unstable();
        assert_eq!(lines, ["app", "postStart", "preStop"].map(|what| format!("{what} <{OPEN}>")));
        anyhow::Ok(())
    });
}

#[test]
fn what_is_added_to_a_pod_after_the_injection_is_injected_too() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("reinvoked").await?;
        namespace.account("app").await?;
        cluster.create_secret(&namespace.secret("db"), "value of db").await?;
        // In the second round of admission: a probe for whatever the agent starts by then.
        let added = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": namespace.name()},
            "spec": {
                "reinvocationPolicy": "IfNeeded",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {
                        "kubernetes.io/metadata.name": namespace.name(),
                    }},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                                       "operations": ["CREATE"], "resources": ["pods"]}],
                },
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                    "object.spec.containers[0].?command.orValue([''])[0] != '/watchword/agent' ? [] \
                     : [JSONPatch{op: 'add', path: '/spec/containers/0/readinessProbe', value: \
                     {'exec': dyn({'command': ['sh', '-c', 'test -n \"$DB\"']}), 'timeoutSeconds': \
                     dyn(10)}}]",
                }}],
            },
        });
        let bound = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": namespace.name()}, "spec": {"policyName": namespace.name()},
        });
        namespace.apply(&format!("{added}\n---\n{bound}")).await?;
        let adopted = json!({"name": "app", "command": {"environment": {"variables": []}}});
        let adopted = with_variable(adopted, "DB", &namespace.secret("db"));
        let adopt =
            json!({"selector": {"matchLabels": {"app": "app"}}, "serviceAccountName": "app"});
        namespace.define("app", &json!({"tasks": [adopted], "run": {"adopt": adopt}})).await?;
        namespace.condition("app", "Accepted", "True").await?;

        let words = ["/watchword/agent", "exec", "--cached", "--", "sh", "-c", "test -n \"$DB\""];
        let pods: Api<Pod> = namespace.api();
        let pod = wait_for("a pod with the probe, injected too", LIMIT, async || {
            let pod = json!({
                "metadata": {"name": "app",
                             "labels": {"app": "app", "watchword.dev/inject": "true"}},
                "spec": {
                    "serviceAccountName": "app", "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "app", "image": BUSYBOX,
                                    "command": ["sh", "-c", "exec sleep 600"]}],
                },
            });
            // Webhook and policy may know of it a moment later, and one that is asked again and
            // does not answer in time is passed over.
            let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
            let probe = container(&pod, "app")?["readinessProbe"].take();
            if probe["exec"]["command"] == json!(words) {
                return anyhow::Ok(pod);
            }
            pods.delete("app", &DeleteParams::default().grace_period(0)).await?;
            anyhow::bail!("its probe is {probe}")
        })
        .await?;

        let app = container(&pod, "app")?;
        let names: Vec<&str> = app["env"]
            .as_array()
            .context("no env")?
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len(), "{names:?}");
        // The probe sees the secret, or the pod would never be Ready.
        namespace.pod_ready("app", LIMIT).await?;
        anyhow::Ok(())
    });
}

/// A value that the probe's own command names; short enough that nobody searches for it.
const OPEN: &str = "in-the-open";

/// With every place in which a program can be started. The application has a plain variable of the
/// secret's name, which must not win.
fn legacy_deployment() -> Value {
    let shell = |script: &str| json!(["sh", "-c", script]);
    let say = |what: &str| json!({"exec": {"command": shell(&format!("echo \"{what} <$DB>\" >/proc/1/fd/1"))}});
    let stays = |script: &str| format!("trap 'exit 0' TERM; {script}; sleep 600 & wait");
    let container = |name: &str, script: &str| json!({"name": name, "image": BUSYBOX, "command": shell(script)});
    let mut proxy = container("proxy", &stays("echo \"<$DB>\""));
    proxy["restartPolicy"] = json!("Always");
    let mut app = container("app", &stays("echo \"app <$DB>\""));
    app["env"] = json!([{"name": "DB", "value": "plain"}]);
    app["lifecycle"] = json!({"postStart": say("postStart"), "preStop": say("preStop")});
    app["readinessProbe"] = json!({
        "exec": {"command": shell(&format!("test \"$DB\" = {OPEN}"))},
        "periodSeconds": 2,
        "timeoutSeconds": 10,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "legacy"},
        "spec": {
            "selector": {"matchLabels": {"app": "legacy"}},
            "template": {
                "metadata": {"labels": {"app": "legacy", "watchword.dev/inject": "true"}},
                "spec": {
                    "serviceAccountName": "legacy",
                    // The hook before the end is a part of it.
                    "terminationGracePeriodSeconds": 300,
                    "initContainers": [container("prepare", "echo \"<$DB>\""), proxy],
                    "containers": [app],
                },
            },
        },
    })
}

fn container(pod: &Pod, name: &str) -> anyhow::Result<Value> {
    let pod = serde_json::to_value(pod)?;
    let containers = pod["spec"]["containers"].as_array().context("no containers")?;
    let found = containers.iter().find(|container| container["name"] == name);
    found.cloned().with_context(|| format!("no container `{name}`"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
