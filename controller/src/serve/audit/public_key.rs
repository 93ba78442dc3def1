//! `GET /secrets/v1/audit/{store}`: the key to verify the audit log with. It is public; that asking
//! takes a right of its own keeps it with those who are asked for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde_json::{Value, json};
use watchword_protocol::ErrorCode;

use super::{Decision, Event, decision};
use crate::serve::authenticate;
use crate::serve::authorize::{self, AdminVerb};
use crate::serve::secrets_api::known_store;
use crate::serve::{Failure, Service};

/// Answers with the public key.
///
/// # Errors
///
/// `Denied`; `Sealed`, if the store has not been open since this replica started.
pub(in crate::serve) async fn public_key(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (parts, _) = request.into_parts();
    let person = authenticate::person(&service, Event::PublicKey, &parts).await?;
    let allowed = match authorize::administer(&service, &person, AdminVerb::Audit).await {
        Ok(()) => known_store(&store),
        Err(failure) => Err(failure),
    };
    let key = allowed.and_then(|()| {
        let key = service.audit.public_key();
        key.ok_or_else(|| Failure::new(ErrorCode::Sealed, "the store is sealed"))
    });
    let (decision, failure) = match &key {
        Ok(_) => (Decision::Allowed, None),
        Err(failure) => (decision(failure), Some(failure)),
    };
    service.record_person(&person, Event::PublicKey, decision, (None, None), failure)?;
    Ok(Json(json!({"public_key": key?.to_string()})))
}
