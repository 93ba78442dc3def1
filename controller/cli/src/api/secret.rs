//! What is asked about secrets.
//!
//! ```text
//! GET    /secrets/v1/secret/STORE/PATH                 200 bytes; the version is the ETag
//! GET    /secrets/v1/secret/STORE/PATH?version=N       200 the same of an older version
//! GET    /secrets/v1/secret/STORE/PATH?versions=true   200 {"versions":[{"version":1,"created":"…","author":"…"}]}
//! GET    /secrets/v1/secret/STORE/DIRECTORY?list=true  200 {"array":["a","b/c"]}, and "unreadable" if there are such records
//! PUT    /secrets/v1/secret/STORE/PATH                 201, 409 when there is one
//! PATCH  /secrets/v1/secret/STORE/PATH                 204, 404 when there is none
//! PATCH  /secrets/v1/secret/STORE/PATH?rollback=N      204
//! DELETE /secrets/v1/secret/STORE/PATH                 204
//! ```
//!
//! A change may be made to depend on the newest version (`If-Match`), and is then refused with 412.
//! Values are read as `application/octet-stream`. Text is written as JSON, `{"value":"…"}`, and
//! anything else as `application/octet-stream`, as the DC/OS command line does.

use std::{fmt, str::FromStr};

use http::{
    Method,
    header::{ETAG, HeaderMap, HeaderValue, IF_MATCH},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use watchword_core::reference::SecretName;
use zeroize::Zeroizing;

use super::{Action, BYTES, Call, Cause, Error, ROOT, Store};
use crate::{
    connect::{RequestBody, STANDSTILL_TIME},
    value::Value,
};

impl Store {
    /// Stores a new secret.
    pub(crate) async fn create(&mut self, name: &SecretName, value: Value) -> Result<(), Error> {
        let action = Action::Create(name.clone());
        let call = Call::put(self.secret(name.as_str()));
        let call = with_value(call, value).map_err(|cause| Error::new(&action, cause))?;
        self.ask(action, call).await.map(drop)
    }

    /// Gives a secret a new value, if `newest` is still its version or nothing is said of that.
    pub(crate) async fn update(
        &mut self,
        name: &SecretName,
        value: Value,
        newest: Option<u64>,
    ) -> Result<(), Error> {
        let action = Action::Update(name.clone());
        let call = if_newest(Call::new(Method::PATCH, self.secret(name.as_str())), newest);
        let call = with_value(call, value).map_err(|cause| Error::new(&action, cause))?;
        self.ask(action, call).await.map(drop)
    }

    /// Makes an old version the newest again; gives the new one's number, if the store says it.
    pub(crate) async fn roll_back(
        &mut self,
        name: &SecretName,
        version: u64,
        newest: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        let path = format!("{}?rollback={version}", self.secret(name.as_str()));
        let call = if_newest(Call::new(Method::PATCH, path), newest);
        let answer = self.ask(Action::RollBack(name.clone(), version), call).await?;
        Ok(version_of(answer.headers()))
    }

    /// Deletes a secret with all its versions.
    pub(crate) async fn delete(
        &mut self,
        name: &SecretName,
        newest: Option<u64>,
    ) -> Result<(), Error> {
        let call = if_newest(Call::new(Method::DELETE, self.secret(name.as_str())), newest);
        self.ask(Action::Delete(name.clone()), call).await.map(drop)
    }

    /// Reads a secret's newest value, or that of an older version.
    pub(crate) async fn read(
        &mut self,
        name: &SecretName,
        version: Option<u64>,
    ) -> Result<Opened, Error> {
        let path = self.secret(name.as_str());
        let (action, path) = match version {
            None => (Action::Read(name.clone()), path),
            Some(version) => {
                (Action::ReadVersion(name.clone(), version), format!("{path}?version={version}"))
            }
        };
        let answer = self.ask(action, Call { accept: BYTES, ..Call::get(path) }).await?;
        let version = version_of(answer.headers()).or(version);
        Ok(Opened { value: answer.into_body(), version })
    }

    /// Lists all secrets below `directory`, by names relative to it; and the records that do not
    /// open, each of which may be one more.
    pub(crate) async fn list(
        &mut self,
        directory: &Directory,
    ) -> Result<(Vec<SecretName>, Vec<String>), Error> {
        let action = Action::List(directory.clone());
        let path = format!("{}?list=true", self.secret(directory.path()));
        // Every head is looked at, for paths stand inside.
        let call = Call { limit: STANDSTILL_TIME, ..Call::get(path) };
        let Names { array, unreadable } = self.ask_json(action.clone(), call).await?;
        let names = array.into_iter();
        let names = names.map(|name| name.parse().map_err(|_| Error::new(&action, Cause::Name)));
        Ok((names.collect::<Result<_, _>>()?, unreadable))
    }

    /// Lists the versions of a secret that the store keeps.
    pub(crate) async fn versions(&mut self, name: &SecretName) -> Result<Vec<Version>, Error> {
        let path = format!("{}?versions=true", self.secret(name.as_str()));
        let versions: Versions =
            self.ask_json(Action::Versions(name.clone()), Call::get(path)).await?;
        Ok(versions.versions)
    }

    fn secret(&self, path: &str) -> String {
        format!("{ROOT}/secret/{}/{path}", self.id)
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
    pub(super) fn path(&self) -> &str {
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

#[derive(Deserialize)]
struct Names {
    array: Vec<String>,
    #[serde(default)]
    unreadable: Vec<String>,
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

/// The call that changes something only while `newest` is the newest version.
fn if_newest(call: Call, newest: Option<u64>) -> Call {
    let condition = newest
        .and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok())
        .map(|tag| (IF_MATCH, tag));
    Call { condition, ..call }
}

/// The call that carries a value.
fn with_value(call: Call, value: Value) -> Result<Call, Cause> {
    match value {
        Value::Bytes(bytes) => Ok(Call { body: Some((BYTES, RequestBody::new(bytes))), ..call }),
        // JSON escapes a byte with six at most.
        Value::Text(text) => call.with_json(&Text { value: &text }, 6 * text.len() + 12),
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

#[cfg(test)]
mod tests;
