//! The Secrets API v1 of DC/OS, as far as secrets themselves go: create, read, update, delete, list,
//! and, beyond it, versions.
//!
//! The path is taken from the URL as it came: decoded once, then parsed. What does not parse
//! (`..`, `//`, a second encoding, a slash at the end) is refused before anyone is asked whether it
//! is allowed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;
use watchword_protocol::ErrorCode;
use watchword_store::{
    ContentType, DeleteError, ListError, Meta, Precondition, Secret, SecretPath, Value, WriteError,
};
use zeroize::Zeroizing;

use super::audit::{self, Decision, Entry, Event, Subject};
use super::authenticate::{self, Person};
use super::authorize::{self, Grant, Verb};
use super::failure::Failure;
use super::{Service, detached, lineage};
use crate::chain::Chain;
use crate::resolvers::read_failure;

/// `GET /secrets/v1/seal-status/{store}`: open to everyone whom the cluster knows.
pub(super) async fn seal_status(
    State(service): State<Arc<Service>>,
    Path(store): Path<String>,
    request: Request,
) -> Result<Json<serde_json::Value>, Failure> {
    authenticate::person(&service, Event::List, &request.into_parts().0).await?;
    known_store(&store)?;
    let sealed = service.store.is_sealed();
    Ok(Json(json!({"sealed": sealed, "threshold": 1, "shares": 1, "progress": 0})))
}

/// Everything under `/secrets/v1/secret/{store}`.
///
/// It runs to its end even when the client goes away: what has been done must be written down.
pub(super) async fn secret(
    State(service): State<Arc<Service>>,
    Query(query): Query<Parameters>,
    request: Request,
) -> Result<Response, Failure> {
    detached(answer(service, query, request)).await
}

async fn answer(
    service: Arc<Service>,
    query: Parameters,
    request: Request,
) -> Result<Response, Failure> {
    let operation = Operation::of(request.method(), &query)?;
    let (parts, body) = request.into_parts();
    let person = authenticate::person(&service, operation.event(), &parts).await?;
    let request = Request::from_parts(parts, body);
    let target = Target::parse(request.uri().path(), operation == Operation::List)?;
    let call = Call { service: &service, person: &person, target: &target, operation };
    let outcome = call.run(request, query.version).await;
    if let Err(failure) = &outcome {
        call.record(audit::decision(failure), None, Some(failure))?;
    }
    outcome
}

/// The query of a request.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    list: bool,
    #[serde(default)]
    versions: bool,
    version: Option<u64>,
}

/// What a path speaks of: a secret, or a folder to list.
struct Target {
    /// Canonical; empty for the root; a folder ends with `/`.
    text: String,
    /// `None` for the root.
    path: Option<SecretPath>,
}

impl Target {
    /// Reads the raw path of a URL. A folder may end with a slash, a secret may not.
    fn parse(raw: &str, is_folder: bool) -> Result<Self, Failure> {
        let bad = |message: String| Failure::new(ErrorCode::BadRequest, message);
        let rest = raw.strip_prefix(PREFIX).unwrap_or_default();
        let (store, path) = rest.split_once('/').unwrap_or((rest, ""));
        known_store(store)?;
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| bad("the path is not UTF-8".to_owned()))?;
        let trimmed = match is_folder {
            true => decoded.strip_suffix('/').unwrap_or(&decoded),
            false => &decoded,
        };
        if trimmed.is_empty() {
            return match is_folder {
                true => Ok(Self { text: String::new(), path: None }),
                false => Err(bad("the path of a secret is missing".to_owned())),
            };
        }
        // A leading slash is for people who type paths; in a URL it would be an empty component.
        if trimmed.starts_with('/') {
            return Err(bad("a part between slashes is empty".to_owned()));
        }
        let path: SecretPath =
            trimmed.parse().map_err(|error| bad(format!("the path is not a secret's: {error}")))?;
        let text = if is_folder { format!("{path}/") } else { path.to_string() };
        Ok(Self { text, path: Some(path) })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Create,
    Delete,
    List,
    Read,
    Update,
    Versions,
}

impl Operation {
    fn of(method: &Method, query: &Parameters) -> Result<Self, Failure> {
        match *method {
            // The flag must not turn the path of a write into a folder's.
            _ if *method != Method::GET && (query.list || query.versions) => {
                Err(Failure::new(ErrorCode::BadRequest, "`list` and `versions` go with GET only"))
            }
            Method::GET if query.list => Ok(Self::List),
            Method::GET if query.versions => Ok(Self::Versions),
            Method::GET => Ok(Self::Read),
            Method::PUT => Ok(Self::Create),
            Method::PATCH => Ok(Self::Update),
            Method::DELETE => Ok(Self::Delete),
            _ => Err(Failure::new(ErrorCode::BadRequest, "use GET, PUT, PATCH or DELETE")
                .with_status(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    fn verb(self) -> Verb {
        match self {
            Self::Create => Verb::Create,
            Self::Delete => Verb::Delete,
            Self::List => Verb::List,
            Self::Read | Self::Versions => Verb::Read,
            Self::Update => Verb::Update,
        }
    }

    fn event(self) -> Event {
        match self {
            Self::Create => Event::Create,
            Self::Delete => Event::Delete,
            Self::List | Self::Versions => Event::List,
            Self::Read => Event::Read,
            Self::Update => Event::Update,
        }
    }
}

struct Call<'a> {
    service: &'a Service,
    person: &'a Person,
    target: &'a Target,
    operation: Operation,
}

impl Call<'_> {
    /// The body is read only once the person is known to be allowed to write.
    async fn run(&self, request: Request, version: Option<u64>) -> Result<Response, Failure> {
        let Self { service, person, target, operation } = *self;
        let namespaces = match &target.path {
            None => Vec::new(),
            Some(path) => service.ownership().owners(path.as_str(), operation == Operation::List),
        };
        let verb = operation.verb();
        let grant =
            authorize::allow(&service.client, person, verb, &target.text, &namespaces).await?;
        let is_write = matches!(operation, Operation::Create | Operation::Update);
        lineage::judge_grant(service, &grant, target.path.as_ref(), is_write).await?;
        match (operation, &target.path) {
            (Operation::List, folder) => self.list(folder.as_ref(), &grant).await,
            (_, None) => {
                Err(Failure::new(ErrorCode::BadRequest, "the path of a secret is missing"))
            }
            (Operation::Create, Some(path)) => {
                let (value, content_type) = value(request).await?;
                let version = self.write(path, &value, content_type, Precondition::Create).await?;
                Ok((StatusCode::CREATED, etag(version)).into_response())
            }
            (Operation::Update, Some(path)) => {
                let (value, content_type) = value(request).await?;
                let version = self.write(path, &value, content_type, Precondition::Update).await?;
                Ok((StatusCode::NO_CONTENT, etag(version)).into_response())
            }
            (Operation::Delete, Some(path)) => {
                service.store.delete(path).await.map_err(|error| delete_failure(&error))?;
                self.record(Decision::Allowed, None, None)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (Operation::Versions, Some(path)) => self.versions(path).await,
            (Operation::Read, Some(path)) => {
                let accept = Accept::of(request.headers())?;
                let read = service.store.read(path, version).await;
                let secret = read.map_err(|error| read_failure(&error))?;
                self.record(Decision::Allowed, Some(secret.version), None)?;
                accept.response(&secret)
            }
        }
    }

    async fn write(
        &self,
        path: &SecretPath,
        value: &Value,
        content_type: ContentType,
        precondition: Precondition,
    ) -> Result<u64, Failure> {
        let limit = self.service.max_secret_bytes();
        if value.len() > limit {
            let message =
                format!("the secret has {} bytes; at most {limit} are allowed", value.len());
            return Err(Failure::new(ErrorCode::Invalid, message)
                .with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let meta = Meta {
            author: self.person.user.clone(),
            content_type,
            created: Timestamp::now().as_second(),
        };
        let written = self.service.store.write(path, value, &meta, precondition).await;
        let version = written.map_err(|error| write_failure(&error))?;
        self.record(Decision::Allowed, Some(version), None)?;
        Ok(version)
    }

    /// Names relative to the folder, of everything below it.
    async fn list(&self, folder: Option<&SecretPath>, grant: &Grant) -> Result<Response, Failure> {
        let ownership = self.service.ownership();
        let entries =
            self.service.store.list(folder).await.map_err(|error| list_failure(&error))?;
        self.record(Decision::Allowed, None, None)?;
        let below = folder.map_or(0, |folder| folder.as_str().len() + 1);
        // A namespace's grant ends where another namespace's space begins.
        let visible = |path: &str| match grant {
            Grant::Everywhere => true,
            Grant::Namespace(namespace) => ownership.owners(path, false).contains(namespace),
        };
        let paths = entries.iter().map(|entry| entry.path.as_str()).filter(|path| visible(path));
        let names: Vec<&str> = paths.filter_map(|path| path.get(below..)).collect();
        Ok(Json(json!({"array": names})).into_response())
    }

    async fn versions(&self, path: &SecretPath) -> Result<Response, Failure> {
        let versions = self.service.store.versions(path).await;
        let versions = versions.map_err(|error| read_failure(&error))?;
        self.record(Decision::Allowed, None, None)?;
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
        Ok(Json(json!({"versions": versions})).into_response())
    }

    fn record(
        &self,
        decision: Decision,
        version: Option<u64>,
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        let entry = Entry {
            event: self.operation.event(),
            decision,
            subject: Subject::User { name: &self.person.user, uid: self.person.uid.as_deref() },
            path: Some(&self.target.text),
            version,
            cause: failure.map(audit::cause),
        };
        self.service.record(&entry)
    }
}

pub(super) fn known_store(store: &str) -> Result<(), Failure> {
    match store {
        "default" => Ok(()),
        _ => Err(Failure::new(
            ErrorCode::NotFound,
            format!("there is no store `{store}`; the only one is `default`"),
        )),
    }
}

/// The value in a request's body. It has no `Debug`, because it holds a value.
#[derive(Deserialize)]
struct JsonSecret {
    /// Clients of DC/OS send more beside it (`path`, `author`, `description`, `labels`).
    value: Zeroizing<String>,
}

async fn value(request: Request) -> Result<(Value, ContentType), Failure> {
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        Failure::new(ErrorCode::BadRequest, "the body is too large or was cut off")
            .with_status(rejection.status())
    })?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    match media_type {
        Some(media) if media.eq_ignore_ascii_case(BYTES) => {
            Ok((Value::new(body.to_vec()), ContentType::Binary))
        }
        Some(media) if media.eq_ignore_ascii_case(JSON) => {
            // The parser's message could quote the value: it is dropped.
            let JsonSecret { value } = serde_json::from_slice(&body).map_err(|_| {
                Failure::new(ErrorCode::BadRequest, "the body is not JSON like {\"value\": \"…\"}")
            })?;
            Ok((Value::new(value.as_bytes().to_vec()), ContentType::Text))
        }
        _ => Err(Failure::new(
            ErrorCode::BadRequest,
            format!("the Content-Type must be {JSON} or {BYTES}"),
        )),
    }
}

/// In which form a secret is wanted.
#[derive(Clone, Copy)]
enum Accept {
    Any,
    Bytes,
    Json,
}

impl Accept {
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Ok(Self::Any);
        };
        let medias = accept.split(',').filter_map(|part| part.split(';').next()).map(str::trim);
        medias
            .into_iter()
            .find_map(|media| match media {
                "*/*" | "application/*" => Some(Self::Any),
                JSON => Some(Self::Json),
                BYTES => Some(Self::Bytes),
                _ => None,
            })
            .ok_or_else(|| {
                Failure::new(
                    ErrorCode::BadRequest,
                    format!("the Accept header must allow {JSON} or {BYTES}"),
                )
            })
    }

    fn response(self, secret: &Secret) -> Result<Response, Failure> {
        let as_json = match self {
            Self::Any => secret.meta.content_type == ContentType::Text,
            Self::Bytes => false,
            Self::Json => true,
        };
        let bytes = secret.value.expose_secret();
        let (media, body) = match as_json {
            false => (BYTES, Bytes::copy_from_slice(bytes)),
            true => {
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    Failure::new(
                        ErrorCode::BadRequest,
                        format!("the secret is binary: ask with `Accept: {BYTES}`"),
                    )
                })?;
                let body = serde_json::to_vec(&Text { value: text });
                (JSON, Bytes::from(body.unwrap_or_default()))
            }
        };
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let media = (header::CONTENT_TYPE, HeaderValue::from_static(media));
        Ok((etag(secret.version), [no_store, media], body).into_response())
    }
}

/// The answer's form of a text value: besides `/v1/resolve`, the one place where a value is
/// written out.
#[derive(Serialize)]
struct Text<'a> {
    value: &'a str,
}

fn etag(version: u64) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

fn list_failure(error: &ListError) -> Failure {
    match error {
        ListError::Sealed => sealed(),
        _ => Failure::unavailable("cannot list the secrets", error),
    }
}

fn delete_failure(error: &DeleteError) -> Failure {
    match error {
        DeleteError::NotFound { path } => not_found(path),
        DeleteError::Sealed => sealed(),
        _ => Failure::unavailable("cannot delete the secret; try again", error),
    }
}

fn write_failure(error: &WriteError) -> Failure {
    let text = || Chain(error).to_string();
    match error {
        WriteError::Exists { .. } => {
            Failure::new(ErrorCode::Invalid, text()).with_status(StatusCode::CONFLICT)
        }
        WriteError::Changed { .. } => {
            Failure::new(ErrorCode::Invalid, text()).with_status(StatusCode::PRECONDITION_FAILED)
        }
        WriteError::NotFound { path } => not_found(path),
        WriteError::Sealed => sealed(),
        WriteError::TooLarge { .. } => {
            Failure::new(ErrorCode::Invalid, text()).with_status(StatusCode::PAYLOAD_TOO_LARGE)
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

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
const PREFIX: &str = "/secrets/v1/secret/";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Method::PUT)]
    #[case(Method::PATCH)]
    #[case(Method::DELETE)]
    fn a_write_cannot_be_judged_as_a_list(#[case] method: Method) {
        let query = Parameters { list: true, ..Parameters::default() };

        assert!(Operation::of(&method, &query).is_err());
    }

    #[rstest]
    #[case("default/shop/db", false, Some("shop/db"))]
    #[case("default/shop%2Fdb", false, Some("shop/db"))]
    #[case("default/shop/", true, Some("shop/"))]
    #[case("default/shop", true, Some("shop/"))]
    #[case("default/", true, Some(""))]
    #[case("default", true, Some(""))]
    #[case("default/", false, None)]
    #[case("default/shop/db/", false, None)]
    #[case("default//shop/db", false, None)]
    #[case("default/shop//db", false, None)]
    #[case("default/shop/../bank/db", false, None)]
    #[case("default/shop/%2e%2e/bank", false, None)]
    #[case("default/shop%252Fdb", false, None)]
    #[case("default/shop/db%00", false, None)]
    #[case("default/shop/%ff", false, None)]
    #[case("default/shop/", false, None)]
    #[case("other/shop/db", false, None)]
    fn paths_are_decoded_once_and_parsed(
        #[case] rest: &str,
        #[case] is_folder: bool,
        #[case] expected: Option<&str>,
    ) {
        let target = Target::parse(&format!("{PREFIX}{rest}"), is_folder);

        assert_eq!(target.ok().map(|target| target.text).as_deref(), expected);
    }
}
