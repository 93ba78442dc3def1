//! Labelled pods: only those of the injected structure are let in.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, images, run, wait_for};

use super::{dry_create, running_web};

#[test]
fn labelled_pods_of_any_other_than_the_injected_structure_are_refused() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("structure").await?;
        let injected = namespace.api::<Pod>().get(&running_web(&namespace).await?).await?;
        let mut injected = serde_json::to_value(&injected)?;
        injected["metadata"] =
            json!({"name": "structure", "labels": {names::INJECT_LABEL: names::INJECT_VALUE}});
        injected["status"] = Value::Null;
        injected["spec"]["nodeName"] = Value::Null;
        injected["spec"]["volumes"].as_array_mut().context("no volumes")?.retain(|volume| {
            !volume["name"].as_str().unwrap_or_default().starts_with("kube-api-access")
        });
        // The webhook leaves this namespace alone: there the policy sees a pod as it was sent.
        let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let create = async |pod: &Value| {
            let pod: Pod = serde_json::from_value(pod.clone())?;
            anyhow::Ok(pods.create(&dry_run, &pod).await.err().map(|error| error.to_string()))
        };
        assert_eq!(create(&injected).await?, None, "the structure as the webhook makes it");

        type Change = fn(&mut Value);
        let cases: [(&str, Change); 19] = [
            ("the pod has no token volume", |spec| {
                *spec = json!({"containers": [
                    {"name": "web", "image": images::BUSYBOX, "command": ["sleep", "600"]},
                ]});
            }),
            ("starts through /watchword/agent, and no init container writes files", |spec| {
                spec["initContainers"] = json!([]);
                app(spec)["command"] = json!(["sleep", "600"]);
            }),
            ("must be one service account token with the audience", |spec| {
                token(spec)["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
                    json!("vault");
            }),
            ("must be one service account token with the audience", |spec| {
                token(spec)["projected"]["sources"] = json!([
                    {"configMap": {"name": "kube-root-ca.crt"}},
                    {"serviceAccountToken": {"path": "token", "audience": "watchword:web"}},
                ]);
            }),
            ("a token of watchword is mounted where it does not belong", |spec| {
                token(spec)["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
                    json!("watchword:other");
            }),
            ("a token of watchword is mounted where it does not belong", |spec| {
                let mounts = &mut app(spec)["volumeMounts"];
                named(mounts, "watchword-token-0")["mountPath"] = json!("/stolen");
            }),
            ("a token of watchword is mounted where it does not belong", |spec| {
                let mount = json!({"name": "watchword-token-0", "mountPath": "/var/run/watchword",
                                   "readOnly": true});
                let thief = json!({"name": "thief", "image": images::BUSYBOX,
                                   "volumeMounts": [mount]});
                push(&mut spec["containers"], thief);
            }),
            ("a container that has a token of watchword must start through", |spec| {
                app(spec)["command"] = json!(["/watchword/agent2", "exec", "--", "sh"]);
            }),
            ("lacks the agent, its token or its revision", |spec| {
                let env = app(spec)["env"].as_array_mut();
                env.into_iter()
                    .for_each(|env| env.retain(|one| one["name"] != "WATCHWORD_REVISION"));
            }),
            ("an init container watchword-files* must run [/agent, files]", |spec| {
                named(&mut spec["initContainers"], "watchword-files")["command"] =
                    json!(["/bin/sh", "-c", "cat /var/run/watchword/0/token"]);
            }),
            ("volumes that hold secrets must be tmpfs", |spec| {
                named(&mut spec["volumes"], "watchword-files-0")["emptyDir"] = json!({});
            }),
            ("the agent comes neither from an image volume nor from the init container", |spec| {
                named(&mut spec["volumes"], "watchword")["emptyDir"] = json!({});
                named(&mut spec["volumes"], "watchword")["image"] = Value::Null;
            }),
            ("no init container writes the files of the volumes", |spec| {
                remove(&mut spec["initContainers"], "watchword-files");
            }),
            ("lacks the agent, its token or its revision", |spec| {
                remove(&mut app(spec)["volumeMounts"], "watchword-token-0");
            }),
            ("lacks the agent, its token or its revision", |spec| {
                named(&mut app(spec)["volumeMounts"], "watchword")["readOnly"] = json!(false);
            }),
            ("an init container watchword-files* must run [/agent, files]", |spec| {
                let files = named(&mut spec["initContainers"], "watchword-files");
                let mounts = files["volumeMounts"].as_array_mut().into_iter().flatten();
                mounts.for_each(|mount| mount["readOnly"] = json!(false));
            }),
            ("volumes that hold secrets must be tmpfs", |spec| {
                push(&mut spec["volumes"], json!({"name": "watchword-env-7", "emptyDir": {}}));
            }),
            ("the agent comes neither from an image volume nor from the init container", |spec| {
                remove(&mut spec["volumes"], "watchword");
                let from_memory = json!({"name": "watchword", "emptyDir": {"medium": "Memory"}});
                push(&mut spec["volumes"], from_memory);
                let install = json!({"name": "watchword-install", "image": images::BUSYBOX,
                                     "command": ["sh", "-c", "cp /bin/sh /watchword-install/agent"]});
                remove(&mut spec["initContainers"], "watchword-install");
                push(&mut spec["initContainers"], install);
            }),
            // An init container of the application's own is held to the same.
            ("a container that has a token of watchword must start through", |spec| {
                let mount = json!({"name": "watchword-token-9", "mountPath": "/var/run/watchword",
                                   "readOnly": true});
                let volume = json!({"name": "watchword-token-9", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "audience": "watchword:prepare"}},
                ]}});
                push(&mut spec["volumes"], volume);
                let own = json!({"name": "prepare", "image": images::BUSYBOX,
                                 "command": ["cat", "/var/run/watchword/token"],
                                 "volumeMounts": [mount]});
                push(&mut spec["initContainers"], own);
            }),
        ];
        for (words, change) in cases {
            let mut pod = injected.clone();
            change(&mut pod["spec"]);
            let refusal = create(&pod).await?.with_context(|| format!("let in: {words}"))?;
            assert!(refusal.contains("watchword-injected"), "{words}: {refusal}");
            assert!(refusal.contains(words), "{words}: {refusal}");
        }

        // Without the label it is a pod like any other.
        let mut pod = injected.clone();
        pod["metadata"]["labels"] = json!({});
        pod["spec"]["volumes"][0]["emptyDir"] = json!({});
        assert_eq!(create(&pod).await?, None);
        anyhow::Ok(())
    });
}

#[test]
fn a_label_that_nearly_asks_for_secrets_is_refused_with_its_value_and_the_mend() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("opt-in").await?;
        let create = async |label: &str| {
            let labels = json!({"app": "x", names::INJECT_LABEL: label});
            let containers = json!([{"name": "web", "image": images::BUSYBOX}]);
            let pod = json!({"metadata": {"name": "web", "labels": labels},
                             "spec": {"containers": containers}});
            dry_create::<Pod>(&cluster.client(), namespace.name(), &pod).await
        };

        for slip in ["True", "TRUE", "yes", "1", "enabled", ""] {
            let refusal = create(slip).await?;

            assert!(refusal.contains("watchword-opt-in"), "{slip:?}: {refusal:?}");
            let words = format!(
                "the label watchword.dev/inject is \"{slip}\", which means nothing: write \"true\" \
                 for a pod that gets secrets, or remove the label"
            );
            assert!(refusal.contains(&words), "{slip:?}: {refusal:?}");
        }

        assert_eq!(create("false").await?, "");
        // The right word gets as far as the webhook, once that answers in time.
        wait_for("the webhook's refusal", LIMIT, async || {
            let refusal = create("true").await?;
            assert_ne!(refusal, "", "it is let in");
            ensure!(refusal.contains("no task definition of namespace"), "{refusal:?}");
            Ok(())
        })
        .await?;
        anyhow::Ok(())
    });
}

/// The application's container in a pod's spec.
fn app(spec: &mut Value) -> &mut Value {
    &mut spec["containers"][0]
}

/// The volume of the first token.
fn token(spec: &mut Value) -> &mut Value {
    named(&mut spec["volumes"], "watchword-token-0")
}

fn named<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    let items = list.as_array_mut().into_iter().flatten();
    let found = items.into_iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("the pod has no `{name}`"))
}

/// Takes an item of this name out of a list.
fn remove(list: &mut Value, name: &str) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|item| item["name"] != name);
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
