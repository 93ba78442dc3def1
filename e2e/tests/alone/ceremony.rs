//! The rituals of operators, with the programs that operators have: DC/OS' own with `curl`, `xxd`
//! and `gpg`, and Watchword's command line with holders who each have a `gpg` of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use watchword_crds::names;
use watchword_e2e::holder::{Holder, succeeded, text};
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, SEALED, run_alone, wait_for};
use watchword_store::backend::file::FileBackend;
use watchword_store::{Collector, Config, Given, Share, Store};

use crate::keeper::is_for_later;

#[test]
fn the_ritual_of_dcos_opens_the_store_with_curl_xxd_and_gpg() {
    run_alone("ritual", SEALED, async |cluster: Cluster| {
        let ann = Holder::new(&cluster, "ann@example.com", "default", "").await?;
        let store = Curl::new(&cluster).await?;

        // 4.3: initialise with an own key.
        let key = shell(&cluster, &ann, "gpg --export ann@example.com | base64 -w 0", "").await?;
        let request = json!({"shares": 1, "threshold": 1, "pgp_keys": [key]});
        let initialized = store.json("PUT", "init/default", &request.to_string()).await?;
        assert_eq!(initialized["pgp_fingerprints"], json!([ann.fingerprint(&cluster).await?]));

        // 4.2: unseal with an own key.
        let sealed = json!({"sealed": true, "threshold": 1, "shares": 1, "progress": 0});
        let unsealed = json!({"sealed": false, "threshold": 1, "shares": 1, "progress": 0});
        assert_eq!(store.json("GET", "seal-status/default", "").await?, sealed);
        let shown = store.json("GET", "init/default", "").await?;
        assert_eq!(shown["keys"], initialized["keys"]);
        let hex = shown["keys"][0].as_str().context("no encrypted share")?.to_owned();
        let share = shell(
            &cluster,
            &ann,
            "cd \"$GNUPGHOME\" && cat > hex.txt && xxd -r -p hex.txt key.enc && gpg -d key.enc",
            &hex,
        )
        .await?;
        assert!(share.len() == 64 && share.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let answer =
            store.json("PUT", "unseal/default", &json!({"key": share}).to_string()).await?;
        assert_eq!(answer, unsealed);

        // A secret, then sealed by hand as in 4.2.
        let secret = json!({
            "value": "of the shop", "author": "somebody else",
            "description": "what the shop is run with", "labels": ["shop", "db"],
        });
        // A replica that could not be told at once is open a moment later.
        wait_for("the secret to be taken", LIMIT, async || {
            match store.text("PUT", "secret/default/shop/db", &secret.to_string()).await {
                // By an attempt whose answer was lost.
                Err(error) if error.to_string().contains("already exists") => Ok(String::new()),
                outcome => outcome,
            }
        })
        .await?;
        store.text("PUT", "seal/default", "").await?;
        assert_eq!(store.json("GET", "seal-status/default", "").await?, sealed);
        store.text("PUT", "unseal/default", &json!({"key": share}).to_string()).await?;
        // A replica that could not be told at once follows later.
        let secret = wait_for("the secret", LIMIT, async || {
            store.json("GET", "secret/default/shop/db", "").await
        })
        .await?;
        assert_eq!(secret["value"], "of the shop");
        assert_eq!(secret["description"], "what the shop is run with");
        assert_eq!(secret["labels"], json!(["shop", "db"]));
        assert_eq!(secret["author"], "system:serviceaccount:default:operator");

        // As many versions are kept as the settings say.
        let settings = r#"{"spec": {"keepVersions": 2}}"#;
        let patch = ["patch", "secretstore", "default", "--type=merge", "-p", settings];
        succeeded(cluster.kubectl(&patch).await?)?;
        wait_for("two versions to be kept", LIMIT, async || {
            store.text("PATCH", "secret/default/shop/db", r#"{"value":"newer"}"#).await?;
            let kept = store.json("GET", "secret/default/shop/db?versions=true", "").await?;
            let newest = kept["versions"][0]["version"].as_u64();
            ensure!(
                newest > Some(2) && kept["versions"].as_array().map(Vec::len) == Some(2),
                "{kept}"
            );
            Ok(())
        })
        .await?;
        anyhow::Ok(())
    });
}

#[test]
fn holders_open_the_store_change_its_keys_copy_it_and_open_the_copy_elsewhere() {
    let folder = TempDir::new().expect("a folder");
    let people: std::sync::Mutex<Option<People>> = std::sync::Mutex::default();
    run_alone("holders", SEALED, async |cluster: Cluster| {
        let three = People::new(&cluster).await?;
        two_of_three_open_a_new_store(&cluster, &three, folder.path()).await?;
        let secrets = secrets();
        for (path, value) in &secrets {
            cluster.create_secret(path, value).await?;
        }
        let backup = text(folder.path().join("store.backup"))?;
        ok(&three.ann.watchword(&cluster, &["store", "backup", "--file", &backup]).await?)?;

        let others = other_holders_take_over(&cluster, &three, folder.path(), &secrets).await?;
        keys_rotate_and_older_terms_are_destroyed(&cluster, &secrets).await?;
        the_store_moves_to_a_file(&cluster, &others, folder.path(), &secrets).await?;
        *people.lock().expect("nobody panicked") = Some(three);
        anyhow::Ok(())
    });
    run_alone("restored", SEALED, async |cluster: Cluster| {
        let three = people.lock().expect("nobody panicked").take().context("no holders")?;
        the_backup_opens_elsewhere(&cluster, &three, folder.path()).await
    });
}

struct People {
    ann: Holder,
    bob: Holder,
    eve: Holder,
}

impl People {
    async fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            ann: Holder::new(cluster, "ann@example.com", "default", "").await?,
            bob: Holder::new(cluster, "bob@example.com", "future-default", "").await?,
            eve: Holder::new(cluster, "eve@example.com", "default", "correct horse").await?,
        })
    }
}

fn secrets() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("shop/db", b"of the shop\n".to_vec()),
        ("bank/key", (0..=u8::MAX).collect()),
        ("long", vec![7; 300_000]),
    ])
}

async fn two_of_three_open_a_new_store(
    cluster: &Cluster,
    People { ann, bob, eve }: &People,
    folder: &Path,
) -> Result<()> {
    let shares = text(folder.join("shares"))?;
    let mut init = vec!["store", "init", "--threshold", "2", "--shares-out", &shares];
    let mut keys = Vec::new();
    for holder in [ann, bob, eve] {
        keys.push(holder.public_key(cluster).await?);
    }
    init.push("--pgp-key");
    init.extend(keys.iter().map(String::as_str));

    let new = cluster.watchword_answered(&["secret", "list"], b"").await?;
    let initialized = cluster.watchword(&init, b"").await?;
    let again = cluster.watchword(&init, b"").await?;

    assert_eq!(new.status.code(), Some(1));
    assert!(
        stderr(&new).contains("hint: a new store is made with `watchword store init`"),
        "{new:?}"
    );
    ok(&initialized)?;
    for holder in [ann, bob, eve] {
        let fingerprint = holder.fingerprint(cluster).await?;
        assert!(stdout(&initialized).contains(&fingerprint), "{initialized:?}");
    }
    assert_eq!(std::fs::read_dir(&shares)?.count(), 3);
    assert_eq!(again.status.code(), Some(1), "{again:?}");

    let first = ann.watchword(cluster, &["store", "unseal", "--gpg"]).await?;
    let same = ann.watchword(cluster, &["store", "unseal", "--gpg"]).await?;
    let reset = cluster.watchword(&["store", "unseal", "--reset"], b"").await?;
    let progress = json(&cluster.watchword_answered(&["store", "status", "-j"], b"").await?)?;
    let once_more = ann.watchword(cluster, &["store", "unseal", "--gpg"]).await?;
    let stranger = Holder::new(cluster, "joe@example.com", "future-default", "").await?;
    let refused = stranger.watchword(cluster, &["store", "unseal", "--gpg"]).await?;
    let (private, passphrase) = (eve.private_key(cluster).await?, eve.passphrase_file()?);
    let with_a_file =
        ["store", "unseal", "--pgp-private-key", &private, "--passphrase-file", &passphrase];
    let second = eve.watchword(cluster, &with_a_file).await?;

    assert!(stderr(&first).contains("1 of 2 shares are given"), "{first:?}");
    assert!(stderr(&same).contains("1 of 2 shares are given"), "{same:?}");
    ok(&reset)?;
    assert_eq!(progress["progress"], 0, "{progress}");
    assert!(stderr(&once_more).contains("1 of 2 shares are given"), "{once_more:?}");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&second).contains("unsealed store `default`"), "{second:?}");
    Ok(())
}

/// Begins to rekey; returns the nonce.
async fn begin_rekey(cluster: &Cluster, keys: &[&str]) -> Result<String> {
    let begun = cluster.watchword(&[&["store", "rekey", "-j"][..], keys].concat(), b"").await?;
    Ok(json(&begun)?["nonce"].as_str().context("no nonce")?.to_owned())
}

/// Bob and Joe follow; what Ann and Eve have opens nothing any more.
async fn other_holders_take_over(
    cluster: &Cluster,
    People { ann, bob, eve }: &People,
    folder: &Path,
    secrets: &BTreeMap<&str, Vec<u8>>,
) -> Result<[Holder; 2]> {
    let joe = Holder::new(cluster, "joe@example.com", "default", "").await?;
    let zoe = Holder::new(cluster, "zoe@example.com", "future-default", "").await?;
    let (joes, zoes) = (joe.public_key(cluster).await?, zoe.public_key(cluster).await?);
    let keys = ["--threshold", "2", "--pgp-key", &joes, &zoes];

    let cancelled = begin_rekey(cluster, &keys).await?;
    let others = ["store", "rekey", "--cancel", "--nonce", "other"];
    let not_this = cluster.watchword(&others, b"").await?;
    ok(&cluster.watchword(&["store", "rekey", "--cancel"], b"").await?)?;
    let late = ann.watchword(cluster, &["store", "rekey", "--nonce", &cancelled, "--gpg"]).await?;
    assert_eq!(not_this.status.code(), Some(1), "{not_this:?}");
    assert!(!stderr(&not_this).contains(&cancelled), "{not_this:?}");
    assert!(stderr(&late).contains("nobody is rekeying"), "{late:?}");

    let nonce = begin_rekey(cluster, &keys).await?;
    let wrong = ann.watchword(cluster, &["store", "rekey", "--nonce", "other", "--gpg"]).await?;
    let first = ann.watchword(cluster, &["store", "rekey", "--nonce", &nonce, "--gpg"]).await?;
    // Eve decrypts her share by other means, and pipes it in.
    let old_shares = old_shares(cluster, [ann, eve], &folder.join("shares")).await?;
    let give = ["store", "rekey", "--nonce", &nonce];
    let second = eve.watchword_with(cluster, &give, old_shares[1].as_bytes()).await?;

    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(!stderr(&wrong).contains(&nonce), "{wrong:?}");
    for holder in [&joe, &zoe] {
        let fingerprint = holder.fingerprint(cluster).await?;
        assert!(stderr(&first).contains(&fingerprint), "what one agrees to: {first:?}");
    }
    assert!(stderr(&first).contains("1 of 2 shares are given"), "{first:?}");
    assert!(stderr(&second).contains("rekeyed store `default`"), "{second:?}");
    are_there(cluster, secrets).await?;

    ok(&cluster.watchword_answered(&["store", "seal"], b"").await?)?;
    let nothing = cluster.watchword(&["store", "unseal"], old_shares[0].as_bytes()).await?;
    let useless = cluster.watchword(&["store", "unseal"], old_shares[1].as_bytes()).await?;
    let not_bobs = bob.watchword(cluster, &["store", "unseal", "--gpg"]).await?;
    ok(&nothing)?;
    assert_eq!(useless.status.code(), Some(1), "{useless:?}");
    assert_eq!(not_bobs.status.code(), Some(1), "{not_bobs:?}");
    for holder in [&joe, &zoe] {
        ok(&holder.watchword(cluster, &["store", "unseal", "--gpg"]).await?)?;
    }
    are_there(cluster, secrets).await?;
    Ok([joe, zoe])
}

async fn keys_rotate_and_older_terms_are_destroyed(
    cluster: &Cluster,
    secrets: &BTreeMap<&str, Vec<u8>>,
) -> Result<()> {
    let rotate = ["store", "rotate", "--retire", "--wait", "-j"];
    let rotated = json(&cluster.watchword(&rotate, b"").await?)?;

    assert_eq!(rotated["term"], 2, "{rotated}");
    let terms = rotated["terms"].as_array().context("no terms")?;
    assert_eq!(terms.len(), 1, "{rotated}");
    are_there(cluster, secrets).await
}

/// From the cluster to a file, in which the same shares open the same values.
async fn the_store_moves_to_a_file(
    cluster: &Cluster,
    holders: &[Holder; 2],
    folder: &Path,
    secrets: &BTreeMap<&str, Vec<u8>>,
) -> Result<()> {
    let file = folder.join("store.redb");
    let place = format!("file:{}", text(file.clone())?);
    let migrate = ["store", "migrate", "--from", "kubernetes", "--to", &place];

    let open = cluster.watchword(&migrate, b"").await?;
    ok(&cluster.watchword_answered(&["store", "seal"], b"").await?)?;
    let shares = text(folder.join("new-shares"))?;
    ok(&cluster.watchword_answered(&["store", "shares", "--shares-out", &shares], b"").await?)?;
    let migrated = cluster.watchword(&migrate, b"").await?;
    let again = cluster.watchword(&migrate, b"").await?;

    assert_eq!(open.status.code(), Some(1));
    assert!(stderr(&open).contains("run `watchword store seal`"), "{open:?}");
    ok(&migrated)?;
    assert!(stderr(&again).contains("it has been migrated"), "{again:?}");
    let store = Store::new(FileBackend::open(&file)?, Config::default());
    let mut collector = Collector::new(2);
    for share in old_shares(cluster, [&holders[0], &holders[1]], Path::new(&shares)).await? {
        if let Given::Complete(key) = collector.give(Share::parse(&share)?) {
            store.unseal(key?).await?;
        }
    }
    for (path, value) in secrets {
        let secret = store.read(&path.parse()?, None).await?;
        assert!(secret.value.expose_secret() == value, "{path} has changed on the way");
    }
    Ok(())
}

async fn the_backup_opens_elsewhere(
    cluster: &Cluster,
    three: &People,
    folder: &Path,
) -> Result<()> {
    let People { ann, eve, .. } = three;
    let backup = text(folder.join("store.backup"))?;
    let mut broken = std::fs::read(&backup)?;
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let broken = ann.file("broken.backup", &broken)?;

    let refused = cluster.watchword(&["store", "restore", "--file", &broken], b"").await?;
    let restored = cluster.watchword(&["store", "restore", "--file", &backup], b"").await?;
    let again = cluster.watchword(&["store", "restore", "--file", &backup], b"").await?;
    let old_shares = old_shares(cluster, [ann, eve], &folder.join("shares")).await?;
    ok(&ann.watchword(cluster, &["store", "unseal", "--gpg"]).await?)?;
    ok(&eve.watchword_with(cluster, &["store", "unseal"], old_shares[1].as_bytes()).await?)?;

    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    ok(&restored)?;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    are_there(cluster, &secrets()).await?;
    cluster.create_secret("after", b"the restoration").await
}

/// What holders decrypt from the files that were sent to them.
async fn old_shares(
    cluster: &Cluster,
    holders: [&Holder; 2],
    folder: &Path,
) -> Result<[String; 2]> {
    let mut shares = Vec::new();
    for holder in holders {
        let fingerprint = holder.fingerprint(cluster).await?;
        let file = std::fs::read_dir(folder)?
            .filter_map(Result::ok)
            .find(|file| file.file_name().to_string_lossy().contains(&fingerprint))
            .context("no file for a holder")?;
        let path = text(file.path())?;
        let share = holder.gpg(cluster, &["--decrypt", &path], b"").await?;
        shares.push(String::from_utf8(share)?);
    }
    shares.try_into().map_err(|_| anyhow::anyhow!("not two shares"))
}

async fn are_there(cluster: &Cluster, secrets: &BTreeMap<&str, Vec<u8>>) -> Result<()> {
    for (path, value) in secrets {
        wait_for(&format!("`{path}`"), LIMIT, async || {
            let got = cluster.watchword(&["secret", "get", path], b"").await?;
            ensure!(got.status.success() && got.stdout == *value, "{}", stderr(&got));
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// DC/OS' client: `curl`, with a token in DC/OS' form.
struct Curl<'a> {
    cluster: &'a Cluster,
    folder: TempDir,
    address: String,
    token: String,
}

impl<'a> Curl<'a> {
    async fn new(cluster: &'a Cluster) -> Result<Self> {
        let folder = TempDir::new()?;
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), names::NAMESPACE);
        let authority = maps.get(names::CA).await?.data.unwrap_or_default();
        std::fs::write(folder.path().join("ca.crt"), &authority["ca.crt"])?;
        let services: Api<Service> = Api::namespaced(cluster.client(), names::NAMESPACE);
        let service = services.get(names::STORE).await?.spec.context("no spec")?;
        let token = operator_token(cluster).await?;
        let address = service.cluster_ip.context("no address")?;
        Ok(Self { cluster, folder, address, token })
    }

    async fn text(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let host = format!("watchword-store.{}.svc", names::NAMESPACE);
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--request", method])
            .arg("--cacert")
            .arg(self.folder.path().join("ca.crt"))
            .args(["--resolve", &format!("{host}:443:{}", self.address)])
            .args(["--header", &format!("Authorization: token={}", self.token)])
            .args(["--header", "Content-Type: application/json"])
            .arg(format!("https://{host}/secrets/v1/{path}"));
        if !body.is_empty() {
            curl.args(["--data-binary", body]);
        }
        let Output { status, stdout, stderr } =
            wait_for(&format!("an answer to {method} {path}"), LIMIT, async || {
                let output = curl.output().await?;
                let said = String::from_utf8_lossy(&output.stdout);
                // As `man curl` numbers them: nobody there, too late, no handshake, no answer.
                let is_lost = matches!(output.status.code(), Some(7 | 28 | 35 | 52 | 56));
                let is_late = said.contains(r#""code":"timeout""#);
                ensure!(!is_lost && !is_late && !is_for_later(&said), "{said} {output:?}");
                Ok(output)
            })
            .await?;
        let answer = String::from_utf8(stdout)?;
        ensure!(status.success(), "{method} {path}: {answer} {}", String::from_utf8_lossy(&stderr));
        Ok(answer)
    }

    async fn json(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let text = self.text(method, path, body).await?;
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: no JSON: {text}"))
    }
}

/// A token of a service account that may do everything, as DC/OS' superuser may.
async fn operator_token(cluster: &Cluster) -> Result<String> {
    let account = json!({"metadata": {"name": "operator", "namespace": "default"}});
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "default");
    accounts.create(&PostParams::default(), &serde_json::from_value(account)?).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "default"}],
    });
    cluster.apply(&binding.to_string()).await?;
    let made = cluster.kubectl(&["--namespace", "default", "create", "token", "operator"]).await?;
    Ok(String::from_utf8(succeeded(made)?)?.trim().to_owned())
}

/// Runs a line of shell as a person types it; returns its output.
async fn shell(cluster: &Cluster, person: &Holder, line: &str, input: &str) -> Result<String> {
    Ok(String::from_utf8(person.shell(cluster, line, input).await?)?)
}

fn ok(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}: {}", output.status, stderr(output));
    Ok(())
}

fn json(output: &Output) -> Result<Value> {
    ok(output)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
