//! Edited and forged pods, workloads and revisions: what is refused when it is written, and what the
//! store gives nothing for.

use anyhow::Context;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use watchword_crds::TaskRevision;
use watchword_e2e::cluster::Gate;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, images, run, wait_for};

use super::support::*;

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
        let owner = owners.items.first().context("no ReplicaSet")?;
        let (owner, uid) = (owner.name_any(), owner.uid().context("no uid")?);

        // The right image, command, account and revision, and a token that a kubelet mounts.
        let bare = forged("bare", "default", &revision);
        let stranger = forged("stranger", "other", &revision);
        // An owner of the right name, whose uid is nobody's.
        let mut child = forged("child", "default", &revision);
        child["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "controller": true,
            "uid": "00000000-0000-0000-0000-000000000000",
        }]);
        // The right owner, by uid, and another account.
        let mut impostor = forged("impostor", "other", &revision);
        impostor["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "controller": true,
            "uid": uid,
        }]);
        // It would remove the child before that has asked.
        let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
        let removals = json!({"apiGroups": [""], "operations": ["DELETE"], "resources": ["pods"]});
        let gate = Gate::close(&namespace, collector, removals).await?;
        for pod in [&bare, &stranger, &child, &impostor] {
            namespace.apply(&pod.to_string()).await?;
        }

        for (pod, words) in [
            ("child", "the owner of its Pod is another ReplicaSet"),
            ("bare", "does not belong to the definition `web`"),
            ("stranger", "does not run under the service account of its definition"),
            ("impostor", "does not run under the service account of its definition"),
        ] {
            namespace.pod_phase(pod, "Running", LIMIT).await?;
            let token = namespace.printed(pod, None, &["cat", "/token/token"]).await?;
            let answer = resolve(&store, token.trim(), "web").await?;
            assert_eq!((answer.status, code(&answer)), (403, "denied".into()), "{pod}");
            assert!(answer.text().contains(words), "{pod}: {}", answer.text());
            denied(&cluster, &namespace, pod, 1).await?;
        }
        gate.open().await?;

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
        // A webhook that is late is another reason.
        wait_for("the refusal of the StatefulSet's pod", LIMIT, async || {
            let events = events.list(&of_copy).await?.items;
            let messages: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
            let words = "pods of a task definition are made by its workload";
            let is_told = messages.iter().any(|message| message.contains(words));
            is_told.then_some(()).with_context(|| format!("{messages:?}"))
        })
        .await?;
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
