//! `GET /secrets/v1/verify/{store}`: every record opened and thrown away, and what is known of each
//! without its path. Compared with the audit log it shows what was put back past the store. Versions
//! are nine tenths of all records and no part of that comparison: those that are sound are counted
//! and have no entry, or the answer would be too long to be taken in.
//!
//! A record that is damaged gets a line in the audit log, which names it.

use std::pin::pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use watchword_protocol::ErrorCode;
use watchword_store::{ObjectKind, Verified, VerifyError};

use super::{Decision, Event, decision};
use crate::listen::Patience;
use crate::serve::authenticate::{self, Person};
use crate::serve::authorize::{self, AdminVerb};
use crate::serve::secrets_api::known_store;
use crate::serve::{Failure, STEP_LIMIT, Service};

/// Answers with what every record is, or how many there are of those with nothing to tell.
///
/// # Errors
///
/// `Denied`, `Sealed`, or the back end is out of reach.
pub(in crate::serve) async fn verify(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let person = authenticate::person(&service, Event::Verify, &parts).await?;
    let outcome = match authorize::administer(&service, &person, AdminVerb::Verify).await {
        Ok(()) => {
            let moves = Patience::steps(&parts.extensions, STEP_LIMIT);
            run(&service, &person, &store, moves).await
        }
        Err(failure) => Err(failure),
    };
    let (decision, failure) = match &outcome {
        Ok(_) => (Decision::Allowed, None),
        Err(failure) => (decision(failure), Some(failure)),
    };
    service.record_person(&person, Event::Verify, decision, (None, None), failure)?;
    outcome
}

async fn run(
    service: &Service,
    person: &Person,
    store: &str,
    moves: impl Fn(),
) -> Result<Response, Failure> {
    known_store(store)?;
    moves();
    // What is written from now on may or may not be in the answer.
    let time = Timestamp::now();
    let mut stream = pin!(service.store.verify().await.map_err(|error| failure(&error))?);
    let mut objects: Vec<Verified> = Vec::new();
    let mut sound_versions: u64 = 0;
    while let Some(object) = stream.next().await {
        moves();
        let object =
            object.map_err(|error| Failure::unavailable("cannot verify the store", &error))?;
        if let Some(damage) = &object.damage {
            let failure = Failure {
                record: Some(object.object.to_string()),
                ..Failure::new(ErrorCode::Internal, damage)
            };
            let failed = Some(&failure);
            service.record_person(person, Event::Verify, Decision::Failed, (None, None), failed)?;
        }
        match object.damage.is_none() && object.object.kind() == ObjectKind::Version {
            true => sound_versions += 1,
            false => objects.push(object),
        }
    }
    let answer = json!({"time": time, "objects": objects, "sound_versions": sound_versions});
    Ok(Json(answer).into_response())
}

fn failure(error: &VerifyError) -> Failure {
    match error {
        VerifyError::Sealed => Failure::new(ErrorCode::Sealed, "the store is sealed"),
        VerifyError::Access(_) => Failure::unavailable("cannot verify the store", error),
    }
}
