//! Namespaces whose names come back: one that was deleted and made again does not inherit what its
//! predecessor had, until an administrator says so.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use watchword_crds::Space;
use watchword_e2e::cluster::{Answer, Https};
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, Namespace, run, wait_for};

#[test]
fn a_namespace_that_was_made_again_gets_its_predecessors_secrets_only_once_confirmed() {
    run(async |cluster: Cluster| {
        let store = cluster.https("store").await?;
        let first = cluster.namespace("heir").await?;
        let [there, missing] = ["alpha", "omega"].map(|name| first.secret(name));
        cluster.create_secret(&there, "gold").await?;
        assert_eq!(read_as_admin(&first, &store, &there).await?.status, 200, "not broken before");

        let again = made_again(&first).await?;

        // By RBAC of the new namespace nothing is had, and nothing is learnt.
        let mut denials = Vec::new();
        for path in [&there, &missing] {
            let answer = read_as_admin(&again, &store, path).await?;
            assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("denied")));
            denials.push(answer.text());
        }
        let listing = format!("{}/?list=true", again.name());
        let listed = read_as_admin(&again, &store, &listing).await?;
        assert_eq!(listed.status, 403, "{}", listed.text());
        denials.push(listed.text());
        assert!(denials.iter().all(|denial| *denial == denials[0]), "{denials:?}");

        // Nor by a definition of the new namespace.
        let tasks: Vec<Value> = [("alpha", &there), ("omega", &missing)]
            .map(|(name, path)| with_variable(task(name, SLEEP), "GOLD", path))
            .into();
        again.define("web", &json!({"tasks": tasks})).await?;
        let denial = launch_failure(&again, "alpha").await?;
        assert!(denial.contains("was deleted and made again"), "{denial}");
        assert_eq!(denial, launch_failure(&again, "omega").await?);

        // What the administrator gets to read is what the administrator has to apply.
        let yaml =
            denial.split('`').find(|part| part.starts_with("{apiVersion")).context("none")?;
        cluster.apply(yaml).await?;
        // A definition of its own: the pod that was refused half comes to run meanwhile.
        again.define("confirmed", &json!({"tasks": tasks[..1]})).await?;
        // The store may hear of it after its first pod has asked.
        again.in_state("confirmed", "TASK_RUNNING").await?;
        let pod = again.running_pod("confirmed").await?;
        again.says(&pod, None, "gold\n").await?;
        assert_eq!(read_as_admin(&again, &store, &there).await?.status, 200);

        // The confirmation has been taken note of, and may go.
        let spaces: Api<Space> = Api::all(cluster.client());
        spaces.delete(&format!("confirm-{}", again.name()), &DeleteParams::default()).await?;
        again.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        let pod = wait_for("another pod", LIMIT, async || {
            let other = again.running_pod("confirmed").await?;
            ensure!(other != pod, "the old one");
            Ok(other)
        })
        .await?;
        again.says(&pod, None, "gold\n").await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_prefix_that_is_bound_by_a_space_belongs_to_whatever_namespace_has_the_name() {
    run(async |cluster: Cluster| {
        let store = cluster.https("store").await?;
        let first = cluster.namespace("bound").await?;
        let path = first.secret("db");
        cluster.create_secret(&path, "gold").await?;
        let again = made_again(&first).await?;
        assert_eq!(read_as_admin(&again, &store, &path).await?.status, 403);

        let name = again.name();
        let space = json!({
            "apiVersion": "watchword.dev/v1alpha1", "kind": "Space", "metadata": {"name": name},
            "spec": {"namespaces": [name], "prefixes": [format!("/{name}")]},
        });
        cluster.apply(&space.to_string()).await?;

        wait_for("the Space to count", LIMIT, async || {
            let answer = read_as_admin(&again, &store, &path).await?;
            ensure!(answer.status == 200, "{}", answer.status);
            Ok(())
        })
        .await?;
        Api::<Space>::all(cluster.client()).delete(name, &DeleteParams::default()).await?;
        anyhow::Ok(())
    });
}

#[test]
fn a_namespace_that_is_made_again_where_no_secret_is_left_is_held_up_by_nothing() {
    run(async |cluster: Cluster| {
        let store = cluster.https("store").await?;
        let first = cluster.namespace("empty").await?;
        let path = first.secret("db");
        cluster.create_secret(&path, "gold").await?;
        cluster.delete_secret(&path).await?;
        let second = made_again(&first).await?;

        let missing = read_as_admin(&second, &store, &path).await?;
        assert_eq!(missing.status, 404, "{}", missing.text());
        cluster.create_secret(&path, "silver").await?;
        assert_eq!(read_as_admin(&second, &store, &path).await?.status, 200);

        let third = made_again(&second).await?;
        let denied = read_as_admin(&third, &store, &path).await?;
        assert_eq!(denied.status, 403, "now the second is the predecessor: {}", denied.text());
        anyhow::Ok(())
    });
}

/// Deletes the namespace, and makes another of its name.
async fn made_again(namespace: &Namespace) -> Result<Namespace> {
    let (cluster, name) = (namespace.cluster(), namespace.name());
    namespace.delete().await?;
    let namespaces: Api<NamespaceObject> = Api::all(cluster.client());
    wait_for("the namespace to be gone", LIMIT, async || {
        let left = namespaces.get_opt(name).await?;
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
    .await?;
    cluster.namespace_named(name, &[]).await
}

/// Reads a secret as someone whom the namespace's own admin lets do anything with its secrets.
async fn read_as_admin(namespace: &Namespace, store: &Https, path: &str) -> Result<Answer> {
    namespace.account(ADMIN).await?;
    let rules = json!([{
        "apiGroups": ["store.watchword.dev"], "resources": ["secrets"],
        "verbs": ["create", "delete", "list", "read", "update"],
    }]);
    namespace.grant(ADMIN, &rules).await?;
    let client = namespace.cluster().client();
    let token = namespace.token(client, ADMIN, None, None).await?;
    let url = format!("/secrets/v1/secret/default/{path}");
    // Authorizers learn of a new binding by a watch.
    wait_for("the grant to count", LIMIT, async || {
        let answer = store.ask("GET", &url, Some(&token), &Value::Null).await?;
        // And of an account that was made again, as of its namespace.
        ensure!(answer.status != 401, "{}", answer.text());
        ensure!(!answer.text().contains("grant the verb"), "{}", answer.text());
        Ok(answer)
    })
    .await
}

/// What stands in the termination message of a container that was refused its secrets.
async fn launch_failure(namespace: &Namespace, container: &str) -> Result<String> {
    let pods: Api<Pod> = namespace.api();
    wait_for(&format!("container `{container}` to be refused"), LIMIT, async || {
        let list = pods.list(&ListParams::default()).await?;
        let seen: Vec<_> = list.iter().map(ResourceExt::name_any).collect();
        let statuses = list.items.into_iter().filter_map(|pod| pod.status);
        let ended = statuses
            .flat_map(|status| status.container_statuses.unwrap_or_default())
            .filter(|status| status.name == container)
            .flat_map(|status| [status.state, status.last_state])
            .find_map(|state| state?.terminated)
            .with_context(|| format!("it has not ended in {seen:?}"))?;
        ensure!(ended.exit_code == 78, "it ended with {}", ended.exit_code);
        ended.message.context("no message")
    })
    .await
}

const ADMIN: &str = "secrets-admin";
const SLEEP: &str = "echo \"$GOLD\"; exec sleep 600";
