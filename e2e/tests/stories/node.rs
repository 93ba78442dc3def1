//! The node itself: pods run, memory volumes are memory, names resolve, and what the harness
//! looks at is what is there.

use anyhow::ensure;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, images, run, skip, wait_for};

#[test]
fn a_pod_reads_its_memory_volume_and_resolves_a_service() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("node").await?;
        namespace
            .apply(&format!(
                r#"
apiVersion: v1
kind: Service
metadata: {{name: greeting}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: box
    image: {busybox}
    command: [sh, -c, "echo kept > /memory/file; exec sleep 600"]
    volumeMounts: [{{name: memory, mountPath: /memory}}]
  volumes: [{{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}]
"#,
                busybox = images::BUSYBOX,
            ))
            .await?;
        namespace.pod_ready("box", LIMIT).await?;

        // Nobody says when a container without probe has come to its second command.
        wait_for("the file", LIMIT, async || {
            let read = namespace.exec("box", None, &["cat", "/memory/file"]).await?.success()?;
            ensure!(read == "kept\n", "{read:?}");
            Ok(())
        })
        .await?;
        let mounts = namespace.printed("box", None, &["cat", "/proc/mounts"]).await?;
        assert!(mounts.contains("tmpfs /memory tmpfs"), "{mounts}");
        let name = format!("greeting.{}.svc.cluster.local", namespace.name());
        wait_for("the Service to have a name", LIMIT, async || {
            let resolved = namespace.exec("box", None, &["nslookup", &name]).await?.success()?;
            ensure!(resolved.contains(&format!("Name:\t{name}")), "{resolved}");
            Ok(())
        })
        .await?;
        wait_for("the exit code of a program", LIMIT, async || {
            let code = namespace.exec("box", None, &["sh", "-c", "echo no >&2; exit 7"]).await?;
            ensure!((code.stderr.as_slice(), code.code) == (b"no\n", 7), "{code:?}");
            Ok(())
        })
        .await?;
        anyhow::Ok(())
    });
}

#[test]
fn the_image_without_a_shell_says_what_it_sees_and_ends_as_it_is_told() {
    run(async |cluster: Cluster| {
        let restricted = [("pod-security.kubernetes.io/enforce", "restricted")];
        let namespace = cluster.namespace_with("probe", &restricted).await?;
        namespace
            .apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: probe}}
spec:
  restartPolicy: Never
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: probe
    image: {probe}
    args: [--env, GREETING, --env, NONE, --id, --exit, "3"]
    env: [{{name: GREETING, value: "a \"word\"\n"}}]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"#,
                probe = images::SCRATCH_APP,
            ))
            .await?;
        let pod = namespace.pod_phase("probe", "Failed", LIMIT).await?;

        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let ended = statuses[0].state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!(ended.map(|ended| ended.exit_code), Some(3));
        let said = namespace.logs("probe", None).await?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        assert_eq!(said["env"]["GREETING"], "a \"word\"\n");
        assert!(said["env"]["NONE"].is_null());
        assert_eq!(said["id"], "1000:0");
        anyhow::Ok(())
    });
}

#[test]
fn what_the_node_holds_can_be_searched() {
    run(async |cluster: Cluster| {
        let Some(node) = cluster.local() else {
            skip("not a local cluster");
            return Ok(());
        };
        let namespace = cluster.namespace("search").await?;
        // Apart here, so that this file's own text is not what is found.
        let canary = format!("canary-{}", namespace.name());
        namespace
            .apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: box
    image: {busybox}
    command: [sh, -c, "echo {canary}; cat; exit 1", "{canary}"]
    stdin: true
"#,
                busybox = images::BUSYBOX,
            ))
            .await?;
        namespace.pod_ready("box", LIMIT).await?;
        namespace.says("box", None, &format!("{canary}\n")).await?;

        let entries = node.etcd(&format!("/registry/pods/{}/", namespace.name())).await?;
        assert_eq!(entries.len(), 1);
        let holds =
            |bytes: &[u8]| bytes.windows(canary.len()).any(|text| text == canary.as_bytes());
        assert!(holds(&entries[0].value));
        assert!(node.etcd("").await?.len() > 50);
        assert!(node.processes()?.iter().any(|process| holds(&process.command_line)));
        let files = node.files_with(&[canary.as_bytes()])?;
        for place in ["/var/log/pods/", "config.json", "/etcd/"] {
            assert!(files.iter().any(|file| file.display().to_string().contains(place)), "{place}");
        }
        let listed = namespace.kubectl(&["get", "pods", "--output=name"]).await?;
        assert_eq!(String::from_utf8(listed.stdout)?, "pod/box\n");
        anyhow::Ok(())
    });
}
