//! What users install and start from, as the API server takes it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, Namespace, run};

#[test]
fn the_production_overlay_is_taken_by_the_api_server() {
    run(async |cluster: Cluster| {
        for folder in ["crds", "manifests/overlays/production"] {
            let folder = in_repository(folder);
            let folder = folder.to_str().context("no text")?;

            // What the stories run on was applied by the same means.
            let applied = cluster
                .kubectl(&[
                    "apply",
                    "--server-side",
                    "--force-conflicts",
                    "--dry-run=server",
                    "--kustomize",
                    folder,
                ])
                .await?;

            let refused = String::from_utf8_lossy(&applied.stderr);
            assert!(applied.status.success(), "{folder}: {refused}");
            assert!(!refused.contains("Warning"), "{folder}: {refused}");
            let taken = String::from_utf8_lossy(&applied.stdout);
            let all = taken.lines().all(|line| line.ends_with("(server dry run)"));
            assert!(all && taken.lines().count() >= 4, "{folder}: {taken}");
        }
        anyhow::Ok(())
    });
}

#[test]
fn each_role_of_the_production_overlay_has_what_production_needs() {
    run(async |cluster: Cluster| {
        let folder = in_repository("manifests/overlays/production");
        let rendered = cluster.kubectl(&["kustomize", folder.to_str().context("no text")?]).await?;
        let rendered = String::from_utf8(rendered.stdout)?;
        let objects: Vec<Value> = serde_yaml::from_multiple(&rendered)?;
        let of_kind =
            |kind: &'static str| objects.iter().filter(move |object| object["kind"] == *kind);

        let namespace = of_kind("Namespace").next().context("no Namespace")?;
        let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(enforced, "restricted");
        let closes = |policy: &&Value| {
            policy["spec"] == json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        };
        assert_eq!(
            of_kind("NetworkPolicy").filter(closes).count(),
            1,
            "what is not allowed is not"
        );

        let mut roles = Vec::new();
        for deployment in of_kind("Deployment") {
            let name = deployment["metadata"]["name"].as_str().context("no name")?;
            let spec = &deployment["spec"];
            let pod = &spec["template"]["spec"];
            let selector = &spec["selector"];
            let is_selected = |object: &&Value, selects: &str| object["spec"][selects] == *selector;

            assert!(spec["replicas"].as_i64() >= Some(2), "{name}: {}", spec["replicas"]);
            let spread = pod["topologySpreadConstraints"].as_array().map_or(0, Vec::len);
            assert_eq!(spread, 2, "{name}: over nodes and zones");
            assert_eq!(pod["priorityClassName"], "watchword", "{name}");
            assert_eq!(pod["serviceAccountName"], name, "an account of its own");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            let budgets = of_kind("PodDisruptionBudget").filter(|one| is_selected(one, "selector"));
            let budgets: Vec<_> = budgets.map(|one| &one["spec"]["maxUnavailable"]).collect();
            assert_eq!(budgets, [1], "{name}");
            for container in pod["containers"].as_array().context("no containers")? {
                for needed in [
                    "/livenessProbe/httpGet/path",
                    "/readinessProbe/httpGet/path",
                    "/resources/requests/cpu",
                    "/resources/requests/memory",
                    "/resources/limits/memory",
                ] {
                    ensure!(container.pointer(needed).is_some(), "{name} has no {needed}");
                }
                let image = container["image"].as_str().unwrap_or_default();
                assert!(image.contains("@sha256:"), "{name}: {image}");
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
            }
            // Those that others ask have a policy that lets them in.
            let served =
                of_kind("Service").any(|one| one["spec"]["selector"] == selector["matchLabels"]);
            let opened = of_kind("NetworkPolicy")
                .filter(|one| is_selected(one, "podSelector"))
                .any(|one| one["spec"]["ingress"].as_array().is_some_and(|list| !list.is_empty()));
            assert_eq!(served, opened, "{name}: who may ask it");
            roles.push(name.trim_start_matches("watchword-"));
        }
        roles.sort_unstable();
        assert_eq!(roles, ["certificates", "controller", "store", "webhook"]);

        // A review that takes longer holds up whoever makes the pod.
        for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
            for webhook in of_kind(kind).flat_map(|one| one["webhooks"].as_array()).flatten() {
                assert_eq!(webhook["timeoutSeconds"], 3, "{}", webhook["name"]);
            }
        }
        anyhow::Ok(())
    });
}

#[test]
fn the_examples_run_as_they_are_also_where_only_restricted_pods_may_be() {
    run(async |cluster: Cluster| {
        let restricted = [
            ("pod-security.kubernetes.io/enforce", "restricted"),
            ("pod-security.kubernetes.io/warn", "restricted"),
        ];
        let namespace = cluster.namespace_with("examples", &restricted).await?;
        for (name, value) in [
            ("db-password", "a password"),
            ("tls-key", "a key"),
            ("db", r#"{"username": "shop", "password": "a password"}"#),
        ] {
            cluster.create_secret(&namespace.secret(name), value).await?;
        }
        let apply = async |example: &str, arguments: &[&str]| {
            let text = fs::read_to_string(in_repository(&format!("examples/{example}.yaml")))?;
            // There are more stories, and each has a namespace of its own.
            let text = text.replace("namespace: shop", &format!("namespace: {}", namespace.name()));
            let text = text.replace("shop/", &format!("{}/", namespace.name()));
            let arguments = [&["apply", "--filename=-"], arguments].concat();
            let applied = cluster.kubectl_with(&arguments, &text).await?;
            let said = String::from_utf8_lossy(&applied.stderr);
            ensure!(applied.status.success() && said.is_empty(), "{example}: {said}");
            anyhow::Ok(())
        };

        for example in ["web", "adopt", "job", "cronjob"] {
            apply(example, &[]).await?;
        }
        // It is about the whole cluster, which others share.
        apply("access", &["--dry-run=server"]).await?;
        apply("network", &[]).await?;
        opens_the_way_to_the_store(&cluster, &namespace).await?;

        namespace.in_state("web", "TASK_RUNNING").await?;
        namespace.in_state("migrate", "TASK_FINISHED").await?;
        namespace.condition("report", "SecretsResolved", "True").await?;
        // Its next run is minutes away: a pod like those that it will make, without their labels.
        let report: CronJob = namespace.api().get("report").await?;
        let report = report.spec.and_then(|spec| spec.job_template.spec).context("no Job")?;
        let pod = Pod {
            metadata: ObjectMeta { name: Some("report".to_owned()), ..ObjectMeta::default() },
            spec: report.template.spec,
            ..Pod::default()
        };
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        namespace.api::<Pod>().create(&dry_run, &pod).await?;
        let legacy = namespace.pods_ready("app=legacy", 1, LIMIT).await?[0].name_any();
        namespace.says(&legacy, None, "a password of 10 characters\n").await?;
        let told = fs::read_dir(in_repository("examples"))?.count();
        assert_eq!(told, 6, "each example is told of here");
        anyhow::Ok(())
    });
}

/// A local node enforces no policies: this one names the store's own port and labels.
async fn opens_the_way_to_the_store(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    let policy: NetworkPolicy = namespace.api().get("watchword").await?;
    let policy = serde_json::to_value(&policy.spec)?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), names::NAMESPACE);
    let store = serde_json::to_value(&deployments.get(names::STORE).await?.spec)?;
    let to = &policy["egress"][0];
    let named = &to["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    ensure!(*named == names::NAMESPACE, "{to}");
    ensure!(to["to"][0]["podSelector"] == store["selector"], "{to}");
    let ports = &store["template"]["spec"]["containers"][0]["ports"];
    let mut ports = ports.as_array().into_iter().flatten();
    let https = ports.find(|port| port["name"] == "https").context("no port https")?;
    ensure!(to["ports"][0]["port"] == https["containerPort"], "{to}");
    Ok(())
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
