//! Files: each on tmpfs at its path, for the container that asked for it, and gone with the pod.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_plain, with_variable};
use watchword_e2e::{Cluster, Namespace, run, skip, wait_for};

/// The paths of Mesos' own tests (`volume_secret_isolator_tests.cpp`).
const PATHS: [&str; 8] = [
    "my_secret",
    "some/my_secret",
    "etc/my_secret",
    "etc/some/my_secret",
    "/my_secret",
    "/some/my_secret",
    "/etc/my_secret",
    "/etc/some/my_secret",
];

const SANDBOX: &str = "/mnt/mesos/sandbox";

#[test]
fn the_eight_paths_of_mesos_hold_their_secrets_on_tmpfs_read_only_or_writable() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("paths").await?;
        let secret = namespace.secret("files");
        let values: BTreeMap<_, _> =
            (0..PATHS.len()).map(|index| (format!("k{index}"), format!("value-{index}"))).collect();
        cluster.create_secret(&secret, serde_json::to_string(&values)?).await?;
        let with_all_paths = |name: &str, mode: &str| {
            PATHS.iter().enumerate().fold(task(name, &look_at_files()), |task, (index, path)| {
                with_file(task, path, mode, &format!("{secret}@k{index}"))
            })
        };
        let tasks = [with_all_paths("read-only", "RO"), with_all_paths("writable", "RW")];

        namespace.define("web", &json!({"tasks": tasks})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        let read_only = look(&namespace, &pod, "read-only").await?;
        let writable = look(&namespace, &pod, "writable").await?;
        for (index, path) in PATHS.iter().enumerate() {
            let (value, path) = (format!("value-{index}"), absolute(path));
            assert_eq!(
                read_only[index],
                [&path, &value, "tmpfs", "ro", "Read-only file system", &value],
            );
            assert_eq!(writable[index], [&path, &value, "tmpfs", "rw", "", "written"]);
        }
        anyhow::Ok(())
    });
}

/// For each file: what is in it, what `/proc/mounts` says of it, what writing says, and what is in
/// it then.
fn look_at_files() -> String {
    let paths: Vec<String> = PATHS.iter().map(|path| absolute(path)).collect();
    format!(
        r#"for path in {}; do
  before=$(cat $path)
  mount=$(awk -v p=$path '$2 == p {{ split($4, o, ","); print $3 "|" o[1] }}' /proc/mounts)
  error=$( (echo written > $path) 2>&1 | sed 's/.*: //')
  echo "$path|$before|$mount|$error|$(cat $path)"
done
echo seen
exec sleep 600"#,
        paths.join(" ")
    )
}

async fn look(namespace: &Namespace, pod: &str, container: &str) -> Result<Vec<Vec<String>>> {
    let log = seen(namespace, pod, container).await?;
    Ok(log.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

/// What a container has printed before the line `seen`.
async fn seen(namespace: &Namespace, pod: &str, container: &str) -> Result<String> {
    wait_for(&format!("`{container}` to have seen all"), LIMIT, async || {
        let log = namespace.output(pod, Some(container)).await?;
        log.strip_suffix("seen\n").map(str::to_owned).with_context(|| log.clone())
    })
    .await
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{SANDBOX}/{path}") }
}

#[test]
fn the_sandbox_holds_relative_paths_and_room_for_another_users_files_beside_them() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("sandbox").await?;
        cluster.create_secret(&namespace.secret("key"), "s3cret-value").await?;
        // The program changes its user, which no spec tells.
        let script = r#"cd "$MESOS_SANDBOX" && pwd && cat certs/deep/tls.key && echo
su -s /bin/sh nobody -c '
  id -u
  cat certs/deep/tls.key && echo
  for directory in . certs certs/deep; do echo mine > $directory/mine && cat $directory/mine; done' 2>/dev/null
ls certs certs/deep; head -n 1 /etc/group
echo seen; exec sleep 600"#;
        let web =
            with_file(task("web", script), "certs/deep/tls.key", "RO", &namespace.secret("key"));
        // The image has this file, with a line for root, of which `su` then complains in vain.
        let web = with_file(web, "/etc/group", "RO", &namespace.secret("key"));

        namespace.define("web", &json!({"tasks": [web]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        let expected = "/mnt/mesos/sandbox\ns3cret-value\n65534\ns3cret-value\nmine\nmine\nmine\n\
                        certs:\ndeep\nmine\n\ncerts/deep:\nmine\ntls.key\ns3cret-value";
        assert_eq!(seen(&namespace, &pod, "web").await?, expected);
        anyhow::Ok(())
    });
}

#[test]
fn files_are_for_the_user_of_the_task_else_for_the_group_of_the_pod_else_for_the_container() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("owners").await?;
        cluster.create_secret(&namespace.secret("key"), "s3cret-value").await?;
        let script = "for f in /s/ro /s/rw; do stat -c '%u:%g %a' $f; cat $f; echo; done
                      echo seen; exec sleep 600";
        let with_files = |name: &str, user: Option<&str>| {
            let mut task = task(name, script);
            if let Some(user) = user {
                task["command"]["user"] = json!(user);
            }
            let task = with_file(task, "/s/ro", "RO", &namespace.secret("key"));
            with_file(task, "/s/rw", "RW", &namespace.secret("key"))
        };
        let tasks = json!([with_files("known", Some("1234")), with_files("unknown", None)]);
        let group = json!({"spec": {"securityContext": {"fsGroup": 5678}}});

        namespace.define("alone", &json!({"tasks": tasks})).await?;
        namespace.define("grouped", &json!({"tasks": tasks, "template": group})).await?;

        // Where the user is not known, the agent's own writes: 65532.
        let cases = [
            ("alone", "known", ["1234:0 400", "1234:0 600"]),
            ("alone", "unknown", ["65532:0 444", "65532:0 666"]),
            ("grouped", "known", ["1234:5678 400", "1234:5678 600"]),
            ("grouped", "unknown", ["65532:5678 440", "65532:5678 660"]),
        ];
        for (definition, task, [read_only, writable]) in cases {
            namespace.in_state(definition, "TASK_RUNNING").await?;
            let pod = namespace.running_pod(definition).await?;
            let expected = format!("{read_only}\ns3cret-value\n{writable}\ns3cret-value\n");
            assert_eq!(seen(&namespace, &pod, task).await?, expected, "{definition}/{task}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn nothing_of_a_value_is_on_the_node_while_its_pod_runs_or_after() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("only a local cluster lets one look at its node's disk");
            return Ok(());
        };
        let namespace = cluster.namespace("canary").await?;
        // The name of the namespace makes it another one with each run.
        let canary = format!("canary-{}", namespace.name());
        let control = format!("control-{}", namespace.name());
        cluster.create_secret(&namespace.secret("key"), &canary).await?;
        let print = "test \"$KEY\" = \"$(cat key)\" && echo same; exec sleep 600";
        let web = task("web", &format!("cd $MESOS_SANDBOX; {print}"));
        let web = with_variable(web, "KEY", &namespace.secret("key"));
        let web = with_file(web, "key", "RW", &namespace.secret("key"));
        let web = with_plain(web, "CONTROL", &control);

        namespace.define("web", &json!({"tasks": [web]})).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        namespace.says(&pod, None, "same\n").await?;
        let encoded = base64(&canary);
        let needles = [canary.as_bytes(), encoded.as_bytes()];
        assert!(!node.files_with(&[control.as_bytes()])?.is_empty(), "the search finds nothing");
        assert_eq!(node.files_with(&needles)?, Vec::<std::path::PathBuf>::new());

        let deleted = namespace.kubectl(&["delete", "td", "web", "--wait"]).await?;
        assert!(deleted.status.success(), "{deleted:?}");
        no_pods(&namespace).await?;
        assert_eq!(node.files_with(&needles)?, Vec::<std::path::PathBuf>::new());
        for process in node.processes()? {
            let line = String::from_utf8_lossy(&process.command_line);
            assert!(!line.contains(&canary), "process {}: {line}", process.pid);
        }
        anyhow::Ok(())
    });
}

async fn no_pods(namespace: &Namespace) -> Result<()> {
    wait_for("no pods", LIMIT, async || {
        let pods = namespace.api::<Pod>().list(&ListParams::default()).await?.items;
        let names: Vec<String> = pods.iter().map(Pod::name_any).collect();
        ensure!(names.is_empty(), "{names:?}");
        Ok(())
    })
    .await
}

/// As a Kubernetes Secret would have it, without the last bytes, which depend on what follows.
fn base64(text: &str) -> String {
    use base64::Engine;
    let encoded = base64::prelude::BASE64_STANDARD_NO_PAD.encode(text);
    encoded[..encoded.len() / 4 * 4].to_owned()
}
