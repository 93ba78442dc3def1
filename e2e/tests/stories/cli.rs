//! The command line: what it stores and prints to the byte, whom it lets, and what it says when it
//! does not do something.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use watchword_crds::names;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, Namespace, run, wait_for};
use watchword_store::MAX_VALUE_BYTES;

#[test]
fn a_secret_is_kept_to_the_byte_from_its_creation_to_its_end() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("cli").await?;
        let path = namespace.secret("deep/db");
        let bytes = b"\0any \xff bytes, to the last newline\n";
        let watchword = async |command: &[&str], input: &[u8]| {
            cluster.watchword_answered(&[&["secret"], command].concat(), input).await
        };

        let created = watchword(&["create", &path, "--file", "-"], bytes).await?;
        let got = watchword(&["get", &path], b"").await?;
        let again = watchword(&["create", &path, "--value", "other"], b"").await?;
        let kept = watchword(&["get", &path], b"").await?;
        let updated =
            watchword(&["update", &path, "--text-file", "-"], "grün\n".as_bytes()).await?;
        let json = watchword(&["get", &path, "--json"], b"").await?;
        let versions = watchword(&["versions", &path, "--json"], b"").await?;
        let listed = watchword(&["list", namespace.name()], b"").await?;
        let deleted = watchword(&["delete", &path], b"").await?;
        let gone = watchword(&["get", &path], b"").await?;
        let updated_nothing = watchword(&["update", &path, "--value", "x"], b"").await?;
        let list_of_none = watchword(&["list", namespace.name()], b"").await?;

        assert_eq!(said(&created), (Some(0), String::new(), format!("created `{path}`\n")));
        assert_eq!((got.status.code(), got.stdout.as_slice()), (Some(0), bytes.as_slice()));
        let (code, stdout, stderr) = said(&again);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.starts_with(&format!("error: cannot create `{path}`: ")), "{stderr}");
        assert!(stderr.contains(&format!("`watchword secret update {path}`")), "{stderr}");
        assert_eq!(kept.stdout, bytes, "a refused creation changes nothing");
        assert_eq!(said(&updated), (Some(0), String::new(), format!("updated `{path}`\n")));
        let json: Value = serde_json::from_slice(&json.stdout)?;
        assert_eq!(json, json!({"path": path, "version": 2, "value": "grün\n"}));
        let versions: Vec<Value> = serde_json::from_slice(&versions.stdout)?;
        let mut numbers: Vec<_> = versions.iter().map(|one| one["version"].as_u64()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [Some(1), Some(2)]);
        assert!(versions.iter().all(|one| one["created"].is_string()), "{versions:?}");
        assert_eq!(said(&listed), (Some(0), "deep/db\n".to_owned(), String::new()));
        assert_eq!(said(&deleted), (Some(0), String::new(), format!("deleted `{path}`\n")));
        let (code, stdout, stderr) = said(&gone);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.starts_with(&format!("error: cannot read `{path}`: ")), "{stderr}");
        assert!(stderr.contains("\nhint: "), "{stderr}");
        let (code, _, stderr) = said(&updated_nothing);
        assert_eq!(code, Some(1));
        assert!(stderr.contains(&format!("`watchword secret create {path}`")), "{stderr}");
        assert_eq!(said(&list_of_none), (Some(0), String::new(), String::new()));
        anyhow::Ok(())
    });
}

#[test]
fn the_longest_value_is_kept_and_a_longer_one_is_refused() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("long").await?;
        let (path, longer) = (namespace.secret("long"), namespace.secret("longer"));
        let value: Vec<u8> = (0..=u8::MAX).cycle().take(MAX_VALUE_BYTES + 1).collect();
        let longest = &value[..MAX_VALUE_BYTES];

        cluster.create_secret(&path, longest).await?;
        let got = cluster.watchword_answered(&["secret", "get", &path], b"").await?;
        let arguments = ["secret", "create", &longer, "--file", "-"];
        let refused = cluster.watchword_answered(&arguments, &value).await?;
        let none = cluster.watchword_answered(&["secret", "get", &longer], b"").await?;
        cluster.delete_secret(&path).await?;

        assert!(got.stdout == longest, "the longest value has changed on the way");
        let (code, _, stderr) = said(&refused);
        assert_eq!(code, Some(1));
        assert!(stderr.contains("longer than 1047552 bytes"), "{stderr}");
        assert_eq!(none.status.code(), Some(1), "nothing is stored");
        anyhow::Ok(())
    });
}

#[test]
fn a_wrong_command_line_is_told_from_a_refusal_and_a_value_is_no_echo() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("usage").await?;
        let path = namespace.secret("s");

        let stray =
            cluster.watchword_answered(&["secret", "create", &path, "hunter2"], b"").await?;
        let no_path = cluster.watchword_answered(&["secret", "get", "a//b"], b"").await?;
        let status = cluster.watchword_answered(&["store", "status", "--json"], b"").await?;
        let plain = cluster.watchword_answered(&["store", "status"], b"").await?;

        let (code, stdout, stderr) = said(&stray);
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert!(!stderr.contains("hunter2"), "{stderr}");
        assert_eq!(no_path.status.code(), Some(2));
        assert_eq!(status.status.code(), Some(0));
        let status: Value = serde_json::from_slice(&status.stdout)?;
        assert_eq!(status["sealed"], false, "{status}");
        assert!(said(&plain).1.contains("sealed:    no\n"), "{plain:?}");
        anyhow::Ok(())
    });
}

#[test]
fn a_service_account_comes_as_far_as_its_roles_let_it() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("account").await?;
        let elsewhere = cluster.namespace("elsewhere").await?;
        let (path, other) = (namespace.secret("s"), elsewhere.secret("s"));
        cluster.create_secret(&other, "of another").await?;
        namespace.account("cli").await?;
        let token = namespace.token(cluster.client(), "cli", None, None).await?;
        let kubeconfig = kubeconfig_with(&cluster, &json!({"token": token})).await?;
        let kubeconfig = kubeconfig.path().to_str().context("a path that is no text")?;
        let watchword = async |command: &[&str]| {
            let arguments = [command, &["--kubeconfig", kubeconfig]].concat();
            anyhow::Ok(said(&cluster.watchword_answered(&arguments, b"").await?))
        };

        let no_way = watchword(&["store", "status"]).await?;
        let way = bind_cli(&cluster, &namespace).await?;
        let status = watchword(&["store", "status"]).await?;
        let no_right = watchword(&["secret", "create", &path, "--value", "x"]).await?;
        let rules = json!([{
            "apiGroups": ["store.watchword.dev"], "resources": ["secrets"],
            "verbs": ["create", "read"],
        }]);
        namespace.grant("cli", &rules).await?;
        let created = watchword(&["secret", "create", &path, "--value", "x"]).await?;
        let got = watchword(&["secret", "get", &path]).await?;
        let versions = watchword(&["secret", "versions", &path, "--json"]).await?;
        let updated = watchword(&["secret", "update", &path, "--value", "y"]).await?;
        let of_another = watchword(&["secret", "get", &other]).await?;
        let plugin = kubeconfig_with(&cluster, &plugin_that_prints(&token)).await?;
        let plugin = plugin.path().to_str().context("a path that is no text")?;
        let by_plugin = ["secret", "get", &path, "--kubeconfig", plugin];
        let by_plugin = said(&cluster.watchword_answered(&by_plugin, b"").await?);
        // The administrator of a local cluster has a client certificate.
        let by_certificate =
            said(&cluster.watchword_answered(&["secret", "get", &path], b"").await?);
        // The log comes to us by the kubelet, a moment later.
        let readers = wait_for("the audit log to tell of all reads", LIMIT, async || {
            let lines = cluster.audit().await?.into_iter();
            let reads = lines.filter(|line| {
                line["path"] == *path && line["event"] == "read" && line["decision"] == "allowed"
            });
            let readers: BTreeSet<String> =
                reads.map(|line| line["subject"]["user"]["name"].to_string()).collect();
            ensure!(readers.len() >= 2, "{readers:?}");
            Ok(readers)
        })
        .await?;
        // It is in Watchword's namespace, which outlives the story.
        let removed = cluster
            .kubectl(&["delete", "rolebinding", &way, "--namespace", names::NAMESPACE])
            .await?;

        assert_eq!(no_way.0, Some(1));
        assert!(no_way.2.contains("configmaps \"watchword-ca\" is forbidden"), "{}", no_way.2);
        assert_eq!(status.0, Some(0), "{}", status.2);
        assert_eq!(no_right.0, Some(1));
        let ask = format!("`kubectl auth can-i create /secrets/v1/secret/default/{path}`");
        assert!(no_right.2.contains(&ask), "{}", no_right.2);
        assert_eq!(created.0, Some(0), "{}", created.2);
        assert_eq!((got.0, got.1.as_str()), (Some(0), "x"));
        assert_eq!((by_plugin.0, by_plugin.1.as_str()), (Some(0), "x"), "{}", by_plugin.2);
        assert_eq!(by_certificate.0, Some(0), "{}", by_certificate.2);
        let versions: Value = serde_json::from_str(&versions.1)?;
        let account = format!("system:serviceaccount:{}:cli", namespace.name());
        assert_eq!(versions[0]["author"], json!(account));
        let names_the_account = readers.contains(&json!(account).to_string());
        assert!(names_the_account, "the log names the person, not the way: {readers:?}");
        assert_eq!(
            readers.len(),
            2,
            "the account, by two ways, and the administrator: {readers:?}"
        );
        assert_eq!(updated.0, Some(1), "it has no verb `update`");
        assert_eq!(of_another.0, Some(1), "its role is for its own namespace");
        assert!(!of_another.2.contains("of another"), "{}", of_another.2);
        assert!(removed.status.success(), "{removed:?}");
        anyhow::Ok(())
    });
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A user whose token comes from a program, as clouds have it.
fn plugin_that_prints(token: &str) -> Value {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token},
    });
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "echo", "args": [credential.to_string()],
    }})
}

/// The cluster's kubeconfig, with another user.
async fn kubeconfig_with(cluster: &Cluster, user: &Value) -> Result<NamedTempFile> {
    let view = ["config", "view", "--raw", "--minify", "--flatten", "--output", "json"];
    let output = cluster.kubectl(&view).await?;
    let mut kubeconfig: Value = serde_json::from_slice(&output.stdout)?;
    kubeconfig["users"][0]["user"] = user.clone();
    let file = NamedTempFile::new()?;
    serde_json::to_writer(&file, &kubeconfig)?;
    Ok(file)
}

/// Binds the role that leads to the store; returns the binding's name.
async fn bind_cli(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    let name = format!("e2e-{}", namespace.name());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": names::NAMESPACE},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "watchword-cli",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "cli", "namespace": namespace.name()}],
    });
    cluster.apply(&binding.to_string()).await?;
    Ok(name)
}
