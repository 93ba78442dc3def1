//! The rows of the Secrets API for ceremonies: who asks, for which store, what exactly; then the
//! replica that leads does it, which may be this one.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use watchword_crds::names;
use watchword_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::lead::{self, InitAnswer, SealStatus, custody};
use super::operation::{Operation, Reply, Split};
use crate::serve::audit::{Decision, Event, decision};
use crate::serve::authenticate::{self, Person};
use crate::serve::authorize::{self, AdminVerb};
use crate::serve::failure::Failure;
use crate::serve::peer::{Forwarded, PeerError};
use crate::serve::secrets_api::{discard, known_store};
use crate::serve::{Service, detached};

#[cfg(fuzzing)]
pub(in crate::serve) mod fuzzing;

type Handled = Result<Reply, Failure>;

/// `GET /secrets/v1/seal-status/{store}`: open to everyone whom the cluster knows.
pub(in crate::serve) async fn seal_status(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<Json<SealStatus>, Failure> {
    authenticate::person(&service, Event::Status, &request.into_parts().0).await?;
    known_store(&store)?;
    Ok(Json(SealStatus::of(&service).await?))
}

/// `GET /secrets/v1/init/{store}`: the encrypted shares, which stay with the store. Who has a private
/// key can have its share again.
pub(in crate::serve) async fn read_init(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Handled {
    let person = authenticate::person(&service, Event::Status, &request.into_parts().0).await?;
    known_store(&store)?;
    let custody = match authorize::administer(&service, &person, AdminVerb::Init).await {
        Ok(()) => custody(&service).await,
        Err(failure) => Err(failure),
    };
    let (decision, failure) = match &custody {
        Ok(_) => (Decision::Allowed, None),
        Err(failure) => (decision(failure), Some(failure)),
    };
    service.record_person(&person, Event::Status, decision, (None, None), failure)?;
    Ok(Reply::ok(&InitAnswer::new(custody?)))
}

/// `PUT /secrets/v1/init/{store}`
pub(in crate::serve) async fn init(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(state, store, (Event::Init, AdminVerb::Init), request, |split: Option<Split>| {
        Ok(Operation::Init(split.unwrap_or_default()))
    })
    .await
}

/// The body of `unseal`. It has no `Debug`: it holds a share.
#[derive(Deserialize)]
struct UnsealRequest {
    #[serde(default)]
    key: Option<Zeroizing<String>>,
    #[serde(default)]
    reset: bool,
}

/// `PUT /secrets/v1/unseal/{store}`
pub(in crate::serve) async fn unseal(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Unseal, AdminVerb::Unseal),
        request,
        |body: Option<UnsealRequest>| match body {
            Some(UnsealRequest { reset: true, .. }) => Ok(Operation::ResetShares),
            Some(UnsealRequest { key: Some(key), .. }) if !key.is_empty() => {
                Ok(Operation::GiveShare(key))
            }
            _ => Err(Failure::new(
                ErrorCode::BadRequest,
                "'key' must be specified in request body as JSON, or 'reset' set to true",
            )),
        },
    )
    .await
}

/// The body of `auto-unseal`.
#[derive(Deserialize)]
struct AutoUnsealRequest {
    #[serde(default)]
    key: Option<Zeroizing<String>>,
}

/// `PUT /secrets/v1/auto-unseal/{store}`
pub(in crate::serve) async fn auto_unseal(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Unseal, AdminVerb::Unseal),
        request,
        |body: Option<AutoUnsealRequest>| Ok(Operation::AutoUnseal(body.and_then(|body| body.key))),
    )
    .await
}

/// `PUT /secrets/v1/seal/{store}`
pub(in crate::serve) async fn seal(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(state, store, (Event::Seal, AdminVerb::Seal), request, ignoring_body(|| Operation::Seal))
        .await
}

/// `GET /secrets/v1/rekey/{store}`
pub(in crate::serve) async fn rekey_status(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Status, AdminVerb::Rekey),
        request,
        ignoring_body(|| Operation::RekeyStatus),
    )
    .await
}

/// `PUT /secrets/v1/rekey/{store}`
pub(in crate::serve) async fn start_rekey(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(state, store, (Event::Rekey, AdminVerb::Rekey), request, |split: Option<Split>| {
        Ok(Operation::StartRekey(split.unwrap_or_default()))
    })
    .await
}

/// The body of the end of a rekeying.
#[derive(Default, Deserialize)]
struct CancelRekeyRequest {
    #[serde(default)]
    nonce: String,
}

/// `DELETE /secrets/v1/rekey/{store}`
pub(in crate::serve) async fn cancel_rekey(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Rekey, AdminVerb::Rekey),
        request,
        |body: Option<CancelRekeyRequest>| {
            Ok(Operation::CancelRekey { nonce: body.unwrap_or_default().nonce })
        },
    )
    .await
}

/// The body of a share towards a rekeying. It has no `Debug`: it holds a share.
#[derive(Deserialize)]
struct RekeyShareRequest {
    #[serde(default)]
    key: Zeroizing<String>,
    #[serde(default)]
    nonce: String,
}

/// `PUT /secrets/v1/rekey/{store}/share`
pub(in crate::serve) async fn give_rekey_share(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Rekey, AdminVerb::Rekey),
        request,
        |body: Option<RekeyShareRequest>| match body {
            Some(RekeyShareRequest { key, nonce }) if !key.is_empty() => {
                Ok(Operation::GiveRekeyShare { key, nonce })
            }
            _ => Err(Failure::new(
                ErrorCode::BadRequest,
                "'key' and 'nonce' must be specified in request body as JSON",
            )),
        },
    )
    .await
}

/// The body of `rotate`.
#[derive(Default, Deserialize)]
struct RotateRequest {
    #[serde(default)]
    retire: bool,
}

/// `PUT /secrets/v1/rotate/{store}`
pub(in crate::serve) async fn rotate(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Rotate, AdminVerb::Rotate),
        request,
        |body: Option<RotateRequest>| {
            Ok(Operation::Rotate { retire: body.unwrap_or_default().retire })
        },
    )
    .await
}

/// `GET /secrets/v1/rotate/{store}`
pub(in crate::serve) async fn rotate_status(
    state: State<Arc<Service>>,
    store: Path<String>,
    request: Request,
) -> Handled {
    handle(
        state,
        store,
        (Event::Status, AdminVerb::Rotate),
        request,
        ignoring_body(|| Operation::RotateStatus),
    )
    .await
}

fn ignoring_body(
    operation: impl Fn() -> Operation,
) -> impl Fn(Option<serde::de::IgnoredAny>) -> Result<Operation, Failure> {
    move |_| Ok(operation())
}

/// Who asks, for which store, whether they may, and what; and then to the end, whether or not the
/// client stays. The replica that leads asks once more whether they may: it takes another's word on
/// who somebody is, and on nothing else. This one asks so that nobody else has a body read, or sent
/// on.
async fn handle<T: DeserializeOwned>(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    (event, verb): (Event, AdminVerb),
    request: Request,
    operation: impl FnOnce(Option<T>) -> Result<Operation, Failure>,
) -> Handled {
    let (parts, body) = request.into_parts();
    let person = authenticate::person(&service, event, &parts).await?;
    known_store(&store)?;
    if let Err(failure) = authorize::administer(&service, &person, verb).await {
        // Who does not send the rest of the body has a line all the same.
        service.record_person(&person, event, decision(&failure), (None, None), Some(&failure))?;
        discard(body).await;
        return Err(failure);
    }
    let extensions = parts.extensions.clone();
    let operation = operation(parse(Request::from_parts(parts, body)).await?)?;
    detached(&extensions, async move { submit(&service, &person, operation).await }).await
}

/// The body, which may be absent; axum takes at most 2 MiB of it, enough for 255 OpenPGP keys.
async fn parse<T: DeserializeOwned>(request: Request) -> Result<Option<T>, Failure> {
    let bad = |text: &str| Failure::new(ErrorCode::BadRequest, text);
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        bad("the body is too large or was cut off").with_status(rejection.status())
    })?;
    if body.is_empty() {
        return Ok(None);
    }
    let media = content_type.as_ref().and_then(|value| value.to_str().ok());
    let media = media.and_then(|value| value.split(';').next()).map(str::trim);
    if media.is_some_and(|media| !media.eq_ignore_ascii_case("application/json")) {
        return Err(bad("the Content-Type must be application/json"));
    }
    // The parser's message could quote a share: it is dropped.
    serde_json::from_slice(&body).map_err(|_| bad("the body is not the JSON that is asked for"))
}

/// Has it done by the replica that leads.
async fn submit(service: &Arc<Service>, person: &Person, operation: Operation) -> Handled {
    if service.seal.leads() {
        return lead::perform(service, person, operation).await;
    }
    let nobody = || Failure::new(ErrorCode::Unavailable, NOBODY);
    let peers = &service.seal.peers;
    let leases: Api<Lease> = Api::namespaced(service.client.clone(), peers.namespace());
    let lease = leases.get_opt(names::STORE).await.map_err(|error| {
        Failure::unavailable("cannot find out which replica runs the ceremonies", &error)
    })?;
    let holder = lease.and_then(|lease| lease.spec?.holder_identity).ok_or_else(nobody)?;
    let replicas = peers.replicas().await;
    let replicas = replicas.map_err(|error| Failure::unavailable("cannot find it", &error))?;
    let leader = replicas.others.iter().find(|peer| peer.name == holder).ok_or_else(nobody)?;
    let reply = peers.forward(leader, &Forwarded { person: person.clone(), operation }).await;
    reply.map(Reply::from_wire).map_err(|error| match error {
        // It has yet to begin, or has ceased. Nothing was done.
        PeerError::Refused { .. } => Failure::unavailable(NOBODY, &error),
        error => Failure::unavailable(
            "the replica that runs the ceremonies cannot be reached; try again in some seconds",
            &error,
        ),
    })
}

/// What is said while there is nobody to do what is asked for.
const NOBODY: &str = "no replica runs the ceremonies at the moment; try again in some seconds";
