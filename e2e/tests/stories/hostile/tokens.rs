//! Stolen and outlived tokens: each is good for one container of one living pod, and nowhere else.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use watchword_e2e::cluster::Request;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, run, wait_for};

use super::support::*;

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

        // It lives on for its grace period, and its token with it; to the store it is gone.
        let patch = json!({"metadata": {"finalizers": [FINALIZER]}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        pods.delete(&pod, &DeleteParams::default().grace_period(600)).await?;
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

#[test]
fn a_pod_that_is_refused_again_and_again_waits_and_does_not_flood_the_audit_log() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("again").await?;
        let store = cluster.https("store").await?;
        let pod = running_web(&namespace).await?;
        let of_dead = token(&namespace, &pod, "web").await?;
        let pods: Api<Pod> = namespace.api();
        let patch = json!({"metadata": {"finalizers": [FINALIZER]}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        // Its token is good for a minute after the time that it is given to end.
        pods.delete(&pod, &DeleteParams::default().grace_period(600)).await?;

        // Each replica counts for itself.
        let request = |_| Request {
            method: "POST",
            path: "/v1/resolve".to_owned(),
            token: Some(of_dead.clone()),
            body: wanted("web"),
        };
        let (_, asked) = store.until_told_to_wait(403, request).await?;

        // Another pod of the same definition, at the same address, is served as before.
        let other = wait_for("the next pod", LIMIT, async || {
            let other = namespace.running_pod("web").await?;
            anyhow::ensure!(other != pod, "it is the old one");
            Ok(other)
        })
        .await?;
        let of_other = token(&namespace, &other, "web").await?;
        assert_eq!(values(&resolve(&store, &of_other, "web").await?), ["value"]);
        let lines = cluster.audit().await?;
        // It had its secrets once, while it lived.
        let refusals = lines
            .iter()
            .filter(|line| line["subject"]["container"]["pod"] == *pod)
            .filter(|line| line["decision"] == "denied")
            .count();
        assert!(refusals < asked, "{refusals} lines of {asked} requests");

        let patch = json!({"metadata": {"finalizers": null}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        anyhow::Ok(())
    });
}
