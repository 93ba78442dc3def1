//! What an attacker tries: stolen tokens, forged pods, edited objects, other people's names, broken
//! requests. Each is refused, and where the store was asked, its audit log says so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchword_crds::TaskRevision;
use watchword_e2e::cluster::{Answer, Https};
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run, wait_for};

// ------------------------------------------------------------------------------------- tokens

#[test]
fn a_containers_token_is_good_for_its_own_secrets_and_for_nothing_else() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("tokens").await?;
        let store = cluster.https("store").await?;
        // Names that no other story has, so that its audit lines are told from theirs.
        let [a, b] = ["a", "b"].map(|name| format!("{name}-{}", namespace.name()));
        for (name, value) in [("alpha", "value-of-alpha"), ("beta", "value-of-beta")] {
            cluster.create_secret(&namespace.secret(name), value).await?;
        }
        let first = with_variable(task(&a, SLEEP), "SECRET", &namespace.secret("alpha"));
        let second = with_variable(task(&b, SLEEP), "SECRET", &namespace.secret("beta"));
        namespace.define("pair", &json!({"tasks": [first, second]})).await?;
        namespace.in_state("pair", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("pair").await?;
        let token_of_a = token(&namespace, &pod, &a).await?;
        let token_of_b = token(&namespace, &pod, &b).await?;

        // Each for its own: so it is not the tokens that are broken.
        assert_eq!(values(&resolve(&store, &token_of_a, &a).await?), ["value-of-alpha"]);
        assert_eq!(values(&resolve(&store, &token_of_b, &b).await?), ["value-of-beta"]);

        let uid = namespace.api::<Pod>().get(&pod).await?.uid().context("no uid")?;
        let bound = Some((pod.as_str(), uid.as_str()));
        let of_api_server = namespace.token(cluster.client(), "default", None, bound).await?;
        let strangers = [
            ("b's token for a's secrets", token_of_b.as_str()),
            ("the pod's token for the API server", of_api_server.as_str()),
            ("no token at all", "x"),
        ];
        for (who, stranger) in strangers {
            let answer = resolve(&store, stranger, &a).await?;
            assert_eq!((answer.status, code(&answer)), (401, "unauthenticated".into()), "{who}");
        }
        let nobody = json!({"nobody": {"container": a}});
        audited(&cluster, "refused tokens", strangers.len(), |line| {
            line["subject"] == nobody && line["decision"] == "denied" && line["event"] == "resolve"
        })
        .await?;

        let secret = format!("/secrets/v1/secret/default/{}", namespace.secret("alpha"));
        let read = store.ask("GET", &secret, Some(&token_of_a), &Value::Null).await?;
        assert_eq!(read.status, 401, "{}", read.text());
        let check = json!({"version": 1, "namespace": namespace.name(), "revision": "x"});
        let check = store.ask("POST", "/v1/check", Some(&token_of_a), &check).await?;
        assert_eq!(check.status, 401, "{}", check.text());
        let pods: Api<Pod> = Api::default_namespaced(cluster.client_with_token(&token_of_a).await?);
        let listed = pods.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(&listed, kube::Error::Api(status) if status.code == 401), "{listed}");
        anyhow::Ok(())
    });
}

#[test]
fn a_token_is_worth_nothing_from_the_moment_its_pod_is_deleted() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("gone").await?;
        let store = cluster.https("store").await?;
        let pod = running_web(&namespace).await?;
        let pods: Api<Pod> = namespace.api();
        let reviewed = token(&namespace, &pod, "web").await?;
        let fresh = namespace.kubelets_token(&pod, "watchword:web").await?;
        assert_eq!(values(&resolve(&store, &reviewed, "web").await?), ["value"]);

        // It lives on for its grace period; to the store it is gone.
        let patch = json!({"metadata": {"finalizers": [FINALIZER]}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        pods.delete(&pod, &DeleteParams::default()).await?;
        for token in [&reviewed, &fresh] {
            let answer = resolve(&store, token, "web").await?;
            assert_eq!((answer.status, code(&answer)), (403, "denied".into()));
            assert!(answer.text().contains("has ended or is being deleted"), "{}", answer.text());
        }
        denied(&cluster, &namespace, &pod, 2).await?;

        let patch = json!({"metadata": {"finalizers": null}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.ok();
        wait_for("the pod to be gone", LIMIT, async || match pods.get_opt(&pod).await? {
            None => anyhow::Ok(()),
            Some(_) => anyhow::bail!("it is there"),
        })
        .await?;
        for token in [&reviewed, &fresh] {
            let answer = resolve(&store, token, "web").await?;
            assert!(matches!(answer.status, 401 | 403), "{}", answer.text());
        }
        anyhow::Ok(())
    });
}

// --------------------------------------------------------------------------- edits and forgeries

#[test]
fn what_a_pod_and_its_workload_say_of_watchword_cannot_be_edited() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("edited").await?;
        let store = cluster.https("store").await?;
        let pod = running_web(&namespace).await?;
        let token = token(&namespace, &pod, "web").await?;
        let pods: Api<Pod> = namespace.api();
        let image =
            json!({"spec": {"containers": [{"name": "web", "image": images::SCRATCH_APP}]}});

        let cases = [
            (
                json!({"metadata": {"labels": {"watchword.dev/task-definition": "other"}}}),
                "labels and annotations watchword.dev/* of a pod cannot be changed",
            ),
            (
                json!({"metadata": {"labels": {"watchword.dev/inject": null}}}),
                "labels and annotations watchword.dev/* of a pod cannot be changed",
            ),
            (
                json!({"metadata": {"annotations": {"watchword.dev/revision": "other"}}}),
                "labels and annotations watchword.dev/* of a pod cannot be changed",
            ),
            (
                json!({"metadata": {"ownerReferences": null}}),
                "the owner of a task's pod cannot be changed",
            ),
            (image.clone(), "the image of a task's pod cannot be changed"),
        ];
        for (patch, words) in cases {
            let patched = pods.patch(&pod, &strategic(), &Patch::Strategic(&patch)).await;
            let refusal = patched.unwrap_err().to_string();
            assert!(refusal.contains(words), "{patch}: {refusal}");
        }
        let deployments: Api<Deployment> = namespace.api();
        for patch in [
            json!({"spec": {"template": image}}),
            json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}),
        ] {
            let patched = deployments.patch("web", &strategic(), &Patch::Strategic(&patch)).await;
            let refusal = patched.unwrap_err().to_string();
            let words = "the template of a task's workload cannot be changed";
            assert!(refusal.contains(words), "{patch}: {refusal}");
        }
        // What is not ours may be written on it, and moves nobody.
        let patch = json!({"metadata": {
            "labels": {"app": "bank"},
            "annotations": {"vault.example/role": "root", "WATCHWORD_REVISION": "other"},
        }});
        pods.patch(&pod, &strategic(), &Patch::Strategic(&patch)).await?;
        assert_eq!(values(&resolve(&store, &token, "web").await?), ["value"]);
        anyhow::Ok(())
    });
}

#[test]
fn an_adopted_pod_that_is_no_longer_selected_gets_nothing_more() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("unselected").await?;
        let store = cluster.https("store").await?;
        cluster.create_secret(&namespace.secret("db"), "value").await?;
        let web = json!({"name": "web", "command": {"environment": {"variables": []}}});
        let web = with_variable(web, "DB", &namespace.secret("db"));
        let adopt =
            json!({"selector": {"matchLabels": {"app": "web"}}, "serviceAccountName": "web"});
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}});
        namespace.apply(&account.to_string()).await?;
        namespace.define("adopter", &json!({"tasks": [web], "run": {"adopt": adopt}})).await?;
        let mut pod = forged("adopted", "web", "unused");
        pod["metadata"]["labels"] = json!({"app": "web", "watchword.dev/inject": "true"});
        pod["spec"]["volumes"] = json!([]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
        // The revision may not be known to the webhook yet.
        wait_for("the pod to be let in", LIMIT, async || namespace.apply(&pod.to_string()).await)
            .await?;
        namespace.pod_phase("adopted", "Running", LIMIT).await?;
        let token = token(&namespace, "adopted", "web").await?;
        assert_eq!(values(&resolve(&store, &token, "web").await?), ["value"]);

        let patch = json!({"metadata": {"labels": {"app": "bank"}}});
        namespace.api::<Pod>().patch("adopted", &strategic(), &Patch::Strategic(&patch)).await?;

        let answer = resolve(&store, &token, "web").await?;
        assert_eq!((answer.status, code(&answer)), (403, "denied".into()));
        assert!(answer.text().contains("does not select this pod"), "{}", answer.text());
        denied(&cluster, &namespace, "adopted", 1).await?;
        anyhow::Ok(())
    });
}

#[test]
fn pods_that_name_a_revision_without_being_its_definitions_are_refused() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("forged").await?;
        let store = cluster.https("store").await?;
        running_web(&namespace).await?;
        let revision = namespace.definition("web").await?.status.unwrap_or_default();
        let revision = revision.current_revision.context("no revision")?;
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}});
        namespace.apply(&account.to_string()).await?;
        let owners = namespace.api::<ReplicaSet>().list(&ListParams::default()).await?;
        let owner = owners.items.first().context("no ReplicaSet")?.name_any();

        // The right image, command, account and revision, and a token that a kubelet mounts.
        let bare = forged("bare", "default", &revision);
        let stranger = forged("stranger", "other", &revision);
        // Its uid is nobody's. The garbage collector removes such a pod; the finalizer keeps it.
        let mut child = forged("child", "default", &revision);
        child["metadata"]["finalizers"] = json!([FINALIZER]);
        child["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "controller": true,
            "uid": "00000000-0000-0000-0000-000000000000",
        }]);
        for pod in [&bare, &stranger, &child] {
            namespace.apply(&pod.to_string()).await?;
        }
        let token_of_child = wait_for("a token of the child", LIMIT, async || {
            namespace.kubelets_token("child", "watchword:web").await
        })
        .await?;
        let answer = resolve(&store, &token_of_child, "web").await?;
        assert_eq!((answer.status, code(&answer)), (403, "denied".into()), "{}", answer.text());
        denied(&cluster, &namespace, "child", 1).await?;
        let free = json!({"metadata": {"finalizers": null}});
        namespace.api::<Pod>().patch("child", &strategic(), &Patch::Merge(&free)).await?;

        for (pod, words) in [
            ("bare", "does not belong to the definition `web`"),
            ("stranger", "does not run under the service account of its definition"),
        ] {
            namespace.pod_phase(pod, "Running", LIMIT).await?;
            let token = namespace.exec(pod, None, &["cat", "/token/token"]).await?.success()?;
            let answer = resolve(&store, token.trim(), "web").await?;
            assert_eq!((answer.status, code(&answer)), (403, "denied".into()), "{pod}");
            assert!(answer.text().contains(words), "{pod}: {}", answer.text());
            denied(&cluster, &namespace, pod, 1).await?;
        }

        // With the labels too it would be injected, and once orphaned adopted by the definition's
        // ReplicaSet: so no other controller may make such a pod.
        let labels = json!({
            "app": "copy", "watchword.dev/inject": "true", "watchword.dev/task-definition": "web",
        });
        let spec = forged("unused", "default", &revision)["spec"].take();
        let copy = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "copy"},
            "spec": {
                "serviceName": "copy", "selector": {"matchLabels": {"app": "copy"}},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        });
        namespace.apply(&copy.to_string()).await?;
        let events: Api<Event> = namespace.api();
        let of_copy = ListParams::default().fields("involvedObject.name=copy,reason=FailedCreate");
        let message = wait_for("the refusal of the StatefulSet's pod", LIMIT, async || {
            let event = events.list(&of_copy).await?.items.pop();
            event.and_then(|event| event.message).context("no event yet")
        })
        .await?;
        assert!(
            message.contains("pods of a task definition are made by its workload"),
            "{message}"
        );
        let pods = ListParams::default().labels("app=copy");
        assert!(namespace.api::<Pod>().list(&pods).await?.items.is_empty());
        anyhow::Ok(())
    });
}

#[test]
fn nobody_but_the_controller_writes_task_revisions() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("revisions").await?;
        cluster.create_secret(&namespace.secret("db"), "value").await?;
        let web = with_variable(task("web", SLEEP), "DB", &namespace.secret("db"));
        let suspended = json!({"schedule": {"cron": "@yearly", "suspend": true}});
        namespace.define("web", &json!({"tasks": [web], "run": suspended})).await?;
        let genuine = wait_for("a revision", LIMIT, async || {
            namespace
                .api::<TaskRevision>()
                .list(&ListParams::default())
                .await?
                .items
                .pop()
                .context("none")
        })
        .await?;
        for (name, rules) in [
            ("apps", json!([{"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]}])),
            ("everything", json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])),
        ] {
            namespace.grant(name, &rules).await?;
        }
        namespace.bind("admin", "ClusterRole").await?;

        let by_rbac = "is forbidden: User";
        let by_policy = "only system:serviceaccount:watchword-system:watchword-controller may";
        for (user, words) in
            [("admin", by_rbac), ("apps", by_rbac), ("everything", by_policy), ("", by_policy)]
        {
            let client = match user {
                "" => cluster.client(),
                user => namespace.user(user).await?,
            };
            let revisions: Api<TaskRevision> = Api::namespaced(client, namespace.name());
            let mut forged = genuine.clone();
            forged.metadata =
                ObjectMeta { name: Some("web-forged".to_owned()), ..ObjectMeta::default() };
            forged.spec.id = "/bank/web".to_owned();
            let created = revisions.create(&PostParams::default(), &forged).await;
            let patch = json!({"metadata": {"ownerReferences": null}});
            let name = genuine.name_any();
            let patched = revisions.patch(&name, &strategic(), &Patch::Merge(&patch)).await;
            let deleted = revisions.delete(&name, &DeleteParams::default()).await;
            for (verb, refused) in
                [("create", created.err()), ("patch", patched.err()), ("delete", deleted.err())]
            {
                let refused = refused.map(|error| error.to_string()).unwrap_or_default();
                assert!(refused.contains(words), "{user} {verb}: {refused}");
            }
        }
        anyhow::Ok(())
    });
}

// -------------------------------------------------------------------------------------- spaces

#[test]
fn service_ids_of_other_namespaces_are_refused_at_admission() {
    run(async |cluster: Cluster| {
        let victim = cluster.namespace("victim").await?;
        let attacker = cluster.namespace("attacker").await?;
        let (v, a) = (victim.name(), attacker.name());
        let foreign = format!("does not belong to namespace `{a}`");
        let refusal = refused_id(&attacker, Some(&format!("/{v}/web"))).await?;
        assert!(refusal.contains("spec.id: ") && refusal.contains(&foreign), "{refusal}");
        // Only whole components count, and only canonical ids are ids.
        for id in [format!("/{a}2/web"), format!("/{a}/../{v}/web"), format!("//{a}"), "/".into()] {
            let refusal = refused_id(&attacker, Some(&id)).await?;
            assert!(refusal.contains("spec.id: "), "{id}: {refusal}");
        }
        assert_eq!(refused_id(&attacker, Some(&format!("/{a}/deep/web"))).await?, "");

        // An administrator gives the prefix that the attacker's namespace is called to the victim.
        let prefix = format!("/{a}");
        space(&attacker, a, &[v], &[&prefix], &json!({})).await?;
        refuses_id(&attacker, None, "which belongs to other namespaces").await?;
        allows_id(&victim, &format!("/{a}/web")).await?;

        // Two Spaces that overlap deny both sides, until the outer one lists the inner one.
        let (outer, inner) = (format!("{v}-outer"), format!("{v}-inner"));
        let (prefix, below) = (format!("/{v}"), format!("/{v}/below"));
        space(&victim, &outer, &[v], &[&prefix], &json!({})).await?;
        space(&victim, &inner, &[a], &[&below], &json!({})).await?;
        let id = format!("/{v}/below/web");
        for namespace in [&victim, &attacker] {
            refuses_id(namespace, Some(&id), "is claimed by two Spaces").await?;
        }
        allows_id(&victim, &format!("/{v}/web")).await?;
        space(&victim, &outer, &[v], &[&prefix], &json!({"children": [inner]})).await?;
        allows_id(&attacker, &id).await?;
        refuses_id(&victim, Some(&id), "which belongs to other namespaces").await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_space_that_takes_a_prefix_away_ends_what_running_pods_may_have() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("evicted").await?;
        let store = cluster.https("store").await?;
        let pod = running_web(&namespace).await?;
        let token = token(&namespace, &pod, "web").await?;
        assert_eq!(values(&resolve(&store, &token, "web").await?), ["value"]);

        let name = namespace.name();
        space(&namespace, name, &["somebody-else"], &[&format!("/{name}")], &json!({})).await?;

        let answer = wait_for("a denial", LIMIT, async || {
            let answer = resolve(&store, &token, "web").await?;
            ensure!(answer.status == 403, "{}", answer.text().len());
            Ok(answer)
        })
        .await?;
        assert!(answer.text().contains("which belongs to other namespaces"), "{}", answer.text());
        denied(&cluster, &namespace, &pod, 1).await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_denial_does_not_tell_whether_the_secret_exists() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("nosy").await?;
        let bank = cluster.namespace("bank").await?;
        cluster.create_secret(&bank.secret("present"), "gold").await?;
        let [there, missing] = ["present", "absent"].map(|name| bank.secret(name));
        let first = with_variable(task("first", SLEEP), "GOLD", &there);
        let second = with_variable(task("second", SLEEP), "GOLD", &missing);
        namespace.define("nosy", &json!({"tasks": [first, second]})).await?;

        let labels = "watchword.dev/task-definition=nosy";
        let of_first = launch_failure(&namespace, labels, "first").await?;
        let of_second = launch_failure(&namespace, labels, "second").await?;
        assert!(of_first.contains("may not read secret"), "{of_first}");
        assert_eq!(of_first.replace(&there, "X"), of_second.replace(&missing, "X"));
        for path in [&there, &missing] {
            audited(&cluster, path, 1, |line| {
                line["path"] == **path && line["decision"] == "denied" && line["event"] == "resolve"
            })
            .await?;
        }
        let failed = namespace.in_state("nosy", "TASK_FAILED").await?;
        let references = failed.status.unwrap_or_default().references;
        let message_on = |name: &str| {
            let found = references.iter().find(|one| one.name == name);
            found.and_then(|one| one.message.clone()).unwrap_or_default().replace(name, "X")
        };
        assert!(message_on(&there).contains("may not read secret"), "{references:?}");
        assert_eq!(message_on(&there), message_on(&missing));
        anyhow::Ok(())
    });
}

#[test]
fn a_resolver_that_lists_no_namespace_is_as_good_as_none() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("resolvers").await?;
        cluster.create_secret(&namespace.secret("db"), "value").await?;
        let nobodys = format!("nobodys-{}", namespace.name());
        let spec = json!({"namespaces": [], "store": {}});
        apply_owned(&namespace, "SecretResolver", &nobodys, &spec).await?;
        let web = |name| with_variable(task(name, SLEEP), "DB", &namespace.secret("db"));
        let none = format!("none-{}", namespace.name());
        for (name, resolver) in [("listed", &nobodys), ("absent", &none)] {
            namespace.define(name, &json!({"tasks": [web(name)], "resolver": resolver})).await?;
        }

        let message = async |name: &str| {
            launch_failure(&namespace, &format!("watchword.dev/task-definition={name}"), name).await
        };
        let (listed, absent) = (message("listed").await?, message("absent").await?);
        assert!(listed.contains("there is no SecretResolver"), "{listed}");
        assert_eq!(listed.replace(&nobodys, "X"), absent.replace(&none, "X"));
        audited(&cluster, "two denials", 2, |line| {
            line["subject"]["container"]["namespace"] == namespace.name()
                && line["decision"] == "denied"
        })
        .await?;
        anyhow::Ok(())
    });
}

#[test]
fn inline_values_work_only_as_long_as_a_space_allows_them() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("inline").await?;
        let store = cluster.https("store").await?;
        // "in the open" in base64.
        let secret = json!({"type": "VALUE", "value": {"data": "aW4gdGhlIG9wZW4="}});
        let mut web = task("web", SLEEP);
        web["command"]["environment"]["variables"] =
            json!([{"name": "OPEN", "type": "SECRET", "secret": secret}]);
        let spec = json!({"tasks": [web]});
        let refusal = namespace.define("web", &spec).await.unwrap_err();
        let words = "an inline secret is plain text for whoever reads this object";
        assert!(format!("{refusal:#}").contains(words), "{refusal:#}");

        let name = namespace.name();
        let prefix = format!("/{name}");
        space(&namespace, name, &[name], &[&prefix], &json!({"inlineValues": "Allow"})).await?;
        wait_for("the definition to be let in", LIMIT, async || {
            namespace.define("web", &spec).await
        })
        .await?;
        namespace.in_state("web", "TASK_RUNNING").await?;
        let pod = namespace.running_pod("web").await?;
        let token = token(&namespace, &pod, "web").await?;
        assert_eq!(values(&resolve(&store, &token, "web").await?), ["in the open"]);

        space(&namespace, name, &[name], &[&prefix], &json!({"inlineValues": "Deny"})).await?;
        let answer = wait_for("a denial", LIMIT, async || {
            let answer = resolve(&store, &token, "web").await?;
            ensure!(answer.status == 403, "{}", answer.status);
            Ok(answer)
        })
        .await?;
        assert!(answer.text().contains("inline secrets are refused"), "{}", answer.text());
        denied(&cluster, &namespace, &pod, 1).await?;
        anyhow::Ok(())
    });
}

// ------------------------------------------------------------------------------ broken requests

#[test]
fn requests_that_are_too_large_or_make_no_sense_are_refused_at_once() {
    run(async |cluster: Cluster| {
        let (store, webhook) = (cluster.https("store").await?, cluster.https("webhook").await?);
        let valid = r#"{"version":1,"container":"web","want":["env"]}"#;
        let padded = |bytes: usize| [valid.as_bytes(), &vec![b' '; bytes]].concat();
        let deep = "[".repeat(50_000).into_bytes();
        let mut rows: Vec<(&Https, &str, &str, Vec<u8>, u16)> = vec![
            (&store, "POST", "/v1/resolve", padded(0), 401),
            (&store, "POST", "/v1/resolve", padded(64 << 10), 413),
            (&store, "POST", "/v1/resolve", padded(8 << 20), 413),
            (&store, "POST", "/v1/resolve", Vec::new(), 400),
            (&store, "POST", "/v1/resolve", valid[..20].into(), 400),
            (&store, "POST", "/v1/resolve", deep.clone(), 400),
            (&store, "POST", "/v1/resolve", b"\xff\xfe\0".to_vec(), 400),
            (&store, "POST", "/v1/check", padded(64 << 10), 413),
            (&store, "GET", "/v1/resolve", Vec::new(), 405),
            (&store, "POST", "/v1/resolve/", padded(0), 404),
            (&store, "POST", "/v1/../v1/resolve", padded(0), 404),
            (&store, "POST", "/v2/resolve", padded(0), 404),
        ];
        for text in [
            r#"{"version":2,"container":"web","want":["env"]}"#,
            r#"{"version":1,"container":"web","want":["env"],"pod":"other"}"#,
            r#"{"version":1,"container":"web","want":["everything"]}"#,
            r#"{"version":1,"want":["env"]}"#,
            r#"{"version":"1","container":"web","want":["env"]}"#,
            "null",
        ] {
            rows.push((&store, "POST", "/v1/resolve", text.into(), 400));
        }
        let review = |version: &str| {
            json!({"apiVersion": version, "kind": "AdmissionReview", "request": {"uid": "u"}})
                .to_string()
                .into_bytes()
        };
        for path in ["/mutate/pods", "/validate/taskdefinitions"] {
            rows.push((&webhook, "POST", path, vec![b' '; (3 << 20) + 1], 413));
            rows.push((&webhook, "POST", path, b"{".to_vec(), 400));
            rows.push((&webhook, "POST", path, deep.clone(), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1beta1"), 400));
            rows.push((&webhook, "POST", path, review("admission.k8s.io/v1"), 200));
        }
        let json = ["Content-Type: application/json".to_owned()];
        for (server, method, path, body, status) in rows {
            let started = Instant::now();
            let answer = server.send(method, path, &json, &body).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let request = format!("{method} {path} with {} bytes: {start}", body.len());
            let answer = answer.with_context(|| request.clone())?;
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
            assert!(started.elapsed() < Duration::from_secs(10), "{request}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn clients_that_dawdle_are_cut_off() {
    run(async |cluster: Cluster| {
        let (store, webhook) = (cluster.https("store").await?, cluster.https("webhook").await?);
        let head = "POST /v1/resolve HTTP/1.1\r\nHost: x\r\n";
        let body = format!("{head}Content-Length: 40\r\n\r\n{{\"version\":");
        let silent = async |server: &Https| {
            let mut stream = server.connect().await?;
            let mut rest = Vec::new();
            // Whether it ends in order or with a reset: it ends.
            stream.read_to_end(&mut rest).await.ok();
            anyhow::Ok(rest)
        };
        let halting = async |text: &str| {
            let mut stream = store.handshake().await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            anyhow::Ok(rest)
        };
        let all = async {
            tokio::try_join!(
                silent(&store),
                silent(&webhook),
                halting(""),
                halting(head),
                halting(&body)
            )
        };

        // Limits of ten seconds each, one after another at most.
        let ends = tokio::time::timeout(Duration::from_secs(45), all).await;

        let (_, _, _, _, body) = ends.context("a slow client is still connected")??;
        let answer = String::from_utf8_lossy(&body).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        anyhow::Ok(())
    });
}

// ------------------------------------------------------------------------------ the Secrets API

#[test]
fn the_secrets_api_gives_each_subject_what_rbac_grants_on_the_parsed_path() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("api").await?;
        let other = cluster.namespace("neighbour").await?;
        let store = cluster.https("store").await?;
        for secret in ["shop/db", "shop/deep/key", "shop2/db", "app/db", "app/other"] {
            cluster.create_secret(&namespace.secret(secret), "value").await?;
        }
        cluster.create_secret(&other.secret("db"), "value").await?;
        let (n, o) = (namespace.name().to_owned(), other.name().to_owned());

        // Accounts are called after what they are granted.
        let url = |path: &str| format!("/secrets/v1/secret/default/{path}");
        let shop = url(&format!("{n}/shop/*"));
        for (name, urls, verbs) in [
            ("reader", json!([shop]), json!(["read", "list"])),
            ("writer", json!([shop]), json!(["create", "update"])),
            ("getter", json!(["*"]), json!(["get", "post", "put"])),
        ] {
            let rules = json!([{"nonResourceURLs": urls, "verbs": verbs}]);
            grant_urls(&namespace, name, &rules).await?;
        }
        let secrets = |names: Value, verbs: Value| {
            json!([{"apiGroups": ["store.watchword.dev"], "resources": ["secrets"],
                    "resourceNames": names, "verbs": verbs}])
        };
        let exact = secrets(json!([format!("{n}/app/db")]), json!(["read"]));
        let folder = secrets(json!([format!("{n}/app/*")]), json!(["read", "list"]));
        let greedy = secrets(json!([format!("{o}/db"), format!("{o}/*")]), json!(["*"]));
        let kubernetes = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]);
        for (name, rules) in
            [("exact", exact), ("folder", folder), ("greedy", greedy), ("kubernetes", kubernetes)]
        {
            namespace.account(name).await?;
            namespace.grant(name, &rules).await?;
        }
        for name in ["admin", "edit", "view"] {
            namespace.account(name).await?;
            namespace.bind(name, "ClusterRole").await?;
        }
        namespace.account("nobody").await?;

        let upper = n.to_uppercase();
        let rows: Vec<(&str, &str, String, u16)> = vec![
            // subject, method, path below /secrets/v1/secret/default/, status
            ("nobody", "GET", format!("{n}/shop/db"), 403),
            ("nobody", "GET", format!("{n}/shop/missing"), 403),
            ("nobody", "GET", "?list=true".into(), 403),
            ("reader", "GET", format!("{n}/shop/db"), 200),
            ("reader", "GET", format!("{n}/shop/deep/key"), 200),
            ("reader", "GET", format!("{n}/shop/?list=true"), 200),
            ("reader", "GET", format!("{n}/shop?list=true"), 200),
            ("reader", "GET", format!("{n}/?list=true"), 403),
            ("reader", "GET", format!("{n}/shop/missing"), 404),
            ("reader", "GET", format!("{n}/shop%2Fdb"), 200),
            ("reader", "GET", format!("{n}/shop2/db"), 403),
            ("reader", "GET", format!("{n}/app/db"), 403),
            ("reader", "GET", format!("{n}/Shop/db"), 403),
            ("reader", "GET", format!("{upper}/shop/db"), 403),
            ("reader", "PUT", format!("{n}/shop/new"), 403),
            ("reader", "PATCH", format!("{n}/shop/db"), 403),
            ("reader", "DELETE", format!("{n}/shop/db"), 403),
            ("reader", "POST", format!("{n}/shop/db"), 405),
            // Texts that a prefix would let through.
            ("reader", "GET", format!("{n}/shop/../app/db"), 400),
            ("reader", "GET", format!("{n}/shop/%2e%2e/app/db"), 400),
            ("reader", "GET", format!("{n}/shop/%2E%2E%2Fapp%2Fdb"), 400),
            ("reader", "GET", format!("{n}/shop/./db"), 400),
            ("reader", "GET", format!("{n}/shop//db"), 400),
            ("reader", "GET", format!("/{n}/shop/db"), 400),
            ("reader", "GET", format!("{n}/shop/db/"), 400),
            ("reader", "GET", format!("{n}/shop%252Fdb"), 400),
            ("reader", "GET", format!("{n}/shop/db%00"), 400),
            ("reader", "GET", format!("{n}/shop/%ff"), 400),
            ("reader", "GET", format!("{n}/shop/db;x=1"), 400),
            ("reader", "GET", format!("{n}/shop/*"), 400),
            ("writer", "GET", format!("{n}/shop/db"), 403),
            ("writer", "GET", format!("{n}/shop/?list=true"), 403),
            ("writer", "PUT", format!("{n}/shop/written"), 201),
            ("writer", "PUT", format!("{n}/shop/db"), 409),
            ("writer", "PATCH", format!("{n}/shop/db"), 204),
            ("writer", "DELETE", format!("{n}/shop/db"), 403),
            // A broad grant on Kubernetes' own verbs reads nothing.
            ("getter", "GET", format!("{n}/shop/db"), 403),
            ("getter", "PUT", format!("{n}/shop/new"), 403),
            ("kubernetes", "GET", format!("{n}/app/db"), 403),
            // A namespace's Role counts for the paths of its space only.
            ("exact", "GET", format!("{n}/app/db"), 200),
            ("exact", "GET", format!("{n}/app/other"), 403),
            ("exact", "PATCH", format!("{n}/app/db"), 403),
            ("folder", "GET", format!("{n}/app/other"), 200),
            ("folder", "GET", format!("{n}/app/?list=true"), 200),
            ("folder", "GET", format!("{n}/shop/db"), 403),
            ("greedy", "GET", format!("{o}/db"), 403),
            ("greedy", "GET", format!("{o}/?list=true"), 403),
            ("view", "GET", format!("{n}/?list=true"), 403),
            ("view", "GET", format!("{n}/app/db"), 403),
            ("edit", "GET", format!("{n}/?list=true"), 200),
            ("edit", "GET", format!("{n}/app/db"), 403),
            ("edit", "PUT", format!("{n}/edited"), 201),
            ("edit", "PUT", format!("{o}/edited"), 403),
            ("admin", "GET", format!("{n}/app/db"), 200),
            ("admin", "DELETE", format!("{n}/app/db"), 204),
            ("admin", "GET", format!("{o}/db"), 403),
            ("admin", "DELETE", format!("{o}/db"), 403),
            ("admin", "GET", "?list=true".into(), 403),
        ];
        let mut tokens = BTreeMap::new();
        for (subject, method, path, status) in rows {
            if !tokens.contains_key(subject) {
                let token = namespace.token(cluster.client(), subject, None, None).await?;
                tokens.insert(subject, token);
            }
            let body = match method {
                "PUT" | "PATCH" => json!({"value": "written"}),
                _ => Value::Null,
            };
            let token = tokens.get(subject).map(String::as_str);
            let answer = store.ask(method, &url(&path), token, &body).await?;
            let row = format!("{subject} {method} {path}: {}", answer.text());
            assert_eq!(answer.status, status, "{row}");
            if status != 200 {
                assert!(!answer.text().contains("\"value\""), "{row}");
            }
        }
        // Every denial is in the log, with who and what.
        let user =
            |name: &str| json!({"user": {"name": format!("system:serviceaccount:{n}:{name}")}});
        for (subject, event, path) in [
            ("nobody", "read", format!("{n}/shop/missing")),
            ("greedy", "read", format!("{o}/db")),
            ("admin", "delete", format!("{o}/db")),
            ("edit", "create", format!("{o}/edited")),
        ] {
            audited(&cluster, &format!("{subject} {event} {path}"), 1, |line| {
                line["subject"] == user(subject)
                    && line["event"] == event
                    && line["path"] == path
                    && line["decision"] == "denied"
            })
            .await?;
        }
        let unknown = store.ask("GET", &url("x/y"), Some("not.a.token"), &Value::Null).await?;
        assert_eq!(unknown.status, 401, "{}", unknown.text());
        let nobody = store.ask("GET", &url("x/y"), None, &Value::Null).await?;
        assert_eq!(nobody.status, 401, "{}", nobody.text());
        anyhow::Ok(())
    });
}

// -------------------------------------------------------------------------------------- helpers

/// Asks the store for the variables of a container.
async fn resolve(store: &Https, token: &str, container: &str) -> anyhow::Result<Answer> {
    let request = json!({"version": 1, "container": container, "want": ["env"]});
    store.ask("POST", "/v1/resolve", Some(token), &request).await
}

/// The values of a resolve answer, decoded; empty if it is a refusal.
fn values(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let decode = |value: &Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    json["env"].as_array().into_iter().flatten().map(|one| decode(&one["value"])).collect()
}

fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// The token that is mounted into a container.
async fn token(namespace: &Namespace, pod: &str, container: &str) -> anyhow::Result<String> {
    let cat = ["cat", "/var/run/watchword/token"];
    let read = namespace.exec(pod, Some(container), &cat).await?.success()?;
    Ok(read.trim().to_owned())
}

/// A definition `web` with one secret variable; its pod, once it runs.
async fn running_web(namespace: &Namespace) -> anyhow::Result<String> {
    namespace.cluster().create_secret(&namespace.secret("db"), "value").await?;
    let web = with_variable(task("web", SLEEP), "DB", &namespace.secret("db"));
    namespace.define("web", &json!({"tasks": [web]})).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    namespace.running_pod("web").await
}

/// A pod that looks like one of `web`, made by a tenant: no label, so no webhook looks at it.
fn forged(name: &str, account: &str, revision: &str) -> Value {
    let token = json!({"path": "token", "audience": "watchword:web", "expirationSeconds": 600});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "serviceAccountName": account,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": images::BUSYBOX, "command": ["/bin/sh", "-c", SLEEP],
                "env": [{"name": "WATCHWORD_REVISION", "value": revision}],
                "volumeMounts": [{"name": "token", "mountPath": "/token"}],
            }],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}],
        },
    })
}

/// Waits until a container of the pod with these labels has ended with a message.
async fn launch_failure(
    namespace: &Namespace,
    labels: &str,
    container: &str,
) -> anyhow::Result<String> {
    let pods: Api<Pod> = namespace.api();
    wait_for(&format!("container `{container}` to fail"), LIMIT, async || {
        let list = pods.list(&ListParams::default().labels(labels)).await?;
        let statuses = list.items.into_iter().filter_map(|pod| pod.status);
        let ended = statuses
            .flat_map(|status| status.container_statuses.unwrap_or_default())
            .filter(|status| status.name == container)
            .flat_map(|status| [status.state, status.last_state])
            .find_map(|state| state?.terminated)
            .context("it has not ended")?;
        ensure!(ended.exit_code == 78, "it ended with {}", ended.exit_code);
        ended.message.context("no message")
    })
    .await
}

/// Waits until the audit log has at least `count` such lines.
async fn audited(
    cluster: &Cluster,
    what: &str,
    count: usize,
    is_one: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    wait_for(&format!("audit lines on {what}"), LIMIT, async || {
        let lines = cluster.audit().await?;
        let found = lines.iter().filter(|line| is_one(line)).count();
        ensure!(found >= count, "{found} of {} lines", lines.len());
        Ok(())
    })
    .await
}

/// Waits until the audit log says at least `count` times that a pod was denied, and why.
async fn denied(
    cluster: &Cluster,
    namespace: &Namespace,
    pod: &str,
    count: usize,
) -> anyhow::Result<()> {
    audited(cluster, &format!("pod `{pod}`"), count, |line| {
        let who = &line["subject"]["container"];
        who["namespace"] == namespace.name()
            && who["pod"] == pod
            && line["event"] == "resolve"
            && line["decision"] == "denied"
            && line["cause"].is_string()
    })
    .await
}

/// What a definition with this id, or its default one, is refused with; empty if it is let in.
async fn refused_id(namespace: &Namespace, id: Option<&str>) -> anyhow::Result<String> {
    let definition = json!({
        "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition",
        "metadata": {"name": "web", "namespace": namespace.name()},
        "spec": {"id": id, "tasks": [task("web", SLEEP)]},
    });
    let arguments = ["create", "--dry-run=server", "--filename=-"];
    let output = namespace.cluster().kubectl_with(&arguments, &definition.to_string()).await?;
    Ok(match output.status.success() {
        true => String::new(),
        false => String::from_utf8(output.stderr)?,
    })
}

/// Waits until an id is refused in these words: the webhook hears of a Space by a watch.
async fn refuses_id(namespace: &Namespace, id: Option<&str>, words: &str) -> anyhow::Result<()> {
    wait_for(&format!("{id:?} to be refused"), LIMIT, async || {
        let refusal = refused_id(namespace, id).await?;
        ensure!(refusal.contains(words), "{refusal:?}");
        Ok(())
    })
    .await
}

async fn allows_id(namespace: &Namespace, id: &str) -> anyhow::Result<()> {
    wait_for(&format!("{id} to be allowed"), LIMIT, async || {
        let refusal = refused_id(namespace, Some(id)).await?;
        ensure!(refusal.is_empty(), "{refusal}");
        Ok(())
    })
    .await
}

async fn space(
    namespace: &Namespace,
    name: &str,
    namespaces: &[&str],
    prefixes: &[&str],
    more: &Value,
) -> anyhow::Result<()> {
    let mut spec = json!({"namespaces": namespaces, "prefixes": prefixes});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    apply_owned(namespace, "Space", name, &spec).await
}

/// Applies a cluster-scoped object that goes when the namespace goes.
async fn apply_owned(
    namespace: &Namespace,
    kind: &str,
    name: &str,
    spec: &Value,
) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": "watchword.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "ownerReferences": [owner(namespace).await?]}, "spec": spec,
    });
    namespace.cluster().apply(&object.to_string()).await.map(drop)
}

async fn owner(namespace: &Namespace) -> anyhow::Result<Value> {
    let all: Api<NamespaceObject> = Api::all(namespace.cluster().client());
    let uid = all.get(namespace.name()).await?.uid();
    Ok(json!({"apiVersion": "v1", "kind": "Namespace", "name": namespace.name(), "uid": uid}))
}

/// Gives a new service account rules on URLs, which hold in the whole cluster.
async fn grant_urls(namespace: &Namespace, name: &str, rules: &Value) -> anyhow::Result<()> {
    namespace.account(name).await?;
    let role = format!("{name}-{}", namespace.name());
    let metadata = json!({"name": role, "ownerReferences": [owner(namespace).await?]});
    let api_version = "rbac.authorization.k8s.io/v1";
    for object in [
        json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": metadata,
               "rules": rules}),
        json!({"apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": metadata,
               "subjects": namespace.subjects(name),
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                           "name": role}}),
    ] {
        namespace.cluster().apply(&object.to_string()).await?;
    }
    Ok(())
}

fn strategic() -> PatchParams {
    PatchParams::default()
}

const FINALIZER: &str = "e2e.watchword.dev/kept";
const SLEEP: &str = "exec sleep 600";
