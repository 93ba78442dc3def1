//! The ValidatingAdmissionPolicies: what tenants, cluster administrators and Watchword's own
//! accounts may not do, whatever RBAC lets them, and that each policy says so in its own words.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::sealed_record::SealedRecord;
use watchword_crds::{TaskDefinition, names};
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, images, run, wait_for};

#[test]
fn every_policy_is_bound_denies_tells_the_audit_log_and_has_no_type_warning() {
    run(async |cluster: Cluster| {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client());
        let checked = wait_for("all policies to be checked", LIMIT, async || {
            let list = policies.list(&ListParams::default()).await?.items;
            let ours: Vec<_> =
                list.into_iter().filter(|one| one.name_any().starts_with("watchword-")).collect();
            for policy in &ours {
                let status = policy.status.as_ref().context("it has no status")?;
                ensure!(status.observed_generation == policy.metadata.generation, "not looked at");
                ensure!(status.type_checking.is_some(), "{} is unchecked", policy.name_any());
            }
            Ok(ours)
        })
        .await?;
        let bound = bindings.list(&ListParams::default()).await?;
        for policy in &checked {
            let name = policy.name_any();
            let checking = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
            let warnings = checking.and_then(|checking| checking.expression_warnings.as_ref());
            assert!(warnings.is_none_or(Vec::is_empty), "{name}: {warnings:?}");
            let spec = policy.spec.as_ref().context("no spec")?;
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"), "{name}");
            let binding = bound.items.iter().find_map(|binding| {
                let spec = binding.spec.as_ref()?;
                (spec.policy_name.as_deref() == Some(&name)).then_some(spec)
            });
            let binding = binding.with_context(|| format!("{name} is not bound"))?;
            let actions = binding.validation_actions.clone().unwrap_or_default();
            assert_eq!(actions, ["Deny", "Audit"], "{name}");
            assert!(binding.match_resources.is_none(), "{name} is bound to a part");
        }
        let names: BTreeSet<_> = checked.iter().map(ResourceExt::name_any).collect();
        for needed in [
            "watchword-authority",
            "watchword-controller-scope",
            "watchword-injected",
            "watchword-opt-in",
            "watchword-pod-binding",
            "watchword-pod-metadata",
            "watchword-task-cronjobs",
            "watchword-task-pods",
            "watchword-task-workloads",
            "watchword-token-audience",
        ] {
            assert!(names.contains(needed), "{needed} is missing");
        }
        anyhow::Ok(())
    });
}

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
        // The right word gets as far as the webhook.
        let refusal = create("true").await?;
        assert!(refusal.contains("no task definition of namespace"), "{refusal:?}");
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
        cluster.create_secret(&namespace.secret("db"), "value").await?;
        let records: Api<SealedRecord> = Api::namespaced(cluster.client(), names::NAMESPACE);
        let existing = records.list(&ListParams::default().limit(5)).await?.items;
        let name = existing.first().context("there is no record")?.name_any();
        let forged = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "SealedRecord",
            "metadata": {"name": "forged"}, "spec": {"record": "AAAA"},
        });
        // Dry runs pass every policy, and cost no cluster its secrets should one be missing.
        let post = PostParams { dry_run: true, ..PostParams::default() };
        let created = records.create(&post, &serde_json::from_value(forged)?).await;
        let patch = Patch::Merge(json!({"spec": {"record": "AAAA"}}));
        let patched = records.patch(&name, &PatchParams::default().dry_run(), &patch).await;
        let (delete, all) = (DeleteParams::default().dry_run(), ListParams::default());
        let deleted = records.delete(&name, &delete).await;
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

#[test]
fn watchwords_own_accounts_are_held_to_what_is_theirs() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("scopes").await?;
        let controller = own_account(&cluster, "controller").await?;
        let spec = json!({
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {
                "serviceAccountName": "watchword-store",
                "containers": [{"name": "x", "image": images::BUSYBOX}],
            }},
        });
        let owners = json!([{
            "apiVersion": "watchword.dev/v1alpha1", "kind": "TaskDefinition", "name": "web",
            "uid": "00000000-0000-0000-0000-000000000000", "controller": true,
        }]);
        let mine = json!({"metadata": {"name": "x", "ownerReferences": owners}, "spec": spec});
        let bare = json!({"metadata": {"name": "x"}, "spec": spec});
        for system in ["kube-system", names::NAMESPACE] {
            for deployment in [&mine, &bare] {
                let refusal = dry_create::<Deployment>(&controller, system, deployment).await?;
                let words = "writes no workload in kube-system or in its own namespace";
                assert!(refusal.contains(words), "{system}: {refusal:?}");
            }
        }
        let words = "writes only what a TaskDefinition controls";
        let refusal = dry_create::<Deployment>(&controller, namespace.name(), &bare).await?;
        assert!(refusal.contains(words), "{refusal:?}");
        assert_eq!(dry_create::<Deployment>(&controller, namespace.name(), &mine).await?, "");

        // Somebody else's Deployment is neither taken over nor deleted.
        let mut theirs = bare.clone();
        theirs["apiVersion"] = json!("apps/v1");
        theirs["kind"] = json!("Deployment");
        theirs["spec"]["replicas"] = json!(0);
        theirs["metadata"]["annotations"] = json!({"theirs": "yes"});
        namespace.apply(&theirs.to_string()).await?;
        let deployments: Api<Deployment> = Api::namespaced(controller.clone(), namespace.name());
        let take = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
        let taken = deployments.patch("x", &PatchParams::default(), &take).await.err();
        let deleted = deployments.delete("x", &DeleteParams::default()).await.err();
        for refusal in [taken, deleted] {
            let refusal = refusal.map(|error| error.to_string()).unwrap_or_default();
            assert!(refusal.contains(words), "{refusal:?}");
        }

        // All that it may write there is the annotation that ends a back-off.
        let poked = json!({"watchword.dev/poked-at": "now"});
        let poke = Patch::Merge(json!({"metadata": {"annotations": poked}}));
        deployments.patch("x", &PatchParams::default(), &poke).await?;
        for more in [
            json!({"metadata": {"annotations": {"other": "too"}}}),
            json!({"metadata": {"annotations": {"theirs": null}}}),
            json!({"metadata": {"labels": {"other": "too"}}}),
            json!({"metadata": {"finalizers": ["e2e/other"]}}),
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"template": {"metadata": {"annotations": poked}}}}),
        ] {
            let mut patch =
                json!({"metadata": {"annotations": {"watchword.dev/poked-at": "again"}}});
            merge(&mut patch, &more);
            let patched =
                deployments.patch("x", &PatchParams::default(), &Patch::Merge(&patch)).await;
            let refusal = patched.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refusal.contains(words), "{patch}: {refusal:?}");
        }

        // No account of Watchword reads Secrets or makes tokens, here or in its own namespace.
        for role in ["controller", "webhook", "store", "certificates"] {
            let client = own_account(&cluster, role).await?;
            for place in [namespace.name(), "kube-system"] {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), place);
                let listed = secrets.list(&ListParams::default()).await;
                let refusal = listed.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(refusal.contains("is forbidden"), "{role} {place}: {refusal:?}");
            }
            let made = namespace.token(client, "default", None, None).await;
            let refusal = made.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refusal.contains("is forbidden"), "{role}: {refusal:?}");
        }
        // The webhook may watch what it answers from, and has no right beyond what everybody has.
        let webhook = own_account(&cluster, "webhook").await?;
        let nobody = service_account(&cluster, namespace.name(), "default").await?;
        for place in [namespace.name(), names::NAMESPACE] {
            let review: SelfSubjectRulesReview =
                serde_json::from_value(json!({"spec": {"namespace": place}}))?;
            let rules_of = async |client: &Client| {
                let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
                let answered = reviews.create(&PostParams::default(), &review).await?;
                anyhow::Ok(answered.status.context("no answer")?.resource_rules)
            };
            let everybodys = rules_of(&nobody).await?;
            let mut own = rules_of(&webhook).await?;
            own.retain(|rule| !everybodys.contains(rule));
            let [watches] = own.as_slice() else { anyhow::bail!("the webhook may {own:?}") };
            let words = |list: &[&str]| Some(list.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(watches.api_groups, words(&["watchword.dev"]));
            assert_eq!(watches.resources, words(&["spaces", "taskdefinitions", "taskrevisions"]));
            assert_eq!(watches.verbs, ["list", "watch"]);
        }

        // What RBAC cannot say of `create`, the policies do.
        let certificates = own_account(&cluster, "certificates").await?;
        let token = json!({
            "metadata": {"name": "watchword-ca", "annotations":
                {"kubernetes.io/service-account.name": "watchword-store"}},
            "type": "kubernetes.io/service-account-token",
        });
        let refusal = dry_create::<Secret>(&certificates, names::NAMESPACE, &token).await?;
        assert!(refusal.contains("writes keys, never tokens"), "{refusal:?}");
        let other = json!({"metadata": {"name": "other"}});
        let refusal = dry_create::<Secret>(&certificates, names::NAMESPACE, &other).await?;
        assert!(refusal.contains("may write only watchword-ca"), "{refusal:?}");
        anyhow::Ok(())
    });
}

// -------------------------------------------------------------------------------------- helpers

/// A client of one of Watchword's own service accounts.
async fn own_account(cluster: &Cluster, role: &str) -> anyhow::Result<Client> {
    service_account(cluster, names::NAMESPACE, &format!("watchword-{role}")).await
}

async fn service_account(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Client> {
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let of_namespace = format!("system:serviceaccounts:{namespace}");
    let groups = ["system:serviceaccounts", of_namespace.as_str(), "system:authenticated"];
    cluster.client_as(&user, &groups).await
}

/// What creating an object is refused with; empty if it is let in. Nothing is made.
async fn dry_create<K>(client: &Client, namespace: &str, object: &Value) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let created = api.create(&dry_run, &serde_json::from_value(object.clone())?).await;
    Ok(created.err().map(|error| error.to_string()).unwrap_or_default())
}

async fn create<K>(client: &Client, namespace: &Namespace, object: Value) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    dry_create::<K>(client, namespace.name(), &object).await
}

/// A definition `web` with a variable and a file; its pod, once it runs.
async fn running_web(namespace: &Namespace) -> anyhow::Result<String> {
    namespace.cluster().create_secret(&namespace.secret("db"), "value").await?;
    let web = with_variable(task("web", "exec sleep 600"), "DB", &namespace.secret("db"));
    let web = with_file(web, "file", "RO", &namespace.secret("db"));
    namespace.define("web", &json!({"tasks": [web]})).await?;
    namespace.in_state("web", "TASK_RUNNING").await?;
    namespace.running_pod("web").await
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

/// Writes the members of one object into another, as deep as both go.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
