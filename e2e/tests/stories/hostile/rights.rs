//! Who may do what to which path of the Secrets API, with paths as an attacker writes them; against
//! the real API server.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use watchword_e2e::{Cluster, run};

use super::support::*;

#[test]
fn the_secrets_api_gives_each_subject_what_rbac_grants_on_the_parsed_path() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("api").await?;
        let other = cluster.namespace("neighbour").await?;
        let store = cluster.https("store").await?;
        for secret in ["shop/db", "shop/deep/key", "shop2/db", "app/db", "app/other"] {
            cluster.create_secret(&namespace.secret(secret), "value").await?;
        }
        cluster.create_secret(&other.secret("db"), "value").await?;
        let (n, o) = (namespace.name().to_owned(), other.name().to_owned());

        // Accounts are called after what they are granted.
        let url = |path: &str| format!("/secrets/v1/secret/default/{path}");
        let shop = url(&format!("{n}/shop/*"));
        for (name, urls, verbs) in [
            ("reader", json!([shop]), json!(["read", "list"])),
            ("writer", json!([shop]), json!(["create", "update"])),
            ("getter", json!(["*"]), json!(["get", "post", "put"])),
        ] {
            let rules = json!([{"nonResourceURLs": urls, "verbs": verbs}]);
            grant_urls(&namespace, name, &rules).await?;
        }
        let secrets = |names: Value, verbs: Value| {
            json!([{"apiGroups": ["store.watchword.dev"], "resources": ["secrets"],
                    "resourceNames": names, "verbs": verbs}])
        };
        let exact = secrets(json!([format!("{n}/app/db")]), json!(["read"]));
        let folder = secrets(json!([format!("{n}/app/*")]), json!(["read", "list"]));
        let greedy = secrets(json!([format!("{o}/db"), format!("{o}/*")]), json!(["*"]));
        let kubernetes = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]);
        for (name, rules) in
            [("exact", exact), ("folder", folder), ("greedy", greedy), ("kubernetes", kubernetes)]
        {
            namespace.account(name).await?;
            namespace.grant(name, &rules).await?;
        }
        for name in [
            "admin",
            "edit",
            "view",
            "watchword-secret-reader",
            "watchword-secret-writer",
            "watchword-store-admin",
        ] {
            namespace.account(name).await?;
            namespace.bind(name, "ClusterRole").await?;
        }
        namespace.account("nobody").await?;

        let upper = n.to_uppercase();
        let rows: Vec<(&str, &str, String, u16)> = vec![
            // subject, method, path below /secrets/v1/secret/default/, status
            ("nobody", "GET", format!("{n}/shop/db"), 403),
            ("nobody", "GET", format!("{n}/shop/missing"), 403),
            ("nobody", "GET", "?list=true".into(), 403),
            ("reader", "GET", format!("{n}/shop/db"), 200),
            ("reader", "GET", format!("{n}/shop/deep/key"), 200),
            ("reader", "GET", format!("{n}/shop/?list=true"), 200),
            ("reader", "GET", format!("{n}/shop?list=true"), 200),
            ("reader", "GET", format!("{n}/?list=true"), 403),
            ("reader", "GET", format!("{n}/shop/missing"), 404),
            ("reader", "GET", format!("{n}/shop%2Fdb"), 200),
            ("reader", "GET", format!("{n}/shop2/db"), 403),
            ("reader", "GET", format!("{n}/app/db"), 403),
            ("reader", "GET", format!("{n}/Shop/db"), 403),
            ("reader", "GET", format!("{upper}/shop/db"), 403),
            ("reader", "PUT", format!("{n}/shop/new"), 403),
            ("reader", "PATCH", format!("{n}/shop/db"), 403),
            ("reader", "DELETE", format!("{n}/shop/db"), 403),
            ("reader", "POST", format!("{n}/shop/db"), 405),
            // Texts that a prefix would let through.
            ("reader", "GET", format!("{n}/shop/../app/db"), 400),
            ("reader", "GET", format!("{n}/shop/%2e%2e/app/db"), 400),
            ("reader", "GET", format!("{n}/shop/%2E%2E%2Fapp%2Fdb"), 400),
            ("reader", "GET", format!("{n}/shop/./db"), 400),
            ("reader", "GET", format!("{n}/shop//db"), 400),
            ("reader", "GET", format!("/{n}/shop/db"), 400),
            ("reader", "GET", format!("{n}/shop/db/"), 400),
            ("reader", "GET", format!("{n}/shop%252Fdb"), 400),
            ("reader", "GET", format!("{n}/shop/db%00"), 400),
            ("reader", "GET", format!("{n}/shop/%ff"), 400),
            ("reader", "GET", format!("{n}/shop/db;x=1"), 400),
            ("reader", "GET", format!("{n}/shop/*"), 400),
            ("reader", "GET", format!("{n}/shop/%252e%252e/app/db"), 400),
            ("reader", "GET", format!("{n}/shop/..%2fapp%2fdb"), 400),
            ("reader", "GET", format!("{n}/shop/%00/db"), 400),
            ("reader", "GET", format!("{n}/shop/db%0a"), 400),
            ("reader", "GET", format!("{n}/shop%5Cdb"), 400),
            ("reader", "GET", format!("{n}/shop/%C0%AE%C0%AE%C0%AFapp"), 400),
            ("reader", "GET", format!("{n}/shop%EF%BC%8Fdb"), 400),
            ("reader", "GET", format!("{n}/sh%C3%B6p/db"), 400),
            ("reader", "GET", format!("{n}/shop/%E2%80%AEdb"), 400),
            ("reader", "GET", format!("{n}/shop/{}", "a".repeat(300)), 400),
            ("reader", "GET", format!("{n}/shop/{}", "a/".repeat(2000)), 400),
            ("reader", "GET", format!("{n}/shop//?list=true"), 400),
            ("reader", "GET", format!("{n}/shop/../?list=true"), 400),
            ("reader", "GET", format!("{n}/shop%2F?list=true"), 200),
            // Queries that must not change what was judged.
            ("reader", "GET", format!("{n}/shop/db?version=x"), 400),
            ("reader", "GET", format!("{n}/shop/db?verison=1"), 400),
            ("reader", "GET", format!("{n}/shop/db?version=1&version=2"), 400),
            ("reader", "GET", format!("{n}/shop?list=true&version=1"), 400),
            ("reader", "GET", format!("{n}/shop/db?version=1"), 200),
            ("reader", "GET", format!("{n}/shop/db?versions=true"), 200),
            ("reader", "GET", format!("{n}/app/db?version=1"), 403),
            ("reader", "GET", format!("{n}/app/db?versions=true"), 403),
            ("reader", "HEAD", format!("{n}/shop/db"), 200),
            ("reader", "HEAD", format!("{n}/app/db"), 403),
            ("reader", "PATCH", format!("{n}/shop/db?rollback=1"), 403),
            ("writer", "PATCH", format!("{n}/shop/db?rollback=1"), 403),
            ("writer", "PUT", format!("{n}/shop/new?list=true"), 400),
            ("writer", "DELETE", format!("{n}/shop/db?list=true"), 400),
            ("writer", "GET", format!("{n}/shop/db"), 403),
            ("writer", "GET", format!("{n}/shop/?list=true"), 403),
            ("writer", "PUT", format!("{n}/shop/written"), 201),
            ("writer", "PUT", format!("{n}/shop/db"), 409),
            ("writer", "PATCH", format!("{n}/shop/db"), 204),
            ("writer", "DELETE", format!("{n}/shop/db"), 403),
            // A broad grant on Kubernetes' own verbs reads nothing.
            ("getter", "GET", format!("{n}/shop/db"), 403),
            ("getter", "PUT", format!("{n}/shop/new"), 403),
            ("kubernetes", "GET", format!("{n}/app/db"), 403),
            // A namespace's Role counts for the paths of its space only.
            ("exact", "GET", format!("{n}/app/db"), 200),
            ("exact", "GET", format!("{n}/app/other"), 403),
            ("exact", "PATCH", format!("{n}/app/db"), 403),
            ("folder", "GET", format!("{n}/app/other"), 200),
            ("folder", "GET", format!("{n}/app/?list=true"), 200),
            ("folder", "GET", format!("{n}/shop/db"), 403),
            ("greedy", "GET", format!("{o}/db"), 403),
            ("greedy", "GET", format!("{o}/?list=true"), 403),
            // Ready-made roles, bound in the namespace.
            ("watchword-secret-reader", "GET", format!("{n}/app/db"), 200),
            ("watchword-secret-reader", "GET", format!("{n}/?list=true"), 200),
            ("watchword-secret-reader", "PATCH", format!("{n}/app/db"), 403),
            ("watchword-secret-reader", "GET", format!("{o}/db"), 403),
            ("watchword-secret-reader", "GET", "?list=true".into(), 403),
            ("watchword-secret-writer", "PUT", format!("{n}/shop/bound"), 201),
            ("watchword-secret-writer", "GET", format!("{n}/shop/bound"), 403),
            ("watchword-secret-writer", "DELETE", format!("{n}/shop/bound"), 204),
            ("watchword-secret-writer", "PUT", format!("{o}/bound"), 403),
            ("watchword-store-admin", "GET", format!("{n}/app/db"), 403),
            ("view", "GET", format!("{n}/?list=true"), 403),
            ("view", "GET", format!("{n}/app/db"), 403),
            ("edit", "GET", format!("{n}/?list=true"), 200),
            ("edit", "GET", format!("{n}/app/db"), 403),
            ("edit", "PUT", format!("{n}/edited"), 201),
            ("edit", "PUT", format!("{o}/edited"), 403),
            ("admin", "GET", format!("{n}/app/db"), 200),
            ("admin", "DELETE", format!("{n}/app/db"), 204),
            ("admin", "GET", format!("{o}/db"), 403),
            ("admin", "DELETE", format!("{o}/db"), 403),
            ("admin", "GET", "?list=true".into(), 403),
        ];
        let mut tokens = BTreeMap::new();
        for (subject, method, path, status) in rows {
            if !tokens.contains_key(subject) {
                let token = namespace.token(cluster.client(), subject, None, None).await?;
                tokens.insert(subject, token);
            }
            let body = match method {
                "PUT" | "PATCH" => json!({"value": "written"}),
                _ => Value::Null,
            };
            let token = tokens.get(subject).map(String::as_str);
            let answer = store.ask(method, &url(&path), token, &body).await?;
            let row = format!("{subject} {method} {path}: {}", answer.text());
            assert_eq!(answer.status, status, "{row}");
            if status != 200 {
                assert!(!answer.text().contains("\"value\""), "{row}");
            }
        }
        // Every denial is in the log, with who and what.
        let user = |name: &str| format!("system:serviceaccount:{n}:{name}");
        for (subject, event, path) in [
            ("nobody", "read", format!("{n}/shop/missing")),
            ("greedy", "read", format!("{o}/db")),
            ("admin", "delete", format!("{o}/db")),
            ("edit", "create", format!("{o}/edited")),
        ] {
            audited(&cluster, &format!("{subject} {event} {path}"), 1, |line| {
                line["subject"]["user"]["name"] == user(subject)
                    && line["event"] == event
                    && line["path"] == path
                    && line["decision"] == "denied"
            })
            .await?;
        }
        // What does not parse has a line too, though no path.
        audited(&cluster, "paths that are none", 10, |line| {
            line["subject"]["user"]["name"] == format!("system:serviceaccount:{n}:reader")
                && line["code"] == "bad_request"
                && line["path"].is_null()
        })
        .await?;
        // A denial is the same whether the secret is there.
        let token = tokens.get("nobody").map(String::as_str);
        let mut denials = Vec::new();
        for path in [format!("{n}/shop/db"), format!("{n}/shop/no")] {
            let denial = store.ask("GET", &url(&path), token, &Value::Null).await?;
            denials.push((denial.status, denial.text().replace(&path, "…")));
        }
        assert_eq!(denials[0], denials[1]);
        // What is no path of a store at all.
        for path in [
            format!("/secrets/v1/secret/default%2F{n}/shop/db"),
            format!("/secrets/v1/secret/Default/{n}/shop/db"),
            format!("/secrets/v1/secret/../secret/default/{n}/shop/db"),
            format!("/secrets/v1/secret//default/{n}/shop/db"),
            format!("//secrets/v1/secret/default/{n}/shop/db"),
            format!("/secrets/v1/SECRET/default/{n}/shop/db"),
        ] {
            let token = tokens.get("reader").map(String::as_str);
            let answer = store.ask("GET", &path, token, &Value::Null).await?;
            assert_eq!((answer.status, code(&answer)), (404, "not_found".into()), "{path}");
        }
        let unknown = store.ask("GET", &url("x/y"), Some("not.a.token"), &Value::Null).await?;
        assert_eq!(unknown.status, 401, "{}", unknown.text());
        let nobody = store.ask("GET", &url("x/y"), None, &Value::Null).await?;
        assert_eq!(nobody.status, 401, "{}", nobody.text());
        anyhow::Ok(())
    });
}
