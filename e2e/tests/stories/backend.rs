//! The store's back end in Kubernetes, over a real API server: the suite, lists without a request per
//! secret, and the way from one place to another.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::json;
use watchword_crds::names;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{Cluster, Namespace, run, wait_for};
use watchword_store::backend::file::FileBackend;
use watchword_store::backend::kubernetes::KubernetesBackend;
use watchword_store::backend::{Listed, Revision, Stored};
use watchword_store::{
    Backend, BackendError, ObjectKind, ObjectName, Precondition, Value, conformance, migrate,
};

#[test]
fn the_kubernetes_back_end_keeps_all_promises() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("conformance").await?;
        let client = store_of(&cluster, &namespace).await?;

        // It panics at the first promise that is broken.
        conformance::run(|| {
            KubernetesBackend::watching(client.clone(), namespace.name(), CACHE_BYTES)
        })
        .await;
        anyhow::Ok(())
    });
}

#[test]
fn a_list_asks_for_no_secret_that_a_watch_has_told_of() {
    run(async |cluster: Cluster| {
        let namespace = cluster.namespace("watch").await?;
        let client = store_of(&cluster, &namespace).await?;
        let plain = || KubernetesBackend::new(client.clone(), namespace.name());
        let writer = conformance::unsealed(plain, 1).await.remove(0);
        for number in 0..40_u8 {
            let path = format!("many/{number}").parse()?;
            let value = Value::new(vec![number]);
            writer.write(&path, &value, &conformance::meta(), Precondition::Any).await?;
        }

        let watching = || Counting {
            backend: KubernetesBackend::watching(client.clone(), namespace.name(), CACHE_BYTES),
            gets: AtomicUsize::new(0),
        };
        let reader = conformance::unsealed(watching, 1).await.remove(0);
        let backend = reader.backend();
        let heads = backend.list(ObjectKind::Head).await?;
        wait_for("the watch to have told of all", LIMIT, async || {
            let is_known = |head: &Listed| backend.cached(&head.name, &head.revision).is_some();
            heads.iter().all(is_known).then_some(())
        })
        .await?;
        backend.gets.store(0, Ordering::SeqCst);
        let listed = reader.list(None).await?.complete()?;
        let after_list = backend.gets.load(Ordering::SeqCst);
        // A read is as fresh as ever, whatever the watch knows.
        let path = "many/7".parse()?;
        let meta = conformance::meta();
        writer.write(&path, &Value::new(vec![77]), &meta, Precondition::Update).await?;
        let read = reader.read(&path, None).await.map(|secret| secret.version);

        assert_eq!(listed.len(), 40);
        assert_eq!(after_list, 0);
        assert_eq!(read.ok(), Some(2));
        anyhow::Ok(())
    });
}

#[test]
fn a_store_moves_to_a_file_and_into_another_namespace() {
    run(async |cluster: Cluster| {
        let [from, to] =
            [cluster.namespace("move-from").await?, cluster.namespace("move-to").await?];
        let source = KubernetesBackend::new(store_of(&cluster, &from).await?, from.name());
        let target = KubernetesBackend::new(store_of(&cluster, &to).await?, to.name());
        let writer = conformance::unsealed(|| source.clone(), 1).await.remove(0);
        let path = "moved/db".parse()?;
        for byte in [1, 2] {
            let value = Value::new(vec![byte; 1000]);
            writer.write(&path, &value, &conformance::meta(), Precondition::Any).await?;
        }
        let folder = tempfile::tempdir()?;
        let file = FileBackend::open(&folder.path().join("store"))?;

        migrate::copy(&source, &file, |_| {}).await?;
        let copied = migrate::copy(&file, &target, |_| {}).await?;

        assert_eq!(copied.done, 4, "two versions, a head and the keyring");
        let reader = conformance::unsealed(|| target.clone(), 1).await.remove(0);
        for version in [1_u8, 2] {
            let secret = reader.read(&path, Some(version.into())).await?;
            assert_eq!(secret.value.expose_secret(), vec![version; 1000]);
        }
        anyhow::Ok(())
    });
}

/// The store's own user, who may have records in this namespace.
async fn store_of(cluster: &Cluster, namespace: &Namespace) -> Result<kube::Client> {
    let rules = json!([{
        "apiGroups": ["watchword.dev"], "resources": ["sealedrecords"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }]);
    namespace.grant("records", &rules).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "store"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "records"},
        "subjects": [
            {"kind": "ServiceAccount", "name": names::STORE, "namespace": names::NAMESPACE},
        ],
    });
    namespace.apply(&binding.to_string()).await?;
    let user = format!("system:serviceaccount:{}:{}", names::NAMESPACE, names::STORE);
    cluster.client_as(&user, &["system:authenticated"]).await
}

/// A back end that counts how often it is asked for an object.
struct Counting {
    backend: KubernetesBackend,
    gets: AtomicUsize,
}

impl Backend for Counting {
    fn is_current(&self, name: &ObjectName, revision: &Revision) -> bool {
        self.backend.is_current(name, revision)
    }

    fn cached(&self, name: &ObjectName, revision: &Revision) -> Option<std::sync::Arc<[u8]>> {
        self.backend.cached(name, revision)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.backend.get(name).await
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        self.backend.create(name, bytes).await
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        self.backend.replace(name, bytes, revision).await
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        self.backend.delete(name, revision).await
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        self.backend.list(kind).await
    }
}

const CACHE_BYTES: usize = 16 * 1024 * 1024;
