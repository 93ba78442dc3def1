//! What tenants, cluster administrators and schedulers may not do.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::sealed_record::SealedRecord;
use watchword_crds::{TaskDefinition, names};
use watchword_e2e::watchword::{LIMIT, task};
use watchword_e2e::{Cluster, images, run, wait_for};
use watchword_store::ObjectName;

use super::{create, running_web};

#[test]
fn only_kubelets_get_tokens_for_an_audience_of_watchword() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("audience").await?;
        let web = running_web(&namespace).await?;
        let uid = namespace.api::<Pod>().get(&web).await?.uid().context("no uid")?;
        for role in ["edit", "admin"] {
            namespace.bind(role, "ClusterRole").await?;
        }
        let audiences = ["watchword", "watchword:web", "watchword:", "watchword-check"];
        for (who, client) in [
            ("edit", namespace.user("edit").await?),
            ("admin", namespace.user("admin").await?),
            ("cluster-admin", cluster.client()),
        ] {
            for audience in audiences {
                for bound in [None, Some((web.as_str(), uid.as_str()))] {
                    let made = namespace.token(client.clone(), "default", Some(audience), bound);
                    let refusal = made.await.err().map(|error| error.to_string());
                    let refusal = refusal.with_context(|| format!("{who} has {audience}"))?;
                    let words = "only a kubelet may request a token for the audience";
                    assert!(refusal.contains(words), "{who} {audience}: {refusal}");
                }
            }
            // Other audiences are none of Watchword's business.
            for audience in [None, Some("vault"), Some("xwatchword:web")] {
                namespace.token(client.clone(), "default", audience, None).await?;
            }
        }
        namespace.kubelets_token(&web, "watchword:web").await?;
        anyhow::Ok(())
    });
}

#[test]
fn whoever_binds_a_pod_to_a_node_says_nothing_of_watchword() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("binding").await?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"},
            "spec": {"schedulerName": "nobody",
                     "containers": [{"name": "plain", "image": images::BUSYBOX}]},
        });
        namespace.apply(&pod.to_string()).await?;
        let nodes: Api<Node> = Api::all(cluster.client());
        let node = nodes.list(&ListParams::default()).await?.items.remove(0).name_any();
        let bind = async |metadata: Value| {
            let mut binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": metadata,
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            binding["metadata"]["name"] = json!("plain");
            let path = format!("/api/v1/namespaces/{}/pods/plain/binding", namespace.name());
            let request = http::Request::post(path).body(serde_json::to_vec(&binding)?)?;
            let answer = cluster.client().request::<Value>(request).await;
            anyhow::Ok(answer.err().map(|error| error.to_string()).unwrap_or_default())
        };
        for metadata in [
            json!({"labels": {"watchword.dev/task-definition": "web"}}),
            json!({"annotations": {"watchword.dev/note": "x"}}),
        ] {
            let refusal = bind(metadata.clone()).await?;
            let words = "a Binding cannot set labels and annotations watchword.dev/*";
            assert!(refusal.contains(words), "{metadata}: {refusal:?}");
        }

        assert_eq!(bind(json!({"annotations": {"example.org/note": "x"}})).await?, "");
        anyhow::Ok(())
    });
}

#[test]
fn nobody_changes_what_a_pod_says_of_watchword_not_even_through_its_status() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("metadata").await?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "plain", "annotations": {"watchword.dev/note": "first"}},
            "spec": {"nodeSelector": {"none": "such"},
                     "containers": [{"name": "plain", "image": images::BUSYBOX}]},
        });
        namespace.apply(&pod.to_string()).await?;
        let status = json!([{"apiGroups": [""], "resources": ["pods", "pods/status"],
                             "verbs": ["get", "patch", "update"]}]);
        namespace.grant("status", &status).await?;
        let pods: Api<Pod> = Api::namespaced(namespace.user("status").await?, namespace.name());
        let words = "labels and annotations watchword.dev/* of a pod cannot be changed";
        for metadata in [
            json!({"labels": {"watchword.dev/inject": "true"}}),
            json!({"labels": {"watchword.dev/anything": "x"}}),
            json!({"annotations": {"watchword.dev/note": "second"}}),
            json!({"annotations": {"watchword.dev/note": null}}),
        ] {
            let patch = Patch::Merge(json!({"metadata": metadata}));
            let parameters = PatchParams::default();
            let at_pod = pods.patch("plain", &parameters, &patch).await.err();
            let at_status = pods.patch_status("plain", &parameters, &patch).await.err();
            for refusal in [at_pod, at_status] {
                let refusal = refusal.map(|error| error.to_string()).unwrap_or_default();
                assert!(refusal.contains(words), "{metadata}: {refusal:?}");
            }
        }
        let patch = json!({"metadata": {"labels": {"app": "x"}, "annotations": {"note": "y"}}});
        pods.patch("plain", &PatchParams::default(), &Patch::Merge(&patch)).await?;
        anyhow::Ok(())
    });
}

#[test]
fn tenants_make_no_pods_and_no_workloads_of_a_task_definition() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("workloads").await?;
        namespace.bind("admin", "ClusterRole").await?;
        let ours = json!({"app": "x", "watchword.dev/task-definition": "web"});
        let plain = json!({"app": "x"});
        let spec = json!({"containers": [{"name": "web", "image": images::BUSYBOX}],
                          "restartPolicy": "Never"});
        let always = json!({"containers": [{"name": "web", "image": images::BUSYBOX}]});
        let selector = json!({"matchLabels": plain});
        let pod = |labels: &Value, spec: &Value| json!({"metadata": {"labels": labels, "name": "forged"}, "spec": spec});
        let template =
            |labels: &Value, spec: &Value| json!({"metadata": {"labels": labels}, "spec": spec});
        let job = |labels: &Value| json!({"template": template(labels, &spec)});
        let workload = |labels: &Value, spec: Value| json!({"metadata": {"name": "forged", "labels": labels}, "spec": spec});
        let replicas =
            |labels: &Value| json!({"selector": selector, "template": template(labels, &always)});
        let cron = |labels: &Value, inside: &Value| {
            json!({"schedule": "@yearly", "jobTemplate": {
                "metadata": {"labels": labels}, "spec": job(inside)}})
        };
        let only_watchword = "workloads of a task definition are made by Watchword only";
        for (who, client) in
            [("admin", namespace.user("admin").await?), ("cluster-admin", cluster.client())]
        {
            let refusals = [
                create::<Pod>(&client, &namespace, pod(&ours, &spec)).await?,
                create::<Deployment>(&client, &namespace, workload(&ours, replicas(&plain)))
                    .await?,
                create::<Deployment>(&client, &namespace, workload(&plain, replicas(&ours)))
                    .await?,
                create::<ReplicaSet>(&client, &namespace, workload(&ours, replicas(&plain)))
                    .await?,
                create::<ReplicaSet>(&client, &namespace, workload(&plain, replicas(&ours)))
                    .await?,
                create::<Job>(&client, &namespace, workload(&ours, job(&plain))).await?,
                create::<Job>(&client, &namespace, workload(&plain, job(&ours))).await?,
                create::<CronJob>(&client, &namespace, workload(&ours, cron(&plain, &plain)))
                    .await?,
                create::<CronJob>(&client, &namespace, workload(&plain, cron(&ours, &plain)))
                    .await?,
                create::<CronJob>(&client, &namespace, workload(&plain, cron(&plain, &ours)))
                    .await?,
            ];
            assert!(refusals[0].contains("made by its workload only"), "{who}: {}", refusals[0]);
            for (index, refusal) in refusals.iter().enumerate().skip(1) {
                assert!(refusal.contains(only_watchword), "{who} {index}: {refusal:?}");
            }
            // Without our label all of that is theirs to make.
            let made =
                create::<CronJob>(&client, &namespace, workload(&plain, cron(&plain, &plain)));
            assert_eq!(made.await?, "", "{who}");
            let made =
                create::<Deployment>(&client, &namespace, workload(&plain, replicas(&plain)));
            assert_eq!(made.await?, "", "{who}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn a_definitions_workload_can_be_scaled_and_labelled_but_not_rewritten() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("owned").await?;
        namespace.bind("admin", "ClusterRole").await?;
        let sleep = |name| task(name, "exec sleep 600");
        let idle = json!({"service": {"instances": 0}});
        namespace.define("web", &json!({"tasks": [sleep("web")], "run": idle})).await?;
        let suspended = json!({"schedule": {"cron": "@yearly", "suspend": true}});
        namespace.define("night", &json!({"tasks": [sleep("night")], "run": suspended})).await?;
        for kind in ["deployment/web", "replicaset", "cronjob/night"] {
            wait_for(kind, LIMIT, async || {
                let found = namespace.kubectl(&["get", kind, "--output=name"]).await?;
                ensure!(found.status.success() && !found.stdout.is_empty(), "not there");
                Ok(())
            })
            .await?;
        }
        let owned = "the template of a task's workload cannot be changed";
        let made = "workloads of a task definition are made by Watchword only";
        let user = format!("--as=admin@{}", namespace.name());
        let busybox = format!("*={}", images::SCRATCH_APP);
        let label = r#"{"metadata":{"labels":{"watchword.dev/task-definition":null}}}"#;
        let owner = r#"{"metadata":{"ownerReferences":null}}"#;
        // One may be edited as well as the Deployment that made it.
        let set = wait_for("the ReplicaSet", LIMIT, async || {
            let of_web = ListParams::default().labels("watchword.dev/task-definition=web");
            let sets = namespace.api::<ReplicaSet>().list(&of_web).await?;
            sets.items.first().map(ResourceExt::name_any).context("not there")
        })
        .await?;
        let set = format!("replicaset/{set}");
        let note = r#"{"spec":{"template":{"metadata":{"annotations":{"mine":"yes"}}}}}"#;
        let refused: [(&[&str], &str); 10] = [
            (&["rollout", "restart", "deployment/web"], owned),
            (&["set", "image", "deployment/web", &busybox], owned),
            (&["set", "env", "deployment/web", "WATCHWORD_REVISION=other"], owned),
            (&["set", "image", "cronjob/night", &busybox], owned),
            (&["patch", &set, "--patch", note], owned),
            (&["set", "serviceaccount", "deployment/web", "admin"], owned),
            (&["patch", "deployment/web", "--patch", label], owned),
            (&["patch", "deployment/web", "--patch", owner], "the owner of a task's workload"),
            (&["patch", "cronjob/night", "--patch", owner], "the owner of a task's workload"),
            (&["create", "job", "now", "--from=cronjob/night"], made),
        ];
        for (arguments, words) in refused {
            let output = namespace.kubectl(&[arguments, &[&user]].concat()).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
        }
        let allowed: [&[&str]; 3] = [
            &["scale", "deployment/web", "--replicas=0"],
            &["label", "deployment/web", "team=shop"],
            &["rollout", "pause", "deployment/web"],
        ];
        for arguments in allowed {
            let output = namespace.kubectl(&[arguments, &[&user]].concat()).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{arguments:?}: {said}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn records_and_statuses_are_written_by_their_owners_only() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("authority").await?;
        let records: Api<SealedRecord> = Api::namespaced(cluster.client(), names::NAMESPACE);
        // The one that no other story deletes meanwhile.
        let name = ObjectName::keyring();
        records.get(name.as_str()).await?;
        let forged = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "SealedRecord",
            "metadata": {"name": "forged"}, "spec": {"record": "AAAA"},
        });
        // Dry runs pass every policy, and cost no cluster its secrets should one be missing.
        let post = PostParams { dry_run: true, ..PostParams::default() };
        let created = records.create(&post, &serde_json::from_value(forged)?).await;
        let patch = Patch::Merge(json!({"spec": {"record": "AAAA"}}));
        let patched = records.patch(name.as_str(), &PatchParams::default().dry_run(), &patch).await;
        let (delete, all) = (DeleteParams::default().dry_run(), ListParams::default());
        let deleted = records.delete(name.as_str(), &delete).await;
        let swept = records.delete_collection(&delete, &all).await;
        let words = "only system:serviceaccount:watchword-system:watchword-store may";
        for (verb, refused) in [
            ("create", created.err()),
            ("patch", patched.err()),
            ("delete", deleted.err()),
            ("delete all", swept.err()),
        ] {
            let refusal = refused.map(|error| error.to_string()).unwrap_or_default();
            assert!(refusal.contains(words), "{verb}: {refusal:?}");
        }

        let web = task("web", "exec sleep 600");
        let idle = json!({"service": {"instances": 0}});
        namespace.define("web", &json!({"tasks": [web], "run": idle})).await?;
        let patch = Patch::Merge(json!({"status": {"state": "TASK_RUNNING"}}));
        let definitions: Api<TaskDefinition> = namespace.api();
        let patched = definitions.patch_status("web", &PatchParams::default(), &patch).await;
        let refusal = patched.err().map(|error| error.to_string()).unwrap_or_default();
        let words = "only system:serviceaccount:watchword-system:watchword-controller may";
        assert!(refusal.contains(words), "{refusal:?}");
        anyhow::Ok(())
    });
}
