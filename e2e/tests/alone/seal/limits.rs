//! Refusals are limited: for each user who is denied, and for each address that shows tokens which
//! nobody vouches for, as a person's, a container's or the controller's. Nobody else waits for that, nor is the log flooded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use watchword_e2e::cluster::{Answer, Https, Request};
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, Namespace, wait_for};

use crate::keeper::Keeper;

const SECRET: &str = "/secrets/v1/secret/default/limits/none";

pub(crate) async fn are_each_ones_own(cluster: &Cluster, keeper: &Keeper) -> Result<()> {
    let replicas = keeper.replicas().await?;
    let [one, other] = replicas.as_slice() else { anyhow::bail!("two replicas") };
    let (here, there) = (keeper.outside(one), keeper.outside(other));
    let namespace = cluster.namespace("limits").await?;
    let mut tokens = Vec::new();
    for name in ["greedy", "modest", "late"] {
        namespace.account(name).await?;
        tokens.push(namespace.token(cluster.client(), name, None, None).await?);
    }
    let [greedy, modest, late] = tokens.as_slice() else { anyhow::bail!("three tokens") };

    let of_greedy = |_| asking("GET", SECRET, greedy.clone(), &Value::Null);
    let (_, sent) = here.until_told_to_wait(403, of_greedy).await?;
    assert_eq!(get(&here, modest).await?.status, 403, "another user is counted apart");
    assert_eq!(get(&there, greedy).await?.status, 403, "the other replica counts for itself");
    wait_for("waiting to help", LIMIT, async || {
        let answer = get(&here, greedy).await?;
        ensure!(answer.status == 403, "{}: {}", answer.status, answer.text());
        Ok(())
    })
    .await?;

    whoever_is_known_is_not_held_up_by_strangers(&namespace, &here).await?;
    assert_eq!(get(&there, "nobody's").await?.status, 401);
    // The same strangers pose as containers and as the controller: they wait there too.
    for path in ["/v1/resolve", "/v1/check"] {
        let body = match path {
            "/v1/resolve" => json!({"version": 1, "container": "web", "want": ["env"]}),
            _ => json!({"version": 1, "namespace": namespace.name(), "revision": "x"}),
        };
        let stranger = |_| asking("POST", path, "nobody's".to_owned(), &body);
        here.until_told_to_wait(401, stranger).await?;
        assert_eq!(there.ask("POST", path, Some("nobody's"), &body).await?.status, 401);
    }
    // Who is not known yet waits with the strangers, and not for long.
    wait_for("waiting to help", LIMIT, async || {
        let answer = get(&here, late).await?;
        ensure!(answer.status == 403, "{}: {}", answer.status, answer.text());
        Ok(())
    })
    .await?;

    let user = format!("system:serviceaccount:{}:greedy", namespace.name());
    let log = cluster.audit().await?;
    let of_user = log.iter().filter(|line| line["subject"]["user"]["name"] == *user).count();
    ensure!(of_user > 0 && of_user < sent + 10, "{of_user} lines of {sent} requests");
    let counts = |line: &Value| line["unwritten"].as_u64().is_some_and(|count| count > 0);
    ensure!(log.iter().any(counts), "no line counts those that have none");
    Ok(())
}

/// Strangers come from this user's own address; the store knows the user for ten seconds.
async fn whoever_is_known_is_not_held_up_by_strangers(
    namespace: &Namespace,
    store: &Https,
) -> Result<()> {
    let strangers = async |round: usize| {
        let token = |number| format!("nobody's-{round}-{number}");
        let stranger = |number| asking("GET", SECRET, token(number), &Value::Null);
        store.until_told_to_wait(401, stranger).await
    };
    // From then on some are enough: ten a second are let in again.
    strangers(0).await?;
    for round in 1..=ROUNDS {
        // One that nobody knows yet.
        let user = format!("known-{round}");
        namespace.account(&user).await?;
        let client = namespace.cluster().client();
        let user = &namespace.token(client, &user, None, None).await?;
        let since = wait_for("the user to be known", LIMIT, async || {
            let since = Instant::now();
            let before = get(store, user).await?;
            ensure!(before.status == 403, "{}: {}", before.status, before.text());
            Ok(since)
        })
        .await?;
        strangers(round).await?;
        let after = get(store, user).await?;
        if since.elapsed() < Duration::from_secs(9) {
            assert_eq!(after.status, 403, "{}", after.text());
            return Ok(());
        }
    }
    anyhow::bail!("this machine is too slow to ask so often in ten seconds")
}

/// A request for the secret, or for what is at another path.
fn asking(method: &'static str, path: &str, token: String, body: &Value) -> Request {
    Request { method, path: path.to_owned(), token: Some(token), body: body.clone() }
}

async fn get(store: &Https, token: &str) -> Result<Answer> {
    store.ask("GET", SECRET, Some(token), &Value::Null).await
}

/// How often the user may have been forgotten before it was asked for again.
const ROUNDS: usize = 10;
