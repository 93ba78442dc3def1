//! The component `deny-exec`.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run_alone, wait_for};

#[test]
fn deny_exec_closes_pods_with_secrets_and_leaves_others_alone() {
    run_alone("deny-exec", "e2e/manifests/deny-exec", async |cluster: Cluster| {
        let closed = cluster.namespace("closed").await?;
        let open = cluster.namespace("open").await?;
        cluster.create_secret(&closed.secret("db"), "value").await?;
        let web = with_variable(task("web", "exec sleep 600"), "DB", &closed.secret("db"));
        closed.define("web", &json!({"tasks": [web]})).await?;
        for namespace in [&closed, &open] {
            namespace.apply(&plain("plain", false).to_string()).await?;
            namespace.pod_ready("plain", LIMIT).await?;
        }
        closed.in_state("web", "TASK_RUNNING").await?;
        let web = closed.running_pod("web").await?;

        // Ephemeral containers: the pod's own label decides.
        wait_for("the policy to be in force", LIMIT, async || {
            let refusal = debug(&closed, &web).await?.context("it is let in")?;
            ensure!(refusal.contains("it takes no ephemeral container"), "{refusal}");
            Ok(())
        })
        .await?;
        for namespace in [&closed, &open] {
            assert_eq!(debug(namespace, "plain").await?, None);
        }
        assert_eq!(refused(&open, &plain("sharing", true)).await?, None);
        let adopted = json!({"name": "plain", "command": {"environment": {"variables": []}}});
        let adopted = json!({
            "run": {"adopt": {
                "selector": {"matchLabels": {"app": "sharing"}}, "serviceAccountName": "sharing",
            }},
            "tasks": [with_variable(adopted, "DB", &closed.secret("db"))],
        });
        closed.account("sharing").await?;
        closed.define("sharing", &adopted).await?;
        let mut sharing = plain("sharing", true);
        sharing["spec"]["serviceAccountName"] = json!("sharing");
        sharing["metadata"]["labels"] = json!({"app": "sharing", "watchword.dev/inject": "true"});
        wait_for("the pod to be refused for what it shares", LIMIT, async || {
            let refusal = refused(&closed, &sharing).await?.context("it is let in")?;
            ensure!(refusal.contains("must not share a process namespace"), "{refusal}");
            Ok(())
        })
        .await?;

        // Exec, attach, port-forward: the namespace's label does.
        closed.exec(&web, None, &["true"]).await?.success()?;
        let label = format!("namespace/{}", closed.name());
        let labelled = cluster.kubectl(&["label", &label, "watchword.dev/deny-exec=true"]).await?;
        ensure!(labelled.status.success(), "{labelled:?}");
        let pod = format!("pod/{web}");
        let proxy = format!("/api/v1/namespaces/{}/pods/{web}:80/proxy/", closed.name());
        for (what, arguments) in [
            ("exec", ["exec", &pod, "--", "true"].as_slice()),
            ("attach", ["attach", &pod].as_slice()),
            ("portforward", ["port-forward", &pod, "0:80"].as_slice()),
            ("proxy", ["get", "--raw", &proxy].as_slice()),
        ] {
            wait_for(&format!("{what} to be denied"), LIMIT, async || {
                // What is let in has no end by itself.
                let limited = [["--request-timeout=30s"].as_slice(), arguments].concat();
                let asked = closed.kubectl(&limited);
                let asked = tokio::time::timeout(std::time::Duration::from_secs(45), asked);
                let output = asked.await.context("it is let in")??;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(!output.status.success(), "it is let in");
                ensure!(said.contains("is denied while the namespace has the label"), "{said}");
                Ok(())
            })
            .await?;
        }
        open.exec("plain", None, &["true"]).await?.success()?;
        anyhow::Ok(())
    });
}

fn plain(name: &str, shares: bool) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "shareProcessNamespace": shares,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "plain", "image": images::BUSYBOX, "command": ["sleep", "600"],
            }],
        },
    })
}

/// What an ephemeral container in a pod is refused with; `None` if it would be let in.
async fn debug(namespace: &Namespace, pod: &str) -> Result<Option<String>> {
    let container = json!({"name": "debug", "image": images::BUSYBOX, "command": ["sh"]});
    let patch = json!({"spec": {"ephemeralContainers": [container]}});
    let pods: Api<Pod> = namespace.api();
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    refusal(pods.patch_ephemeral_containers(pod, &parameters, &Patch::Strategic(patch)).await)
}

/// What a pod is refused with; `None` if it would be let in.
async fn refused(namespace: &Namespace, pod: &serde_json::Value) -> Result<Option<String>> {
    let pods: Api<Pod> = namespace.api();
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    refusal(pods.create(&parameters, &serde_json::from_value(pod.clone())?).await)
}

fn refusal(asked: kube::Result<Pod>) -> Result<Option<String>> {
    match asked {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}
