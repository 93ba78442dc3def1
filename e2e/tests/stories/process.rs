//! The process: started through the agent it is what it would be without, from its command line to
//! its exit code.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use watchword_e2e::cluster::restarts;
use watchword_e2e::images::{BUSYBOX, SCRATCH_APP};
use watchword_e2e::watchword::{LIMIT, task, with_file, with_plain, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn dollars_arrive_as_mesos_delivers_them() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("dollars").await?;
        cluster.create_secret(&namespace.secret("s"), DOLLARS).await?;
        // What stands between single quotes the shell leaves alone, and what the kubelet would
        // make of it is seen.
        let check = |is: &str| {
            format!("test \"$S\" = {is} && printf %s {is} > {PROBE}.new && mv {PROBE}.new {PROBE}")
        };
        let by_shell =
            task("shell", &format!("echo '{DOLLARS}' \"${{X}}\" \"$S\"; exec sleep 600"));
        let mut by_shell = with_dollars(by_shell, &namespace);
        by_shell["health_check"] = health_check(&json!({"value": check(&format!("'{DOLLARS}'"))}));

        let program = json!(["sh", "-c", "echo \"$1 $X $S\"; exec sleep 600", "sh", DOLLARS]);
        let check = json!(["sh", "-c", check("\"$1\""), "sh", DOLLARS]);
        let mut direct = task("direct", "");
        direct["command"]["shell"] = json!(false);
        direct["command"]["value"] = json!("sh");
        direct["command"]["arguments"] = program;
        let mut direct = with_dollars(direct, &namespace);
        direct["health_check"] =
            health_check(&json!({"shell": false, "value": "sh", "arguments": check}));

        namespace.define("web", &json!({"tasks": [by_shell, direct]})).await?;

        let pod = namespace.running_pod("web").await?;
        for container in ["shell", "direct"] {
            let log = line_of(&namespace, &pod, container).await?;
            assert_eq!(log, format!("{DOLLARS} {DOLLARS} {DOLLARS}\n"), "in `{container}`");
            let probed = wait_for("the health check to have run", LIMIT, async || {
                namespace.exec(&pod, Some(container), &["cat", PROBE]).await?.success()
            })
            .await?;
            assert_eq!(probed, DOLLARS, "in the health check of `{container}`");
        }
        let pod: Pod = namespace.api().get(&pod).await?;
        assert_eq!(restarts(&pod), 0, "a health check failed");
        anyhow::Ok(())
    });
}

#[test]
fn signals_reach_the_application_and_its_exit_codes_come_back() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("exit-codes").await?;
        cluster.create_secret(&namespace.secret("s"), "value").await?;
        let containers = [
            ("zero", BUSYBOX, json!(["sh", "-c", "test \"$S\" = value && exit 0; exit 9"])),
            ("seven", BUSYBOX, json!(["sh", "-c", "test \"$S\" = value && exit 7; exit 9"])),
            ("not-executable", BUSYBOX, json!(["/etc/passwd"])),
            ("not-found", BUSYBOX, json!(["no-such-program"])),
            ("trap", BUSYBOX, json!(["sh", "-c", TRAP])),
            ("no-shell", SCRATCH_APP, json!(["/probe", "--sleep", "--exit", "3"])),
        ];
        let names = containers.each_ref().map(|(name, ..)| *name);
        adopt(&namespace, &names.map(|name| with_s(&namespace, name))).await?;
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, image, command)| json!({"name": name, "image": image, "command": command}))
            .collect();
        let spec = json!({
            "terminationGracePeriodSeconds": 120, "restartPolicy": "Never", "containers": containers,
        });
        // The finalizer keeps the pod to be looked at after its end.
        make_adopted_pod(&namespace, spec, &json!(["watchword.dev/e2e"])).await?;
        let pods: Api<Pod> = namespace.api();

        let ended = async |container: &str| -> Result<ContainerStateTerminated> {
            wait_for(&format!("the end of `{container}`"), LIMIT, async || {
                let pod = pods.get("app").await?;
                let status = pod.status.unwrap_or_default();
                let all = status.container_statuses.unwrap_or_default();
                let one = all.into_iter().find(|one| one.name == container);
                let state = one.and_then(|one| one.state).context("no state")?;
                state.terminated.clone().with_context(|| format!("{state:?}"))
            })
            .await
        };
        let mut codes = Vec::new();
        for container in ["zero", "seven", "not-executable", "not-found"] {
            codes.push((container, ended(container).await?.exit_code));
        }
        // Both are ready for the signal when they have said something.
        for container in ["trap", "no-shell"] {
            line_of(&namespace, "app", container).await?;
        }
        pods.delete("app", &DeleteParams::default()).await?;
        let (trap, no_shell) = (ended("trap").await, ended("no-shell").await);
        let no_finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        pods.patch("app", &PatchParams::default(), &no_finalizers).await?;

        assert_eq!(codes, [("zero", 0), ("seven", 7), ("not-executable", 126), ("not-found", 127)]);
        let trap = trap?;
        assert_eq!((trap.exit_code, trap.message.as_deref()), (42, Some("SIGTERM at 1")));
        assert_eq!(no_shell?.exit_code, 3, "`/probe` ends with it after a signal only");
        anyhow::Ok(())
    });
}

#[test]
fn an_image_without_a_shell_gets_its_variables_and_files() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("no-shell").await?;
        cluster.create_secret(&namespace.secret("s"), "of \"bytes\"\n").await?;
        let mut probe = task("probe", "");
        probe["container"]["mesos"]["image"]["docker"]["name"] = json!(SCRATCH_APP);
        probe["command"]["shell"] = json!(false);
        probe["command"]["value"] = json!("/probe");
        probe["command"]["arguments"] = json!([
            "probe",
            "--env",
            "S",
            "--environ",
            "--file",
            "/etc/deep/secret",
            "--file",
            "/mnt/mesos/sandbox/deep/secret",
            "--cwd",
            "--sleep"
        ]);
        let probe = with_variable(probe, "S", &namespace.secret("s"));
        let probe = with_plain(probe, "PLAIN", "plain");
        let probe = with_file(probe, "/etc/deep/secret", "RO", &namespace.secret("s"));
        let probe = with_file(probe, "deep/secret", "RW", &namespace.secret("s"));

        namespace.define("probe", &json!({"tasks": [probe]})).await?;

        namespace.in_state("probe", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("probe").await?;
        let said: Value = serde_json::from_str(&line_of(&namespace, &pod, "probe").await?)?;
        assert_eq!(said["env"], json!({"S": "of \"bytes\"\n"}));
        assert_eq!(
            said["files"],
            json!({
                "/etc/deep/secret": "of \"bytes\"\n",
                "/mnt/mesos/sandbox/deep/secret": "of \"bytes\"\n",
            })
        );
        assert_eq!(said["argv"][0], "/probe");
        assert_eq!(said["cwd"], "/", "the image has no other");
        let variables: Vec<&str> =
            said["environ"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let name = |variable: &&&str| variable.starts_with("WATCHWORD");
        assert_eq!(variables.iter().find(name), None, "the agent's own are gone");
        assert!(variables.contains(&"PLAIN=plain"), "{variables:?}");
        assert!(variables.contains(&"MESOS_SANDBOX=/mnt/mesos/sandbox"), "{variables:?}");
        anyhow::Ok(())
    });
}

#[test]
fn a_task_that_may_not_be_root_gets_its_secrets_in_a_restricted_namespace() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace_with("restricted", &[RESTRICTED]).await?;
        cluster.create_secret(&namespace.secret("s"), SECRET).await?;
        let web = task("web", "exec sleep 600");
        let web = with_variable(web, "S", &namespace.secret("s"));
        let web = with_file(web, "/etc/secret", "RO", &namespace.secret("s"));
        let user = json!({"runAsNonRoot": true, "runAsUser": 1234, "runAsGroup": 1234});
        let template = json!({"spec": {"securityContext": user}});

        namespace.define("web", &json!({"tasks": [web], "template": template})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        assert_its_own_process(&namespace, &pod, b"sleep\x00600\x00", "/").await
    });
}

#[test]
fn an_adopted_pod_with_a_read_only_root_gets_its_secrets_in_a_restricted_namespace() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace_with("restricted", &[RESTRICTED]).await?;
        cluster.create_secret(&namespace.secret("s"), SECRET).await?;
        let app = with_file(with_s(&namespace, "app"), "/etc/secret", "RO", &namespace.secret("s"));
        adopt(&namespace, &[app]).await?;

        let spec = json!({
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1234, "runAsGroup": 1234,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "app",
                "image": BUSYBOX,
                "command": ["sleep", "600"],
                "workingDir": "/tmp",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                },
            }],
        });
        make_adopted_pod(&namespace, spec, &json!([])).await?;

        namespace.pod_ready("app", LIMIT).await?;
        assert_its_own_process(&namespace, "app", b"sleep\x00600\x00", "/tmp").await?;
        let write = namespace.exec("app", None, &["touch", "/tmp/x"]).await?;
        assert_ne!(write.code, 0, "the root file system is read-only");
        anyhow::Ok(())
    });
}

/// PID 1 is the application's own: it has the secret, and nothing beside it shows the secret.
async fn assert_its_own_process(
    namespace: &Namespace,
    pod: &str,
    command_line: &[u8],
    directory: &str,
) -> Result<()> {
    let look = async |arguments: &[&str]| {
        let output = wait_for("the agent to have become the application", LIMIT, async || {
            let line = namespace.exec(pod, None, &["cat", "/proc/1/cmdline"]).await?;
            let line = line.success()?;
            if line.as_bytes() == command_line { Ok(()) } else { bail!("{line:?}") }
        });
        output.await?;
        namespace.printed(pod, None, arguments).await
    };
    let environment = look(&["cat", "/proc/1/environ"]).await?;
    let variables: Vec<&str> = environment.split_terminator('\0').collect();
    assert!(variables.contains(&format!("S={SECRET}").as_str()), "the application has it");
    let ours = variables.iter().find(|variable| variable.starts_with("WATCHWORD_"));
    assert_eq!(ours, None, "the agent's own variables are gone");
    assert_eq!(look(&["readlink", "/proc/1/cwd"]).await?.trim(), directory);
    assert_eq!(look(&["cat", "/etc/secret"]).await?, SECRET);
    assert_eq!(look(&["stat", "-c", "%u:%g:%a", "/etc/secret"]).await?.trim(), "1234:1234:400");
    let beside = look(&["env"]).await?;
    assert!(beside.contains("HOSTNAME="), "this is an environment: {beside}");
    assert!(!beside.contains(SECRET), "`kubectl exec -- env` shows the secret");
    Ok(())
}

/// What a container has printed, once that is a whole line. Without readiness probe it counts as
/// ready before that: the agent may still be asking.
async fn line_of(namespace: &Namespace, pod: &str, container: &str) -> Result<String> {
    wait_for(&format!("a line of `{container}`"), LIMIT, async || {
        let said = namespace.output(pod, Some(container)).await?;
        if said.ends_with('\n') { Ok(said) } else { bail!("{said:?}") }
    })
    .await
}

fn with_dollars(task: Value, namespace: &Namespace) -> Value {
    let task = with_plain(task, "A", "must not be seen");
    with_variable(with_plain(task, "X", DOLLARS), "S", &namespace.secret("s"))
}

fn health_check(command: &Value) -> Value {
    json!({
        "type": "COMMAND", "command": command, "delay_seconds": 0.0, "grace_period_seconds": 0.0,
        "interval_seconds": 1.0,
    })
}

/// A task of an adopted pod, whose container has a secret variable `S`.
fn with_s(namespace: &Namespace, container: &str) -> Value {
    let task = json!({
        "name": container,
        "command": {"environment": {"variables": []}},
        "container": {"type": "MESOS", "volumes": []},
    });
    with_variable(task, "S", &namespace.secret("s"))
}

/// Defines `app`, which adopts the pods of label `app=app`, and waits until it is known.
async fn adopt(namespace: &Namespace, tasks: &[Value]) -> Result<()> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"},
        "automountServiceAccountToken": false,
    });
    namespace.apply(&account.to_string()).await?;
    let adopt = json!({"selector": {"matchLabels": {"app": "app"}}, "serviceAccountName": "app"});
    namespace.define("app", &json!({"tasks": tasks, "run": {"adopt": adopt}})).await?;
    namespace.condition("app", "Accepted", "True").await.map(drop)
}

/// Makes the pod `app` for [`adopt`], once the webhook knows of the definition too.
async fn make_adopted_pod(
    namespace: &Namespace,
    mut spec: Value,
    finalizers: &Value,
) -> Result<()> {
    spec["serviceAccountName"] = json!("app");
    let labels = json!({"app": "app", "watchword.dev/inject": "true"});
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "labels": labels, "finalizers": finalizers},
        "spec": spec,
    });
    let pod = pod.to_string();
    wait_for("the pod to be let in", LIMIT, async || namespace.apply(&pod).await).await.map(drop)
}

/// What the kubelet would rewrite, if it were let: `A` and `X` are variables.
const DOLLARS: &str = "$ $$ $(A) ${A} $$(A) $(NO) $";

/// What a health check leaves, whole at any time: it is read while the next one runs.
const PROBE: &str = "/mnt/mesos/sandbox/probe";

const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

const SECRET: &str = "s3cret-of-the-process";

/// Says what it got, in a place that outlives it. An adopted pod's command is the kubelet's to
/// rewrite, so the shell's `$$` is doubled. A shell waits for `sleep` before it runs a trap,
/// unless it waits by `wait`.
const TRAP: &str = "trap 'printf %s \"SIGTERM at $$$$\" > /dev/termination-log; exit 42' TERM; \
                    echo ready; sleep 600 & wait";
