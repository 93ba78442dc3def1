//! `GET /secrets/v1/backup/{store}` and `PUT /secrets/v1/restore/{store}`: all of the store as one
//! stream of ciphertext. Neither needs the key, so both work while the store is sealed.
//!
//! A backup that breaks off breaks the connection off, and its last bytes are missing: nobody takes
//! it for whole. A restore goes into a store that is not initialised, and counts once its last
//! object is there; one that breaks off can be repeated. One of either runs at a time in a replica.
//! Both may take as long as they move on.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::channel::mpsc::{self, SendError, Sender};
use futures::{SinkExt, StreamExt, future};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;
use watchword_protocol::ErrorCode;
use watchword_store::archive::{self, ReadArchiveError, WriteArchiveError};

use super::representation::{Media, NO_STORE, discard};
use super::stores;
use super::target::known_store;
use crate::chain::Chain;
use crate::listen::Patience;
use crate::serve::audit::{self, Decision, Event};
use crate::serve::authenticate::{self, Person};
use crate::serve::authorize::{self, AdminVerb};
use crate::serve::place::Filling;
use crate::serve::{Failure, Service, detached};

/// `GET /secrets/v1/backup/{store}`
pub(super) async fn backup(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let event = Event::Backup;
    let person = authenticate::person(&service, event, &parts).await?;
    let place = match may_back_up(&service, &person, &store).await {
        Ok(place) => place,
        Err(failure) => {
            record(&service, &person, event, Err(&failure))?;
            return Err(failure);
        }
    };
    service.record_person(&person, event, Decision::Attempted, (None, None), None)?;
    let (pieces, body) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(write(service, person, pieces, place));
    let media = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(([media, NO_STORE], Body::from_stream(body)).into_response())
}

async fn may_back_up(service: &Service, person: &Person, store: &str) -> Result<Place, Failure> {
    authorize::administer(service, person, AdminVerb::Backup).await?;
    known_store(store)?;
    match stores::is_initialized(service).await? {
        true => take_place(service),
        false => Err(stores::sealed(false)),
    }
}

/// Writes the backup into the body of the answer, and what became of it into the audit log.
async fn write(
    service: Arc<Service>,
    person: Arc<Person>,
    mut pieces: Sender<Result<Bytes, io::Error>>,
    _place: Place,
) {
    let sink = pieces
        .clone()
        .with(|piece: Vec<u8>| future::ready(Ok::<_, SendError>(Ok(Bytes::from(piece)))));
    let written = archive::write(service.store.backend(), sink).await;
    let written = written.map(drop).map_err(|error| {
        warn!(error = %Chain(&error), "a backup broke off");
        write_failure(&error)
    });
    let recorded = record(&service, &person, Event::Backup, written.as_ref().map(|&()| ()));
    // Without its line it is not given out whole.
    if let Err(failure) = written.and(recorded) {
        let broken = Err(io::Error::other(failure.message));
        pieces.send(broken).await.ok();
    }
}

/// `PUT /secrets/v1/restore/{store}`
pub(super) async fn restore(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<StatusCode, Failure> {
    let (parts, body) = request.into_parts();
    let person = authenticate::person(&service, Event::Restore, &parts).await?;
    let place = match may_restore(&service, &person, &store, &parts).await {
        Ok(place) => place,
        Err(failure) => {
            record(&service, &person, Event::Restore, Err(&failure))?;
            // Who waits for a word before sending gigabytes has it now.
            if !parts.headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            return Err(failure);
        }
    };
    let moves = Patience::steps(&parts.extensions, PIECE_LIMIT);
    detached(&parts.extensions, read(service, person, body, moves, place)).await
}

async fn may_restore(
    service: &Service,
    person: &Person,
    store: &str,
    request: &Parts,
) -> Result<Place, Failure> {
    authorize::administer(service, person, AdminVerb::Restore).await?;
    known_store(store)?;
    if Media::of_body(&request.headers).ok() != Some(Media::Bytes) {
        let message = "the Content-Type of a backup must be application/octet-stream";
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    if stores::is_initialized(service).await? {
        return Err(read_failure(&ReadArchiveError::AlreadyInitialized));
    }
    let claimed = service.place.claim(service.settings().as_deref(), Filling::Copy).await;
    claimed.map_err(|error| error.failure())?;
    take_place(service)
}

async fn read(
    service: Arc<Service>,
    person: Arc<Person>,
    body: Body,
    moves: impl Fn() + Send,
    _place: Place,
) -> Result<StatusCode, Failure> {
    service.record_person(&person, Event::Restore, Decision::Attempted, (None, None), None)?;
    moves();
    let pieces = body.into_data_stream().inspect(|_| moves());
    let restored = archive::read(service.store.backend(), pieces).await;
    let restored = restored.map(drop).map_err(|error| read_failure(&error));
    record(&service, &person, Event::Restore, restored.as_ref().map(|&()| ()))?;
    restored.map(|()| StatusCode::NO_CONTENT)
}

/// The one place for a backup or a restore; free again when this is dropped.
type Place = OwnedSemaphorePermit;

fn take_place(service: &Service) -> Result<Place, Failure> {
    Arc::clone(&service.archives).try_acquire_owned().map_err(|_| {
        Failure::new(ErrorCode::Conflict, "another backup or restore is running: wait for its end")
    })
}

fn record(
    service: &Service,
    person: &Person,
    event: Event,
    outcome: Result<(), &Failure>,
) -> Result<(), Failure> {
    let (decision, failure) = match outcome {
        Ok(()) => (Decision::Allowed, None),
        Err(failure) => (audit::decision(failure), Some(failure)),
    };
    service.record_person(person, event, decision, (None, None), failure)
}

fn write_failure(error: &WriteArchiveError) -> Failure {
    let code = match error {
        WriteArchiveError::Contended { .. } | WriteArchiveError::KeyringChanged => {
            ErrorCode::Conflict
        }
        WriteArchiveError::Record(_) => ErrorCode::Internal,
        _ => ErrorCode::Unavailable,
    };
    Failure::new(code, Chain(error).to_string())
}

fn read_failure(error: &ReadArchiveError) -> Failure {
    match error {
        ReadArchiveError::AlreadyInitialized => Failure::new(
            ErrorCode::AlreadyExists,
            "a store already exists here: a backup can be restored into an empty one only",
        ),
        ReadArchiveError::Backend(_) => Failure::unavailable("cannot restore; try again", error),
        ReadArchiveError::Newer { .. } | ReadArchiveError::Strangers { .. } => {
            Failure::new(ErrorCode::Conflict, Chain(error).to_string())
        }
        ReadArchiveError::Parse(_) => Failure::new(ErrorCode::BadRequest, Chain(error).to_string()),
        ReadArchiveError::Source(_) => {
            Failure::new(ErrorCode::BadRequest, "the backup was cut off on its way")
        }
    }
}

/// How many objects wait for a client that reads slowly.
const PIECES_AHEAD: usize = 4;

/// How long a restore may take for each piece that comes, of some hundred KiB at most: the records in
/// it are written, and a back end that is busy may take its time.
const PIECE_LIMIT: std::time::Duration = std::time::Duration::from_mins(5);
