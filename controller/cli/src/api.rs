//! The store's HTTP API: the DC/OS Secrets API v1 under `/secrets/v1`, and what goes beyond it.
//!
//! What is asked about secrets stands in [`secret`], what is asked about the store itself in
//! [`store`], and what is made of a refusal in [`failure`]. Paths need no percent-encoding, because
//! they are parsed: nothing in a secret's name or a store's id means anything to a URL.

mod audit;
mod failure;
mod secret;
mod store;

use std::{fmt, str::FromStr, time::Duration};

use http::{
    Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::connect::{Connection, EXCHANGE_TIME, RequestBody};

pub(crate) use audit::{Object, Verified};
pub(crate) use failure::{Action, Error};
pub(crate) use secret::{Directory, Opened, Version};
pub(crate) use store::{
    Backend, Custody, Entrusted, RekeyStatus, Rewrap, RotateStatus, SealStatus,
};

use failure::Cause;

/// One store at the end of a connection.
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) id: StoreId,
}

impl Store {
    /// Sends a call whose answer is JSON.
    async fn ask_json<T: DeserializeOwned>(
        &mut self,
        action: Action,
        call: Call,
    ) -> Result<T, Error> {
        let answer = self.ask(action.clone(), call).await?;
        serde_json::from_slice(answer.body()).map_err(|_| Error::new(&action, Cause::Answer))
    }

    /// Sends a call; what the store refuses is an error.
    async fn ask(
        &mut self,
        action: Action,
        call: Call,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Error> {
        let limit = call.limit;
        let request = self.request(call).map_err(|error| Error::new(&action, error.into()))?;
        let answer = self.connection.exchange(request, limit).await;
        let answer = answer.map_err(|error| Error::new(&action, error.into()))?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(Error::refused(&action, &answer)),
        }
    }

    fn request(&self, call: Call) -> Result<Request<RequestBody>, http::Error> {
        let Call { method, path, accept, condition, body, limit: _ } = call;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.connection.host)
            .header(USER_AGENT, concat!("watchword/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if let Some(authorization) = &self.connection.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        match body {
            None => request.body(RequestBody::empty()),
            Some((content_type, body)) => request.header(CONTENT_TYPE, content_type).body(body),
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

/// One request, before it is bound to a host and to a person.
struct Call {
    method: Method,
    path: String,
    accept: &'static str,
    /// What must be so, in the words of a header.
    condition: Option<(HeaderName, HeaderValue)>,
    body: Option<(&'static str, RequestBody)>,
    /// How long it may take, up to the last byte of the answer.
    limit: Duration,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, accept: JSON, condition: None, body: None, limit: EXCHANGE_TIME }
    }

    fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    fn put(path: String) -> Self {
        Self::new(Method::PUT, path)
    }

    /// The call with a JSON body, in a vector of `capacity`, so that none grows and leaves copies.
    fn with_json(self, body: &impl Serialize, capacity: usize) -> Result<Self, Cause> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        serde_json::to_writer(&mut *bytes, body)?;
        Ok(Self { body: Some((JSON, RequestBody::new(bytes))), ..self })
    }
}

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
const ROOT: &str = "/secrets/v1";

#[cfg(test)]
mod tests;
