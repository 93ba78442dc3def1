//! `POST /v1/check`: the controller asks whether a revision's references could be read.
//!
//! The answer says for each reference where it goes, its version, or what stands in the way; never
//! a value, and nothing about secrets that the revision may not have.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::request::Parts;
use kube::api::Api;
use watchword_core::reference::{Picked, SecretName};
use watchword_core::revision;
use watchword_core::wanted::{SecretSource, Wanted, secrets_of};
use watchword_crds::task_revision::{TaskRevision, TaskRevisionSpec};
use watchword_protocol::{CheckAnswer, CheckRequest, CheckedReference, ErrorCode, VERSION};

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

/// What becomes of each reference, in their order, once for each. A secret is read once, however many
/// of its keys are referred to.
async fn references(
    service: &Service,
    namespace: &str,
    revision: &TaskRevisionSpec,
) -> Vec<CheckedReference> {
    let permit = permit(service, namespace, revision).await;
    let wanted: Vec<_> = revision.tasks.iter().map(secrets_of).collect();
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    let mut references: BTreeMap<&SecretName, Vec<(usize, Option<&str>)>> = BTreeMap::new();
    for source in wanted.iter().flat_map(Wanted::sources) {
        let (name, key) = match source {
            SecretSource::Reference { name, key } => (name.as_str(), key.as_deref()),
            SecretSource::Inline(_) => ("(inline)", None),
            SecretSource::Invalid { .. } => ("(invalid)", None),
        };
        if !seen.insert((name, key)) {
            continue;
        }
        let judged = permit.as_ref().map_err(Failure::answer);
        let judged =
            judged.and_then(|permit| permit.check(source).map_err(|failure| failure.answer()));
        if let (SecretSource::Reference { name, .. }, Ok(())) = (source, &judged) {
            references.entry(name).or_default().push((checked.len(), key));
        }
        checked.push(CheckedReference {
            name: name.to_owned(),
            key: key.map(ToOwned::to_owned),
            resolver: permit
                .as_ref()
                .map_or_else(|_| String::new(), |one| one.resolver_name.clone()),
            version: None,
            error: judged.err(),
        });
    }
    if let Ok(permit) = &permit {
        for (name, places) in references {
            look_up(service, permit, name, places, &mut checked).await;
        }
    }
    for one in &mut checked {
        let name = &one.name;
        one.error.iter_mut().for_each(|error| error.reference = Some(name.clone()));
    }
    checked
}

/// Finds out the version of a secret for each reference to it, or what stands in the way.
async fn look_up(
    service: &Service,
    permit: &Permit,
    name: &SecretName,
    places: Vec<(usize, Option<&str>)>,
    checked: &mut [CheckedReference],
) {
    let resolved = match permit.resolver.resolve(&service.store, name).await {
        Ok(resolved) => resolved,
        Err(failure) => {
            places.iter().for_each(|(place, _)| checked[*place].error = Some(failure.answer()));
            return;
        }
    };
    let picked = Picked::of(&resolved.value, places.iter().filter_map(|(_, key)| *key));
    for (place, key) in places {
        let error = picked.get(key).err().map(|error| {
            Failure::new(ErrorCode::Invalid, format!("cannot use secret `{name}`: {error}"))
        });
        let one = &mut checked[place];
        match error {
            None => one.version = resolved.version,
            Some(failure) => one.error = Some(failure.answer()),
        }
    }
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
