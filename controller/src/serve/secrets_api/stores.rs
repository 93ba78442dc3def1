//! Stores and their health: `ping`, `store`.
//!
//! There is one store, `default`, as in DC/OS, and one driver. It can be neither made again nor
//! deleted through the API, and a further one cannot be made; each is refused with its reason, to
//! those who would have the right.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use watchword_protocol::ErrorCode;

use super::representation::NO_STORE;
use super::target::known_store;
use crate::serve::audit::{self, Decision, Event};
use crate::serve::authenticate;
use crate::serve::authorize::{self, AdminVerb};
use crate::serve::{Failure, Service};

/// `GET /secrets/v1/ping`: whoever is known to the cluster hears that somebody is there.
pub(super) async fn ping(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<&'static str, Failure> {
    authenticate::person(&service, Event::Status, &request.into_parts().0).await?;
    Ok(PONG)
}

/// `GET /secrets/v1/ping/backends/{backend}`, also for `all`: whether secrets can be had.
pub(super) async fn ping_backend(
    State(service): State<Arc<Service>>,
    Path(backend): Path<String>,
    request: Request,
) -> Result<&'static str, Failure> {
    authenticate::person(&service, Event::Status, &request.into_parts().0).await?;
    if backend != ALL {
        known_store(&backend)?;
    }
    let is_initialized = is_initialized(&service).await?;
    if service.store.is_sealed() {
        return Err(sealed(is_initialized));
    }
    Ok(PONG)
}

/// `/secrets/v1/store`: which stores there are.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let backend = administered(&service, request, |_| Ok(())).await?;
    Ok(([NO_STORE], Json(json!({"array": [backend]}))).into_response())
}

/// `/secrets/v1/store/{backend}`: show, create, delete.
pub(super) async fn store(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let backend = administered(&service, request, |method| match *method {
        Method::PUT if name == NAME => {
            Err(Failure::new(ErrorCode::AlreadyExists, "the store `default` already exists"))
        }
        Method::PUT => Err(Failure::new(
            ErrorCode::NotFound,
            "no driver here makes a further store: `default` is the only one",
        )),
        Method::DELETE if name == NAME => Err(Failure::new(
            ErrorCode::Denied,
            "the store `default` cannot be deleted through the API: delete its secrets, or remove \
             Watchword with its namespace",
        )),
        _ => known_store(&name),
    });
    Ok(([NO_STORE], Json(backend.await?)).into_response())
}

/// What is known of the store, for those who may see it and ask for what can be done.
async fn administered(
    service: &Service,
    request: Request,
    check: impl Fn(&Method) -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let (parts, _) = request.into_parts();
    let person = authenticate::person(service, Event::Status, &parts).await?;
    let verb = match parts.method {
        Method::PUT => AdminVerb::Create,
        Method::DELETE => AdminVerb::Delete,
        _ => AdminVerb::Read,
    };
    let outcome = match authorize::administer(service, &person, verb).await {
        Ok(()) => check(&parts.method),
        Err(failure) => Err(failure),
    };
    let described = match outcome {
        Ok(()) => describe(service).await,
        Err(failure) => Err(failure),
    };
    let (decision, failure) = match &described {
        Ok(_) => (Decision::Allowed, None),
        Err(failure) => (audit::decision(failure), Some(failure)),
    };
    service.record_person(&person, Event::Status, decision, (None, None), failure)?;
    described
}

async fn describe(service: &Service) -> Result<Value, Failure> {
    Ok(json!({
        "name": NAME,
        "description": "Watchword's sealed store",
        "driver": DRIVER,
        "initialized": is_initialized(service).await?,
        "sealed": service.store.is_sealed(),
    }))
}

/// Whether there is a keyring.
///
/// # Errors
///
/// `Unavailable` when the back end does not tell.
pub(super) async fn is_initialized(service: &Service) -> Result<bool, Failure> {
    let initialized = service.store.is_initialized().await;
    initialized.map_err(|error| Failure::unavailable("the back end does not answer", &error))
}

/// Says of a store that is not initialised that it is not, rather than that it is sealed.
pub(in crate::serve) async fn explain(service: &Service, failure: &mut Failure) {
    if failure.code == ErrorCode::Sealed && matches!(is_initialized(service).await, Ok(false)) {
        *failure = sealed(false);
    }
}

/// What is said while there is no key.
pub(super) fn sealed(is_initialized: bool) -> Failure {
    let message = match is_initialized {
        true => "the store is sealed",
        false => "the store is sealed: it is not initialized yet",
    };
    Failure::new(ErrorCode::Sealed, message)
}

/// The one store.
const NAME: &str = "default";

/// What stands in the place of DC/OS' `vault`.
const DRIVER: &str = "watchword";

/// Every store, as `ping` names them.
const ALL: &str = "all";

const PONG: &str = "pong";
