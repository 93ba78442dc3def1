//! Adoption: pods of somebody else's workloads get the secrets that a definition gives them, under
//! a service account of their own, and each pod from one definition.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::TaskDefinition;
use watchword_e2e::images::BUSYBOX;
use watchword_e2e::watchword::{LIMIT, task, with_file, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn an_adopted_deployment_keeps_its_own_shape_and_gets_its_secrets() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "adopt", "legacy").await?;
        namespace.define("legacy", &definition(&namespace, "legacy")).await?;
        let pod = pod("", "legacy");
        let deployment = deployment(&pod);

        // Before the definition is known its pods are refused, and made once it is.
        let applied = namespace.apply(&deployment.to_string()).await?.remove(0);

        let pods = namespace.pods_ready("app=legacy", 1, LIMIT).await?;
        namespace.says(&pods[0].name_any(), None, "<s3cret-value> <s3cret-value>\n").await?;
        namespace.in_state("legacy", "TASK_RUNNING").await?;
        namespace.condition("legacy", "Available", "True").await?;
        // What Watchword adds is in the pod, not in what its owner wrote.
        let written = applied.data["spec"]["template"].to_string();
        let api = cluster.api_of(&applied, Some(namespace.name())).await?;
        let stands = api.get("legacy").await?;
        assert_eq!(stands.data["spec"]["template"].to_string(), written);
        assert!(stands.metadata.owner_references.unwrap_or_default().is_empty());
        anyhow::Ok(())
    });
}

#[test]
fn an_adopted_deployment_and_a_definition_whose_pods_run_as_root_get_their_secrets() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "root", "legacy").await?;
        let as_root = json!({"runAsUser": 0});
        let show = "echo \"$(id -u) <$DB> <$(cat /etc/db)>\"; exec sleep 600";
        let said = "0 <s3cret-value> <s3cret-value>\n";

        namespace.define("legacy", &definition(&namespace, "legacy")).await?;
        let mut pod = pod("", "legacy");
        pod["spec"]["securityContext"] = as_root.clone();
        pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", show]);
        namespace.apply(&deployment(&pod).to_string()).await?;
        let web = with_variable(task("web", show), "DB", &namespace.secret("db"));
        let web = with_file(web, "/etc/db", "RO", &namespace.secret("db"));
        let template = json!({"spec": {"securityContext": as_root}});
        namespace.define("web", &json!({"tasks": [web], "template": template})).await?;

        let pods = namespace.pods_ready("app=legacy", 1, LIMIT).await?;
        namespace.says(&pods[0].name_any(), None, said).await?;
        namespace.in_state("web", "TASK_RUNNING").await?;
        namespace.says(&namespace.running_pod("web").await?, None, said).await
    });
}

#[test]
fn an_adopted_deployment_whose_pods_are_refused_is_poked_and_changed_in_nothing_else() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "poked", "legacy").await?;
        let mut pod = pod("", "legacy");
        // The webhook cannot know what the image would start, so it refuses the pods for good.
        pod["spec"]["containers"][0]["command"] = json!([]);
        let deployment = deployment(&pod);
        namespace.apply(&deployment.to_string()).await?;
        let deployments: Api<Deployment> = namespace.api();
        wait_for("the pods to be refused", LIMIT, async || {
            let status = deployments.get("legacy").await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let failure = conditions.iter().find(|one| one.type_ == "ReplicaFailure");
            failure.map(drop).with_context(|| format!("{conditions:?}"))
        })
        .await?;
        let before = deployments.get("legacy").await?;

        namespace.define("legacy", &definition(&namespace, "legacy")).await?;

        let after = wait_for("the Deployment to be poked", LIMIT, async || {
            let after = deployments.get("legacy").await?;
            let poked = after.annotations().contains_key("watchword.dev/poked-at");
            poked.then_some(after).context("not yet")
        })
        .await?;
        assert_eq!(after.spec, before.spec);
        assert_eq!(after.labels(), before.labels());
        anyhow::Ok(())
    });
}

#[test]
fn of_two_definitions_that_match_one_pod_neither_injects_it_until_one_is_gone() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "rivals", "legacy").await?;
        namespace.define("one", &definition(&namespace, "legacy")).await?;
        namespace.admitted(&pod("first", "legacy")).await?;
        namespace.in_state("one", "TASK_RUNNING").await?;

        namespace.define("two", &definition(&namespace, "legacy")).await?;

        for (name, rival) in [("one", "two"), ("two", "one")] {
            let conflict = namespace.condition(name, "Conflict", "True").await?;
            assert_eq!(conflict["reason"], "AdoptedTwice", "{name}");
            let said = conflict["message"].as_str().unwrap_or_default();
            assert!(said.contains(&format!("`{rival}` also adopts")), "{said}");
        }
        // The webhook may know of the second a moment later than the controller.
        wait_for("a pod of both to be refused", LIMIT, async || {
            let denied = namespace.refused(&pod("second", "legacy")).await?;
            ensure!(denied.contains("both adopt this pod, so neither injects it"), "{denied}");
            ensure!(denied.contains("make their selectors disjoint"), "{denied}");
            Ok(())
        })
        .await?;

        namespace.api::<TaskDefinition>().delete("two", &DeleteParams::default()).await?;
        namespace.condition("one", "Conflict", "False").await?;
        namespace.admitted(&pod("second", "legacy")).await?;
        namespace.says_when_started("second", "<s3cret-value> <s3cret-value>\n").await
    });
}

#[test]
fn a_labelled_pod_that_nobody_adopts_is_refused_with_the_mend() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("orphan").await?;

        let denied = namespace.refused(&pod("orphan", "default")).await?;

        let name = namespace.name();
        for part in [
            format!("no task definition of namespace `{name}` adopts this pod").as_str(),
            "apply one whose `spec.run.adopt.selector` matches its labels",
            "or remove the label watchword.dev/inject",
        ] {
            assert!(denied.contains(part), "{denied}");
        }
        let mut plain = pod("plain", "default");
        plain["metadata"]["labels"] = json!({"app": "legacy"});
        namespace.apply(&plain.to_string()).await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_pod_in_its_nodes_network_is_told_to_ask_the_clusters_resolver_and_then_gets_its_secrets() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "host-network", "legacy").await?;
        namespace.define("legacy", &definition(&namespace, "legacy")).await?;
        namespace.admitted(&pod("inside", "legacy")).await?;
        let mut pod = pod("outside", "legacy");
        pod["spec"]["hostNetwork"] = json!(true);

        let denied = namespace.refused(&pod).await?;
        pod["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
        namespace.admitted(&pod).await?;

        assert!(denied.contains("set `dnsPolicy: ClusterFirstWithHostNet`"), "{denied}");
        namespace.says_when_started("outside", "<s3cret-value> <s3cret-value>\n").await
    });
}

#[test]
fn the_account_default_cannot_adopt_and_the_refusal_says_what_can() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("default-account").await?;

        let refused = namespace.define("legacy", &definition(&namespace, "default")).await;

        let said = format!("{:#}", refused.err().context("it was not refused")?);
        assert!(said.contains("serviceAccountName"), "{said}");
        assert!(said.contains("adopt needs a service account of its own"), "{said}");
        anyhow::Ok(())
    });
}

#[test]
fn a_pod_under_another_account_is_denied_its_secrets_and_the_status_says_why() {
    run(async |cluster: Cluster| {
        let namespace = adopting(&cluster, "account", "legacy").await?;
        account(&namespace, "other").await?;
        namespace.define("legacy", &definition(&namespace, "legacy")).await?;

        namespace.admitted(&pod("stranger", "other")).await?;

        let status = namespace.in_state("legacy", "TASK_FAILED").await?.status;
        let status = status.context("no status")?;
        let why = "the pod does not run under the service account of its definition";
        assert_eq!(status.reason.as_deref(), Some("REASON_CONTAINER_LAUNCH_FAILED"));
        assert_eq!(status.message, Some(format!("Failed to launch container: {why}")));
        wait_for("the denial in the audit log", LIMIT, async || {
            let audit = cluster.audit().await?;
            let of_pod = audit.iter().filter(|line| line.to_string().contains(namespace.name()));
            let lines: Vec<String> = of_pod.map(Value::to_string).collect();
            let is_denial = |line: &String| line.contains("denied") && line.contains(why);
            ensure!(lines.iter().any(is_denial), "{lines:?}");
            Ok(())
        })
        .await
    });
}

/// A namespace with a secret and a service account.
async fn adopting(cluster: &Cluster, story: &str, name: &str) -> Result<Namespace> {
    let namespace = cluster.namespace(story).await?;
    cluster.create_secret(&namespace.secret("db"), "s3cret-value").await?;
    account(&namespace, name).await?;
    Ok(namespace)
}

async fn account(namespace: &Namespace, name: &str) -> Result<()> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    let accounts: Api<ServiceAccount> = namespace.api();
    accounts.create(&PostParams::default(), &account).await?;
    Ok(())
}

/// Adopts pods with the label `app: legacy` under an account, for a variable and a file.
fn definition(namespace: &Namespace, account: &str) -> Value {
    let app = json!({
        "name": "app",
        "command": {"environment": {"variables": []}},
        "container": {"type": "MESOS", "volumes": []},
    });
    let app = with_variable(app, "DB", &namespace.secret("db"));
    json!({
        "run": {"adopt": {
            "selector": {"matchLabels": {"app": "legacy"}},
            "serviceAccountName": account,
        }},
        "tasks": [with_file(app, "/etc/db", "RO", &namespace.secret("db"))],
    })
}

/// A pod that wants to be adopted.
fn pod(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "legacy", "watchword.dev/inject": "true"},
        },
        "spec": {
            "serviceAccountName": account,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": BUSYBOX,
                "command": ["sh", "-c", "echo \"<$DB> <$(cat /etc/db)>\"; exec sleep 600"],
            }],
        },
    })
}

/// What several of these stories ask for.
trait Adopts {
    /// Makes a pod, as soon as the webhook knows its definition.
    async fn admitted(&self, pod: &Value) -> Result<()>;
    /// What is said when a pod is refused, once it is.
    async fn refused(&self, pod: &Value) -> Result<String>;
    /// Waits until a pod runs and has said this.
    async fn says_when_started(&self, pod: &str, text: &str) -> Result<()>;
}

impl Adopts for Namespace {
    async fn admitted(&self, pod: &Value) -> Result<()> {
        wait_for("a pod to be admitted", LIMIT, async || {
            let created = create(self, pod, "--dry-run=none").await?;
            ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
            Ok(())
        })
        .await
    }

    async fn refused(&self, pod: &Value) -> Result<String> {
        let created = create(self, pod, "--dry-run=server").await?;
        ensure!(!created.status.success(), "the pod was admitted");
        Ok(String::from_utf8_lossy(&created.stderr).into_owned())
    }

    async fn says_when_started(&self, pod: &str, text: &str) -> Result<()> {
        self.pod_phase(pod, "Running", LIMIT).await?;
        self.says(pod, None, text).await
    }
}

/// Creates a pod as a person does.
async fn create(namespace: &Namespace, pod: &Value, dry_run: &str) -> Result<Output> {
    let name = format!("--namespace={}", namespace.name());
    let arguments = [name.as_str(), "create", dry_run, "--filename=-"];
    namespace.cluster().kubectl_with(&arguments, &pod.to_string()).await
}

/// A Deployment called `legacy` of such pods.
fn deployment(pod: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "legacy"},
        "spec": {
            "selector": {"matchLabels": {"app": "legacy"}},
            "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]},
        },
    })
}
