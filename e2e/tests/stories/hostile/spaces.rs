//! Other people's names: ids, prefixes, resolvers and inline values that are not one's own.

use anyhow::{Context, ensure};
use serde_json::json;
use watchword_e2e::watchword::{LIMIT, task, with_variable};
use watchword_e2e::{Cluster, run, wait_for};

use super::support::*;

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
        namespace.in_state("nosy", "TASK_FAILED").await?;
        let messages = wait_for("what the status says of both", LIMIT, async || {
            let status = namespace.definition("nosy").await?.status.unwrap_or_default();
            let message_on = |name: &str| {
                let found = status.references.iter().find(|one| one.name == name);
                Some(found?.message.as_ref()?.replace(name, "X"))
            };
            let both = message_on(&there).zip(message_on(&missing));
            both.with_context(|| format!("{:?}", status.references))
        })
        .await?;
        assert!(messages.0.contains("may not read secret"), "{messages:?}");
        assert_eq!(messages.0, messages.1);
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
