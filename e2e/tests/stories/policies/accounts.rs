//! What the accounts of Watchword itself may not do.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use watchword_crds::names;
use watchword_e2e::{Cluster, images, run};

use super::dry_create;

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
