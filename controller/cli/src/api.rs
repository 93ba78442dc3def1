//! The store's HTTP API: the DC/OS Secrets API v1 under `/secrets/v1`, and versions beyond it.
//!
//! ```text
//! GET    /secrets/v1/secret/STORE/PATH                 200 bytes; the version is the ETag
//! PUT    /secrets/v1/secret/STORE/PATH                 201, 409 when there is one
//! PATCH  /secrets/v1/secret/STORE/PATH                 204, 404 when there is none
//! DELETE /secrets/v1/secret/STORE/PATH                 204
//! GET    /secrets/v1/secret/STORE/DIRECTORY?list=true  200 {"array":["a","b/c"]}
//! GET    /secrets/v1/secret/STORE/PATH?versions=true   200 {"versions":[{"version":1,"created":"…","author":"…"}]}
//! GET    /secrets/v1/seal-status/STORE                 200 {"sealed":false,"threshold":1,"shares":1,"progress":0}
//! ```
//!
//! Values are read as `application/octet-stream`. Text is written as JSON, `{"value":"…"}`, and
//! anything else as `application/octet-stream`, as the DC/OS command line does. A refusal is JSON,
//! `{"code":"…","message":"…"}`. Paths need no percent-encoding, because they are parsed: nothing in
//! a [`SecretName`] means anything to a URL.

use std::{fmt, str::FromStr};

use http::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderMap, USER_AGENT},
};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use watchword_core::reference::SecretName;
use zeroize::Zeroizing;

use crate::{
    connect::{self, Connection, RequestBody},
    value::{MAX_VALUE_BYTES, Value},
};

/// One store at the end of a connection.
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) id: StoreId,
}

impl Store {
    /// Stores a new secret.
    pub(crate) async fn create(&mut self, name: &SecretName, value: Value) -> Result<(), Error> {
        self.write(Action::Create(name.clone()), Method::PUT, name, value).await
    }

    /// Gives a secret a new value.
    pub(crate) async fn update(&mut self, name: &SecretName, value: Value) -> Result<(), Error> {
        self.write(Action::Update(name.clone()), Method::PATCH, name, value).await
    }

    /// Deletes a secret with all its versions.
    pub(crate) async fn delete(&mut self, name: &SecretName) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, self.secret(&name.to_string()));
        self.ask(Action::Delete(name.clone()), call).await.map(drop)
    }

    /// Reads a secret's newest value.
    pub(crate) async fn read(&mut self, name: &SecretName) -> Result<Opened, Error> {
        let call = Call { accept: BYTES, ..Call::new(Method::GET, self.secret(&name.to_string())) };
        let answer = self.ask(Action::Read(name.clone()), call).await?;
        let version = version_of(answer.headers());
        Ok(Opened { value: answer.into_body(), version })
    }

    /// Lists all secrets below `directory`, by names relative to it.
    pub(crate) async fn list(&mut self, directory: &Directory) -> Result<Vec<SecretName>, Error> {
        let action = Action::List(directory.clone());
        let path = format!("{}?list=true", self.secret(directory.path()));
        let names: Names = self.ask_json(action.clone(), path).await?;
        names
            .array
            .into_iter()
            .map(|name| name.parse().map_err(|_| Error::new(&action, Cause::Name)))
            .collect()
    }

    /// Lists the versions of a secret that the store keeps.
    pub(crate) async fn versions(&mut self, name: &SecretName) -> Result<Vec<Version>, Error> {
        let path = format!("{}?versions=true", self.secret(&name.to_string()));
        let versions: Versions = self.ask_json(Action::Versions(name.clone()), path).await?;
        Ok(versions.versions)
    }

    /// Says whether the store is sealed.
    pub(crate) async fn seal_status(&mut self) -> Result<SealStatus, Error> {
        let path = format!("{ROOT}/seal-status/{}", self.id.0);
        self.ask_json(Action::SealStatus(self.id.clone()), path).await
    }

    fn secret(&self, path: &str) -> String {
        format!("{ROOT}/secret/{}/{}", self.id.0, path)
    }

    async fn write(
        &mut self,
        action: Action,
        method: Method,
        name: &SecretName,
        value: Value,
    ) -> Result<(), Error> {
        let (content_type, body) = encode(value).map_err(|cause| Error::new(&action, cause))?;
        let path = self.secret(&name.to_string());
        let call = Call { body: Some((content_type, body)), ..Call::new(method, path) };
        self.ask(action, call).await.map(drop)
    }

    async fn ask_json<T: DeserializeOwned>(
        &mut self,
        action: Action,
        path: String,
    ) -> Result<T, Error> {
        let answer = self.ask(action.clone(), Call::new(Method::GET, path)).await?;
        serde_json::from_slice(answer.body()).map_err(|_| Error::new(&action, Cause::Answer))
    }

    async fn ask(
        &mut self,
        action: Action,
        call: Call,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Error> {
        let request = self.request(call).map_err(|error| Error::new(&action, error.into()))?;
        let answer = self.connection.exchange(request).await;
        let answer = answer.map_err(|error| Error::new(&action, error.into()))?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(Error::new(&action, Cause::Refused(Refusal::read(&answer)))),
        }
    }

    fn request(&self, call: Call) -> Result<Request<RequestBody>, http::Error> {
        let Call { method, path, accept, body } = call;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.connection.host)
            .header(USER_AGENT, concat!("watchword/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if let Some(authorization) = &self.connection.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match body {
            None => request.body(RequestBody::empty()),
            Some((content_type, body)) => {
                request.header(CONTENT_TYPE, content_type).body(RequestBody::new(body))
            }
        }
    }
}

/// The name of a store: `A-Z`, `a-z`, `0-9`, `-` and `_`, so that it means nothing to a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoreId(String);

impl FromStr for StoreId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match !text.is_empty() && text.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err("a store's name has only A-Z, a-z, 0-9, - and _"),
        }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to list: the whole store, or what is below a path.
///
/// `/` and nothing are the whole store; `shop`, `/shop` and `shop/` are one directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Directory(Option<SecretName>);

impl Directory {
    /// The secret that the directory's list calls `name`.
    pub(crate) fn join(&self, name: &SecretName) -> Option<SecretName> {
        match &self.0 {
            None => Some(name.clone()),
            Some(directory) => format!("{directory}/{name}").parse().ok(),
        }
    }

    /// The path as it stands in a URL, empty for the whole store.
    fn path(&self) -> &str {
        self.0.as_ref().map_or("", SecretName::as_str)
    }
}

impl FromStr for Directory {
    type Err = <SecretName as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "/" => Ok(Self(None)),
            _ => text.strip_suffix('/').unwrap_or(text).parse().map(|name| Self(Some(name))),
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path())
    }
}

/// A value that was read. It has no `Debug`, so that it cannot be logged.
pub(crate) struct Opened {
    /// The bytes, wiped when dropped.
    pub(crate) value: Zeroizing<Vec<u8>>,
    /// The version's number, if the store said it.
    pub(crate) version: Option<u64>,
}

/// One version of a secret; numbers rise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Version {
    /// Its number.
    pub(crate) version: u64,
    /// When it was written, RFC 3339; a store may also say seconds since 1970.
    #[serde(default, deserialize_with = "moment", skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
}

/// Whether a store is sealed, and what opens it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct SealStatus {
    /// Sealed: there is no key, and all that needs one is refused.
    pub(crate) sealed: bool,
    /// How many shares open it.
    pub(crate) threshold: u32,
    /// How many shares there are.
    pub(crate) shares: u32,
    /// How many different shares have been given since it was last opened or reset.
    pub(crate) progress: u32,
}

/// What was tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Create(SecretName),
    Delete(SecretName),
    List(Directory),
    Read(SecretName),
    SealStatus(StoreId),
    Update(SecretName),
    Versions(SecretName),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name) => write!(f, "create `{name}`"),
            Self::Delete(name) => write!(f, "delete `{name}`"),
            Self::List(directory) => write!(f, "list `{directory}`"),
            Self::Read(name) => write!(f, "read `{name}`"),
            Self::SealStatus(store) => write!(f, "read the seal status of store `{store}`"),
            Self::Update(name) => write!(f, "update `{name}`"),
            Self::Versions(name) => write!(f, "read the versions of `{name}`"),
        }
    }
}

/// Something that the store did not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(crate) struct Error {
    action: Action,
    #[source]
    cause: Cause,
}

impl Error {
    fn new(action: &Action, cause: Cause) -> Self {
        Self { action: action.clone(), cause }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let Cause::Refused(refusal) = &self.cause else { return None };
        if refusal.is_sealed() {
            return Some("look at it with `watchword store status`".to_owned());
        }
        match (refusal.status, &self.action) {
            (StatusCode::UNAUTHORIZED, _) => {
                Some("a token may have expired; `kubectl auth whoami` says who you are".to_owned())
            }
            (StatusCode::FORBIDDEN, action) => {
                let (verb, path) = action.right()?;
                Some(format!(
                    "ask for the right that `kubectl auth can-i {verb} {ROOT}/secret/default/{path}` checks"
                ))
            }
            (StatusCode::NOT_FOUND, Action::Update(name)) => {
                Some(format!("store it with `watchword secret create {name}`"))
            }
            (StatusCode::NOT_FOUND, _) => {
                Some("`watchword secret list` shows what is there".to_owned())
            }
            (StatusCode::CONFLICT, Action::Create(name)) => {
                Some(format!("change it with `watchword secret update {name}`"))
            }
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                Some(format!("a value has at most {MAX_VALUE_BYTES} bytes (1 MiB less 1 KiB)"))
            }
            _ => None,
        }
    }
}

impl Action {
    /// The verb and the path that the store asks the cluster about.
    fn right(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Create(name) => Some(("create", name.to_string())),
            Self::Delete(name) => Some(("delete", name.to_string())),
            Self::List(Directory(None)) => Some(("list", String::new())),
            Self::List(Directory(Some(name))) => Some(("list", format!("{name}/"))),
            Self::Read(name) | Self::Versions(name) => Some(("read", name.to_string())),
            Self::SealStatus(_) => None,
            Self::Update(name) => Some(("update", name.to_string())),
        }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the store's answer is not what this version of watchword knows")]
    Answer,
    #[error(transparent)]
    Exchange(#[from] connect::Error),
    #[error("the value does not become JSON")]
    Json(#[from] serde_json::Error),
    #[error("the store's answer holds a name that is no path")]
    Name,
    #[error("{0}")]
    Refused(Refusal),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

/// What the store says when it does not do something.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

impl Refusal {
    fn read(answer: &Response<Zeroizing<Vec<u8>>>) -> Self {
        // Not everything on the way speaks JSON: DC/OS itself answers 401 with HTML.
        let said: Said = serde_json::from_slice(answer.body()).unwrap_or_default();
        Self { status: answer.status(), code: said.code, message: said.message }
    }

    fn is_sealed(&self) -> bool {
        self.code == "sealed"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sealed() {
            return f.write_str("the store is sealed");
        }
        if !self.message.is_empty() {
            return f.write_str(&self.message);
        }
        match self.status {
            StatusCode::UNAUTHORIZED => f.write_str("the store does not know who is asking"),
            StatusCode::FORBIDDEN => f.write_str("it is not allowed"),
            StatusCode::NOT_FOUND => f.write_str("there is no such secret"),
            StatusCode::CONFLICT => f.write_str("it exists already"),
            StatusCode::PAYLOAD_TOO_LARGE => f.write_str("the value is too long"),
            status => write!(f, "the store answered {status}"),
        }
    }
}

/// The body of a refusal; a DC/OS one has only the message.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Names {
    array: Vec<String>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

/// A time as text, from text or from seconds.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Moment {
        Seconds(i64),
        Text(String),
    }
    match Option::deserialize(deserializer)? {
        None => Ok(None),
        Some(Moment::Text(text)) => Ok(Some(text)),
        Some(Moment::Seconds(seconds)) => Timestamp::from_second(seconds)
            .map(|moment| Some(moment.to_string()))
            .map_err(D::Error::custom),
    }
}

/// One request, before it is bound to a host and to a person.
struct Call {
    method: Method,
    path: String,
    accept: &'static str,
    body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, accept: JSON, body: None }
    }
}

/// A value as it is sent: its content type, and its bytes.
fn encode(value: Value) -> Result<(&'static str, Zeroizing<Vec<u8>>), Cause> {
    match value {
        Value::Bytes(bytes) => Ok((BYTES, bytes)),
        Value::Text(text) => {
            // JSON escapes a byte with six at most; a vector that need not grow leaves no copies.
            let mut body = Zeroizing::new(Vec::with_capacity(6 * text.len() + 12));
            serde_json::to_writer(&mut *body, &Text { value: &text })?;
            Ok((JSON, body))
        }
    }
}

/// The request's form of a text value, the one type that writes a value as JSON to the store.
#[derive(Serialize)]
struct Text<'a> {
    value: &'a str,
}

/// The version's number from an ETag, which is the number between quotes.
fn version_of(headers: &HeaderMap) -> Option<u64> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    tag.trim_start_matches("W/").trim_matches('"').parse().ok()
}

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
const ROOT: &str = "/secrets/v1";

#[cfg(test)]
mod tests;
