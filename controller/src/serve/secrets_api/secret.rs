//! Secrets: create, read, update, delete, list, versions, roll back; and the leases of DC/OS.
//!
//! A secret here has no lease: it is there until it is deleted. So `renew` has nothing to prolong
//! and `revoke` nothing to end, as in Vault for a secret that was written by hand. Both answer 204
//! for a secret that is there, as DC/OS 2.1 documents it, and change nothing.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use watchword_protocol::ErrorCode;
use watchword_store::{
    AccessError, ContentType, DeleteError, ListError, Listing, Meta, Precondition, SecretPath,
    WriteError,
};

use super::condition::{Tag, etag};
use super::operation::{Action, Endpoint, Operation};
use super::representation::{self, Given};
use super::stores;
use crate::chain::Chain;
use crate::listen::{Patience, Peer};
use crate::resolvers::read_failure;
use crate::serve::audit::{self, Decision};
use crate::serve::authenticate::{self, Person};
use crate::serve::authorize::{self, Grant};
use crate::serve::budget::Share;
use crate::serve::{Failure, STEP_LIMIT, Service, detached, lineage};

/// Everything under `/secrets/v1/secret/{store}`.
pub(super) async fn secret(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    answer(service, Endpoint::Secret, request).await
}

/// `PUT /secrets/v1/renew/{store}/{path}`
pub(super) async fn renew(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    answer(service, Endpoint::Renew, request).await
}

/// `PUT /secrets/v1/revoke/{store}/{path}`
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    answer(service, Endpoint::Revoke, request).await
}

async fn answer(
    service: Arc<Service>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let (person, operation) = match understand(&service, endpoint, &parts).await {
        Ok(understood) => understood,
        Err(failure) => {
            representation::discard(body).await;
            return Err(failure);
        }
    };
    let is_change = operation.is_change();
    let call = Call { service, person, operation };
    match is_change {
        // What has been done must be written down, also when the client goes away meanwhile.
        true => {
            let extensions = parts.extensions.clone();
            detached(&extensions, async move { call.answer(&parts, body).await }).await
        }
        // Nothing has left before its line is written, so such a request may simply end.
        false => call.answer(&parts, body).await,
    }
}

/// Who asks, and for what.
async fn understand(
    service: &Service,
    endpoint: Endpoint,
    request: &Parts,
) -> Result<(Arc<Person>, Operation), Failure> {
    let event = endpoint.event(&request.method);
    let person = authenticate::person(service, event, request).await?;
    match Operation::parse(endpoint, request) {
        Ok(operation) => Ok((person, operation)),
        Err(failure) => {
            // What does not parse has no path that anybody should take for one.
            let decision = audit::decision(&failure);
            service.record_person(&person, event, decision, (None, None), Some(&failure))?;
            Err(failure)
        }
    }
}

/// One operation of one person.
struct Call {
    service: Arc<Service>,
    person: Arc<Person>,
    operation: Operation,
}

impl Call {
    async fn answer(&self, parts: &Parts, body: Body) -> Result<Response, Failure> {
        let mut body = Some(body);
        let mut outcome = self.run(parts, &mut body).await;
        if let Err(failure) = &mut outcome {
            stores::explain(&self.service, failure).await;
            // Who does not send the rest of the body has a line all the same.
            self.record(audit::decision(failure), None, Some(failure))?;
            if let Some(unread) = body {
                representation::discard(unread).await;
            }
        }
        outcome
    }

    /// The body is read only once the person is known to be allowed to write.
    async fn run(&self, parts: &Parts, body: &mut Option<Body>) -> Result<Response, Failure> {
        let Self { service, person, operation } = self;
        let share = service.budget.share(Peer::host(&parts.extensions));
        let mut grant = Grant::Everywhere;
        for verb in operation.verbs() {
            grant = authorize::allow(service, person, *verb, &operation.text).await?;
        }
        let (path, is_write) = operation.path();
        if let Some(path) = path.filter(|_| is_write) {
            lineage::record_write(service, path).await?;
            service.keep_versions();
        }
        match &operation.action {
            Action::Create { path, media, only_absent } => {
                let limit = service.max_secret_bytes();
                let body = body.take().unwrap_or_default();
                let given = representation::given(body, &parts.headers, *media, limit).await?;
                let written = self.write(path, given, media.content_type(), Precondition::Create);
                let version = written.await.map_err(|failure| match failure.code {
                    ErrorCode::AlreadyExists if *only_absent => {
                        Failure::new(ErrorCode::PreconditionFailed, failure.message)
                    }
                    _ => failure,
                })?;
                Ok((StatusCode::CREATED, etag(version)).into_response())
            }
            Action::Update { path, media, condition } => {
                let limit = service.max_secret_bytes();
                let body = body.take().unwrap_or_default();
                let given = representation::given(body, &parts.headers, *media, limit).await?;
                let precondition = precondition(*condition);
                let version = self.write(path, given, media.content_type(), precondition).await?;
                Ok((StatusCode::NO_CONTENT, etag(version)).into_response())
            }
            Action::RollBack { path, version, condition } => {
                self.roll_back(path, *version, precondition(*condition)).await
            }
            Action::Delete { path, condition } => self.delete(path, *condition).await,
            Action::List { folder } => {
                let _turn = service.listings.take(Peer::host(&parts.extensions)).await;
                let moves = Patience::steps(&parts.extensions, STEP_LIMIT);
                self.list(folder.as_ref(), &grant, share, moves).await
            }
            Action::Versions { path } => self.versions(path, share).await,
            Action::Read { path, version, accept, unless } => {
                let read = service.store.read(path, *version).await;
                let secret = read.map_err(|error| read_failure(&error))?;
                let answer = match unless {
                    Some(Tag::Any) => StatusCode::NOT_MODIFIED.into_response(),
                    Some(Tag::Version(version)) if *version == secret.version => {
                        (StatusCode::NOT_MODIFIED, etag(secret.version)).into_response()
                    }
                    _ => representation::answer(&secret, *accept, share)?,
                };
                self.record(Decision::Allowed, Some(secret.version), None)?;
                Ok(answer)
            }
            Action::Renew { path } | Action::Revoke { path } => {
                let versions = service.store.versions(path).await;
                versions.map_err(|error| read_failure(&error))?;
                self.record(Decision::Allowed, None, None)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
        }
    }

    async fn write(
        &self,
        path: &SecretPath,
        Given { value, about }: Given,
        content_type: ContentType,
        precondition: Precondition,
    ) -> Result<u64, Failure> {
        let meta = Meta { about, ..self.meta(content_type) };
        self.record(Decision::Attempted, None, None)?;
        let written = self.service.store.write(path, &value, &meta, precondition).await;
        let version = written.map_err(|error| write_failure(&error))?;
        self.record(Decision::Allowed, Some(version), None)?;
        Ok(version)
    }

    async fn roll_back(
        &self,
        path: &SecretPath,
        version: u64,
        precondition: Precondition,
    ) -> Result<Response, Failure> {
        // The store keeps the kind that the older version has.
        let meta = self.meta(ContentType::Binary);
        self.record(Decision::Attempted, None, None)?;
        let written = self.service.store.roll_back(path, version, &meta, precondition).await;
        let version = written.map_err(|error| write_failure(&error))?;
        self.record(Decision::Allowed, Some(version), None)?;
        Ok((StatusCode::NO_CONTENT, etag(version)).into_response())
    }

    async fn delete(&self, path: &SecretPath, condition: Option<Tag>) -> Result<Response, Failure> {
        let newest = match condition {
            None | Some(Tag::Any) => None,
            Some(Tag::Version(version)) => Some(version),
            // No version has this number.
            Some(Tag::Other) => Some(0),
        };
        self.record(Decision::Attempted, None, None)?;
        let deleted = self.service.store.delete_if(path, newest).await;
        let newest = deleted.map_err(|error| delete_failure(&error))?;
        self.record(Decision::Allowed, Some(newest), None)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Names relative to the folder, of everything below it.
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        grant: &Grant,
        mut share: Share,
        moves: impl Fn() + Send + Sync,
    ) -> Result<Response, Failure> {
        let ownership = self.service.ownership();
        let listing = self.service.store.list_with_progress(folder, moves).await;
        let Listing { entries, unreadable } = listing.map_err(|error| list_failure(&error))?;
        // Each may be a secret that belongs into the list: whoever asks must hear of it.
        let unread = unreadable
            .first()
            .map(|error| Failure::of_access("not all secrets could be listed", error, error));
        let below = folder.map_or(0, |folder| folder.as_str().len() + 1);
        // A namespace's grant ends where another namespace's space begins.
        let visible = |path: &str| match grant {
            Grant::Everywhere => true,
            Grant::Namespace(namespace) => ownership.owners(path, false).contains(namespace),
        };
        let paths = entries.iter().map(|entry| entry.path.as_str()).filter(|path| visible(path));
        let names: Vec<&str> = paths.filter_map(|path| path.get(below..)).collect();
        share.take(names.iter().map(|name| name.len() + NAME_BYTES).sum())?;
        self.record(Decision::Allowed, None, unread.as_ref())?;
        let mut answer = json!({"array": names});
        if !unreadable.is_empty() {
            let records = unreadable.iter().filter_map(AccessError::record);
            answer["unreadable"] = records.map(ToString::to_string).collect();
        }
        Ok(share.respond_json(&answer))
    }

    async fn versions(&self, path: &SecretPath, mut share: Share) -> Result<Response, Failure> {
        let versions = self.service.store.versions(path).await;
        let versions = versions.map_err(|error| read_failure(&error))?;
        share.take(versions.iter().map(|entry| entry.author.len() + VERSION_BYTES).sum())?;
        self.record(Decision::Allowed, None, None)?;
        let newest = versions.first().map_or(0, |entry| entry.version);
        let versions: Vec<_> = versions
            .iter()
            .map(|entry| {
                let created = Timestamp::from_second(entry.created).unwrap_or_default();
                json!({
                    "version": entry.version,
                    "created": created.to_string(),
                    "author": entry.author,
                })
            })
            .collect();
        Ok((etag(newest), share.respond_json(&json!({"versions": versions}))).into_response())
    }

    fn meta(&self, content_type: ContentType) -> Meta {
        Meta {
            author: self.person.user.clone(),
            content_type,
            created: Timestamp::now().as_second(),
            about: None,
        }
    }

    fn record(
        &self,
        decision: Decision,
        version: Option<u64>,
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        let Self { service, person, operation } = self;
        let (event, path) = (operation.event(), Some(operation.text.as_str()));
        service.record_person(person, event, decision, (path, version), failure)
    }
}

fn precondition(condition: Option<Tag>) -> Precondition {
    match condition {
        None | Some(Tag::Any) => Precondition::Update,
        Some(Tag::Version(version)) => Precondition::Version(version),
        // No version has this number.
        Some(Tag::Other) => Precondition::Version(0),
    }
}

fn list_failure(error: &ListError) -> Failure {
    match error {
        ListError::Sealed => sealed(),
        ListError::Access(source) => Failure::of_access("cannot list the secrets", error, source),
    }
}

fn delete_failure(error: &DeleteError) -> Failure {
    match error {
        DeleteError::Changed { .. } => {
            Failure::new(ErrorCode::PreconditionFailed, Chain(error).to_string())
        }
        DeleteError::NotFound { path } => not_found(path),
        DeleteError::Sealed => sealed(),
        DeleteError::Access { source, .. } => {
            Failure::of_access("cannot delete the secret; try again", error, source)
        }
        _ => Failure::unavailable("cannot delete the secret; try again", error),
    }
}

fn write_failure(error: &WriteError) -> Failure {
    let said = |code| Failure::new(code, Chain(error).to_string());
    match error {
        WriteError::Changed { .. } => said(ErrorCode::PreconditionFailed),
        WriteError::Exists { .. } => said(ErrorCode::AlreadyExists),
        WriteError::NotFound { path } => not_found(path),
        WriteError::VersionNotFound { .. } => said(ErrorCode::NotFound),
        WriteError::Sealed => sealed(),
        WriteError::TooLarge { .. } => said(ErrorCode::TooLarge),
        WriteError::Access { source, .. } => {
            Failure::of_access("cannot write the secret; try again", error, source)
        }
        _ => Failure::unavailable("cannot write the secret; try again", error),
    }
}

fn sealed() -> Failure {
    Failure::new(ErrorCode::Sealed, "the store is sealed")
}

fn not_found(path: &SecretPath) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("there is no secret `{path}`"))
}

/// What a name takes in a list beside its characters.
const NAME_BYTES: usize = 3;

/// What a version takes in a list of versions beside its author.
const VERSION_BYTES: usize = 128;
