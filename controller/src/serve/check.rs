//! `POST /v1/check`: the controller asks whether a revision's references could be read.
//!
//! The answer says for each reference where it goes, its version, or what stands in the way; never
//! a value, and nothing about secrets that the revision may not have.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::request::Parts;
use kube::api::Api;
use watchword_core::reference::pick;
use watchword_core::revision;
use watchword_core::wanted::{SecretSource, secrets_of};
use watchword_crds::task_revision::{TaskRevision, TaskRevisionSpec};
use watchword_protocol::{
    CheckAnswer, CheckRequest, CheckedReference, ErrorAnswer, ErrorCode, VERSION,
};

use super::audit::Event;
use super::failure::Failure;
use super::lineage::Tenant;
use super::permit::Permit;
use super::{Service, authenticate};

/// Answers the controller.
///
/// # Errors
///
/// Whoever asks is not the controller, or the revision cannot be had.
pub(super) async fn check(
    State(service): State<Arc<Service>>,
    request: Parts,
    body: Bytes,
) -> Result<Json<CheckAnswer>, Failure> {
    if let Err(failure) = authenticate::controller(&service, &request).await {
        service.record_stranger(Event::Check, None, &failure)?;
        return Err(failure);
    }
    service.guarded()?;
    let bad = |message: String| Failure::new(ErrorCode::BadRequest, message);
    let request: CheckRequest = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("this is not a check request: {error}")))?;
    if request.version != VERSION {
        return Err(bad(format!("version {VERSION} of the protocol is wanted")));
    }
    let CheckRequest { version: _, namespace, revision: name } = request;
    let api: Api<TaskRevision> = Api::namespaced(service.client.clone(), &namespace);
    let revision = api
        .get_opt(&name)
        .await
        .map_err(|error| Failure::unavailable("cannot read the revision", &error))?
        .filter(|found| revision::is_genuine(&name, &found.spec))
        .ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("there is no revision `{name}`"))
        })?;
    if service.store.is_sealed() {
        return Err(Failure::new(ErrorCode::Sealed, "the store is sealed"));
    }
    Ok(Json(CheckAnswer { references: references(&service, &namespace, &revision.spec).await }))
}

async fn references(
    service: &Service,
    namespace: &str,
    revision: &TaskRevisionSpec,
) -> Vec<CheckedReference> {
    let permit = permit(service, namespace, revision).await;
    let mut checked: Vec<CheckedReference> = Vec::new();
    for wanted in revision.tasks.iter().map(secrets_of) {
        for source in wanted.sources() {
            let (name, key) = match source {
                SecretSource::Reference { name, key } => (name.to_string(), key.clone()),
                SecretSource::Inline(_) => ("(inline)".to_owned(), None),
                SecretSource::Invalid { .. } => ("(invalid)".to_owned(), None),
            };
            if checked.iter().any(|one| one.name == name && one.key == key) {
                continue;
            }
            let (resolver, outcome) = match &permit {
                Err(failure) => (String::new(), Err(failure.answer())),
                Ok(permit) => {
                    let outcome = version(service, permit, source).await;
                    (permit.resolver_name.clone(), outcome.map_err(|failure| failure.answer()))
                }
            };
            let (version, error) = match outcome {
                Ok(version) => (version, None),
                Err(error) => (None, Some(error)),
            };
            let error = error.map(|error| ErrorAnswer { reference: Some(name.clone()), ..error });
            checked.push(CheckedReference { name, key, resolver, version, error });
        }
    }
    checked
}

async fn permit(
    service: &Service,
    namespace: &str,
    revision: &TaskRevisionSpec,
) -> Result<Permit, Failure> {
    let tenant = Tenant::of(service, namespace).await?;
    let permit = Permit::of(service, &tenant, revision)?;
    // Nothing is released by a check, so nothing is recorded either.
    let _heir = tenant.judge(service).await?;
    Ok(permit)
}

async fn version(
    service: &Service,
    permit: &Permit,
    source: &SecretSource,
) -> Result<Option<u64>, Failure> {
    permit.check(source)?;
    let SecretSource::Reference { name, key } = source else { return Ok(None) };
    let resolved = permit.resolver.resolve(&service.store, name).await?;
    pick(&resolved.value, key.as_deref()).map_err(|error| {
        Failure::new(ErrorCode::Invalid, format!("cannot use secret `{name}`: {error}"))
    })?;
    Ok(resolved.version)
}
