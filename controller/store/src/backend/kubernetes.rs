//! The Kubernetes back end: one SealedRecord object per sealed object, in one namespace.
//!
//! etcd is the engine underneath. A `get` without a resource version is a quorum read, so it sees
//! whatever any replica was told is written; `replace` and `delete` carry the resource version, so
//! of two writers one loses; and resource versions never come back. Lists ask for metadata only, in
//! pages, selected by the label `watchword.dev/record`, which holds the kind. The label is only for
//! lists: what an object is, its sealed header says.
//!
//! Concurrent reads of one head share requests that began after they asked. With
//! [`KubernetesBackend::watching`], a watch of the heads spares lists one request per secret
//! and is never asked what is newest.
//!
//! The client should not retry by itself (`Config::default_retry = false`): the store tells a lost
//! answer from a lost race, and callers know how long they can wait. Every request has 10 seconds.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use watchword_crds::{SealedRecord, SealedRecordSpec};

use self::cache::Cache;
use self::shared::Shared;
use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

mod cache;
mod shared;

/// Objects in one namespace of a cluster.
#[derive(Clone)]
pub struct KubernetesBackend {
    api: Api<SealedRecord>,
    cache: Option<Arc<Cache>>,
    shared: Arc<Shared>,
}

impl KubernetesBackend {
    /// Objects in `namespace`, reached through `client`, which needs the verbs create, delete, get,
    /// list and update on `sealedrecords.watchword.dev` there.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), cache: None, shared: Arc::default() }
    }

    /// The same, with a watch of the heads, which needs the verb watch too and a tokio runtime, and
    /// keeps `capacity` bytes of them in memory at most.
    pub fn watching(client: Client, namespace: &str, capacity: usize) -> Self {
        let backend = Self::new(client, namespace);
        let cache = Cache::follow(backend.api.clone(), capacity);
        Self { cache: Some(Arc::new(cache)), ..backend }
    }

    async fn fetch(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        match within("get", self.api.get(name.as_str())).await? {
            Ok(object) => stored(name, &object).map(Some),
            Err(kube::Error::Api(status)) if is_absent(&status, name) => Ok(None),
            Err(kube::Error::SerdeError(error)) => Err(BackendError::Malformed {
                name: name.clone(),
                // The message alone: an excerpt of the answer says nothing to people.
                detail: format!("the object does not parse (line {})", error.line()),
            }),
            Err(error) => Err(failure("get", name, error)),
        }
    }
}

impl Backend for KubernetesBackend {
    // Other replicas write too, and a watch would tell of it too late.
    fn is_current(&self, _name: &ObjectName, _revision: &Revision) -> bool {
        false
    }

    fn cached(&self, name: &ObjectName, revision: &Revision) -> Option<Arc<[u8]>> {
        self.cache.as_ref()?.get(name, revision)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        match name.kind() {
            // A megabyte is not copied for everybody; and the store keeps versions itself.
            ObjectKind::Version => self.fetch(name).await,
            _ => self.shared.get(name, || self.fetch(name)).await,
        }
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        let object = sealed_record(name, bytes);
        let made = within("create", self.api.create(&PostParams::default(), &object)).await?;
        let made = made.map_err(|error| failure("create", name, error))?;
        revision(name, &made.metadata)
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        expected: &Revision,
    ) -> Result<Revision, BackendError> {
        let mut object = sealed_record(name, bytes);
        object.metadata.resource_version = Some(expected.to_string());
        let parameters = PostParams::default();
        let request = self.api.replace(name.as_str(), &parameters, &object);
        match within("replace", request).await? {
            Ok(object) => revision(name, &object.metadata),
            // Gone is changed too.
            Err(kube::Error::Api(status)) if is_absent(&status, name) => {
                Err(BackendError::Conflict { name: name.clone() })
            }
            Err(error) => Err(failure("replace", name, error)),
        }
    }

    async fn delete(
        &self,
        name: &ObjectName,
        expected: Option<&Revision>,
    ) -> Result<(), BackendError> {
        let parameters = DeleteParams {
            preconditions: expected.map(|expected| Preconditions {
                resource_version: Some(expected.to_string()),
                uid: None,
            }),
            ..DeleteParams::default()
        };
        match within("delete", self.api.delete(name.as_str(), &parameters)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if is_absent(&status, name) => Ok(()),
            Err(error) => Err(failure("delete", name, error)),
        }
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        let selector = format!("{KIND_LABEL}={}", kind.as_str());
        let mut parameters = ListParams::default().labels(&selector).limit(PAGE);
        let mut listed = Vec::new();
        loop {
            let page =
                within("list", self.api.list_metadata(&parameters)).await?.map_err(|error| {
                    match error {
                        // A page came too late; the whole list has to be asked for again.
                        kube::Error::Api(status) if status.code == 410 => {
                            BackendError::Unavailable { operation: "list", source: status.into() }
                        }
                        error => failure("list", &ObjectName::keyring(), error),
                    }
                })?;
            for object in &page.items {
                let name = ObjectName::parse(&object.name_any());
                if let Some(name) = name.filter(|name| name.kind() == kind) {
                    let revision = revision(&name, &object.metadata)?;
                    listed.push(Listed { name, revision });
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                None => return Ok(listed),
                Some(token) => parameters.continue_token = Some(token),
            }
        }
    }
}

/// The bytes and the revision of an object.
fn stored(name: &ObjectName, object: &SealedRecord) -> Result<Stored, BackendError> {
    let bytes = STANDARD.decode(&object.spec.record).map_err(|error| BackendError::Malformed {
        name: name.clone(),
        detail: error.to_string(),
    })?;
    Ok(Stored { bytes, revision: revision(name, &object.metadata)? })
}

fn sealed_record(name: &ObjectName, bytes: &[u8]) -> SealedRecord {
    let mut object =
        SealedRecord::new(name.as_str(), SealedRecordSpec { record: STANDARD.encode(bytes) });
    object.labels_mut().insert(KIND_LABEL.to_owned(), name.kind().as_str().to_owned());
    object
}

/// Bounds a request in time; a request that is given up may still be carried out.
async fn within<T>(
    operation: &'static str,
    request: impl Future<Output = T>,
) -> Result<T, BackendError> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .map_err(|elapsed| BackendError::Unavailable { operation, source: Box::new(elapsed) })
}

/// Whether it is this object that does not exist, rather than the kind of objects, for which an
/// API server without our CRD answers 404 as well.
fn is_absent(status: &Status, name: &ObjectName) -> bool {
    status.code == 404
        && status.reason == "NotFound"
        && status.details.as_ref().is_some_and(|details| details.name == name.as_str())
}

fn failure(operation: &'static str, name: &ObjectName, error: kube::Error) -> BackendError {
    match error {
        kube::Error::Api(status) => match status.code {
            409 => BackendError::Conflict { name: name.clone() },
            400..=428 | 430..=499 => BackendError::Refused { operation, source: status.into() },
            _ => BackendError::Unavailable { operation, source: status.into() },
        },
        error => BackendError::Unavailable { operation, source: error.into() },
    }
}

fn revision(name: &ObjectName, metadata: &ObjectMeta) -> Result<Revision, BackendError> {
    match &metadata.resource_version {
        Some(version) => Ok(Revision(version.as_str().into())),
        None => Err(BackendError::Malformed {
            name: name.clone(),
            detail: "the object has no resource version".to_owned(),
        }),
    }
}

/// The label with the kind of the object.
const KIND_LABEL: &str = "watchword.dev/record";

/// Metadata of an object is some 600 bytes: a page is about 300 KB.
const PAGE: u32 = 500;

/// A create of the largest record took 0.3 s on a small machine; an API server that needs ten is
/// not there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
