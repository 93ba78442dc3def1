//! Kubeconfigs of all kinds, and who they say that is asking.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier, version::TLS13,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connect;

async fn config(user: Value) -> Config {
    // Any authority will do: nothing is connected to this API server.
    let authority = STANDARD.encode(authority().pem());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": "https://127.0.0.1:1", "certificate-authority-data": authority,
        }}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

async fn identity(user: Value) -> Result<Identity, IdentityError> {
    let _ = aws_lc_rs::default_provider().install_default();
    identify(&mut config(user).await).await
}

async fn header(user: Value) -> String {
    let identity = identity(user).await.unwrap_or_else(|error| panic!("{error}"));
    identity.authorization.unwrap().to_str().unwrap().to_owned()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A leaf of `authority`: its certificate and key, PEM.
fn leaf(authority: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// An exec plugin that prints `status` and keeps count of its runs beside it.
fn plugin(home: &Path, status: &Value) -> Value {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": status,
    });
    let script = home.join("plugin");
    let count = home.join("runs");
    let text =
        format!("#!/bin/sh\necho run >> {}\ncat <<'END'\n{credential}\nEND\n", count.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": script,
        "interactiveMode": "Never",
    }})
}

fn runs(home: &Path) -> usize {
    fs::read_to_string(home.join("runs")).unwrap().lines().count()
}

#[tokio::test]
async fn a_token_in_the_kubeconfig_is_shown() {
    assert_eq!(header(json!({"token": "abc"})).await, "Bearer abc");
}

#[tokio::test]
async fn a_token_file_is_shown_without_its_newline() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("token");
    fs::write(&file, "abc\n").unwrap();

    assert_eq!(header(json!({"tokenFile": file})).await, "Bearer abc");
}

#[tokio::test]
async fn a_plugin_that_gives_a_token_runs_once() {
    let _ = aws_lc_rs::default_provider().install_default();
    let home = TempDir::new().unwrap();
    let status = json!({"token": "abc", "expirationTimestamp": "2100-01-01T00:00:00Z"});
    let mut config = config(plugin(home.path(), &status)).await;

    let identity = identify(&mut config).await.unwrap_or_else(|error| panic!("{error}"));
    let client = kube::Client::try_from(config);

    assert_eq!(identity.authorization.unwrap(), "Bearer abc");
    assert!(client.is_ok());
    assert_eq!(runs(home.path()), 1);
}

#[tokio::test]
async fn a_plugin_may_give_a_certificate() {
    let home = TempDir::new().unwrap();
    let (certificate, key) = leaf(&authority(), "ann");
    let status = json!({
        "clientCertificateData": certificate.pem(), "clientKeyData": key.serialize_pem(),
    });

    let identity = identity(plugin(home.path(), &status)).await.unwrap_or_else(|e| panic!("{e}"));

    assert!(identity.authorization.is_none());
    assert!(identity.certificate.is_some());
}

#[tokio::test]
async fn a_plugin_that_fails_is_not_repeated() {
    let home = TempDir::new().unwrap();
    let mut user = plugin(home.path(), &json!({}));
    let script = home.path().join("plugin");
    fs::write(&script, "#!/bin/sh\necho canary-81\necho canary-82 >&2\nexit 3\n").unwrap();
    user["exec"]["command"] = json!(script);

    let Err(error) = identity(user).await else { panic!() };

    let said = chain(&error);
    assert_eq!(
        said,
        "cannot find out who the kubeconfig says you are: its exec plugin failed with exit status: 3"
    );
}

#[tokio::test]
async fn a_plugin_that_prints_nonsense_is_not_repeated() {
    let home = TempDir::new().unwrap();
    let user = plugin(home.path(), &json!({}));
    fs::write(home.path().join("plugin"), "#!/bin/sh\necho 'status: [canary-83'\n").unwrap();

    let Err(error) = identity(user).await else { panic!() };

    assert!(!chain(&error).contains("canary-83"), "{error}");
    assert!(error.to_string().contains("something other than a credential"), "{error}");
}

#[tokio::test]
async fn nobody_is_refused_before_the_store_is_asked() {
    assert!(matches!(identity(json!({})).await, Err(IdentityError::Nobody)));
}

#[tokio::test]
async fn a_password_is_not_for_the_store() {
    let user = json!({"username": "ann", "password": "x"});

    assert!(matches!(identity(user).await, Err(IdentityError::Nobody)));
}

#[tokio::test]
async fn acting_as_another_is_refused() {
    let Err(error) = identity(json!({"token": "abc", "as": "bob"})).await else { panic!() };

    assert_eq!(error.to_string(), "the kubeconfig acts as `bob`, which the store cannot check");
}

#[tokio::test]
async fn token_and_certificate_are_both_shown_and_the_certificate_reaches_the_store() {
    let _ = aws_lc_rs::default_provider().install_default();
    let (people, stores) = (authority(), authority());
    let (certificate, key) = leaf(&people, "ann");
    let (server_certificate, server_key) = leaf(&stores, "watchword-store.ns.svc");
    let user = json!({
        "token": "abc",
        "client-certificate-data": STANDARD.encode(certificate.pem()),
        "client-key-data": STANDARD.encode(key.serialize_pem()),
    });
    let mut trusted = RootCertStore::empty();
    trusted.add(people.der().clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(WebPkiClientVerifier::builder(trusted.into()).build().unwrap())
        .with_single_cert(
            vec![server_certificate.der().clone()],
            PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (ours, theirs) = duplex(64 * 1024);
    let seen = tokio::spawn(async move {
        let stream = TlsAcceptor::from(Arc::new(server)).accept(theirs).await.unwrap();
        stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned())
    });

    let identity = identity(user).await.unwrap_or_else(|error| panic!("{error}"));
    let roots = connect::roots(stores.pem().as_bytes(), "test").unwrap();
    let tls = connect::tls(roots, identity.certificate);
    let name = "watchword-store.ns.svc";
    let connection = connect::open(ours, tls, name, name.to_owned(), identity.authorization).await;

    let connection = connection.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(connection.authorization.unwrap(), "Bearer abc");
    assert_eq!(seen.await.unwrap().as_ref(), Some(certificate.der()));
}
