//! How the store says no: a status, a stable code and a text for the client; the causes for the
//! log, and never the one in the other.
//!
//! Every answer that is an error has this form, also where the router or an extractor refuses
//! before a handler is reached: [`in_our_form`] sees to that.

use std::error::Error;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::warn;
use watchword_protocol::{ErrorAnswer, ErrorCode};
use watchword_store::AccessError;

use crate::chain::Chain;
use crate::listen::TOO_LONG;

/// A request that failed.
#[derive(Debug)]
pub struct Failure {
    /// The class, which programs decide by.
    pub code: ErrorCode,
    /// For the client; names nothing that the client does not know.
    pub message: String,
    /// The name of the stored record that it is about: a keyed hash, no path.
    pub record: Option<String>,
    /// The name of the reference that it is about.
    pub reference: Option<String>,
    /// After how many seconds asking again may help.
    pub retry_after: Option<u64>,
    /// The status, where it is not the one that goes with the code.
    pub status: Option<StatusCode>,
}

impl Failure {
    /// A failure of a class, with a text for the client.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, record: None, reference: None, retry_after: None, status: None }
    }

    /// The API server, or something else that the store leans on, did not answer as hoped: the
    /// client hears `what`, the log hears why.
    pub fn unavailable(what: &str, cause: &dyn Error) -> Self {
        warn!(error = %Chain(cause), "{what}");
        Self::new(ErrorCode::Unavailable, what)
    }

    /// The store could not reach something stored, or what it found does not open: then the client
    /// hears which record it is, for that is what an operator has to look for.
    pub fn of_access(what: &str, cause: &dyn Error, source: &AccessError) -> Self {
        match source {
            AccessError::Damaged { object, .. }
            | AccessError::Missing { object }
            | AccessError::RolledBack { object } => {
                warn!(error = %Chain(cause), "{what}");
                let failure = Self::new(ErrorCode::Internal, format!("{what}: {source}"));
                Self { record: Some(object.to_string()), ..failure }
            }
            _ => Self::unavailable(what, cause),
        }
    }

    /// Says which reference it is about.
    #[must_use]
    pub fn about(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Says when asking again may help: after this time, in whole seconds.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        self
    }

    /// Answers with this status instead of the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The body of the answer.
    pub fn answer(&self) -> ErrorAnswer {
        ErrorAnswer {
            code: self.code,
            message: self.message.clone(),
            reference: self.reference.clone(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let of_code = StatusCode::from_u16(self.code.http_status());
        let status = self.status.or(of_code.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.answer())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"watchword\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Nothing is served under this path.
pub(super) async fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "there is nothing under this path")
}

/// Something is served under this path, and not with this method: `Allow` says with which.
pub(super) async fn method_not_allowed() -> Failure {
    Failure::new(ErrorCode::MethodNotAllowed, "this path does not have this method")
}

/// Gives errors that are not ours, of the router and of extractors, the form that ours have.
pub(super) async fn in_our_form(response: Response) -> Response {
    let status = response.status();
    let is_json = |value: &HeaderValue| value.as_bytes() == b"application/json";
    if !(status.is_client_error() || status.is_server_error())
        || response.headers().get(header::CONTENT_TYPE).is_some_and(is_json)
    {
        return response;
    }
    let (code, message) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            (ErrorCode::MethodNotAllowed, "this path does not have this method")
        }
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "there is nothing under this path"),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is too large"),
        StatusCode::REQUEST_TIMEOUT => (ErrorCode::Timeout, TOO_LONG),
        status if status.is_client_error() => (ErrorCode::BadRequest, "the request cannot be read"),
        _ => (ErrorCode::Internal, "the request failed"),
    };
    let mut answer = Failure::new(code, message).with_status(status).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, Bytes, to_bytes};
    use axum::extract::{DefaultBodyLimit, Query};
    use axum::http::Request;
    use axum::middleware::map_response;
    use axum::routing::get;
    use rstest::rstest;
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;

    #[derive(Deserialize)]
    struct Number {
        #[serde(rename = "number")]
        _number: u8,
    }

    fn router() -> Router {
        Router::new()
            .route("/", get(|_: Query<Number>| async {}).put(|_: Bytes| async {}))
            .route("/dead", get(|| async { Failure::new(ErrorCode::Sealed, "sealed") }))
            .layer(DefaultBodyLimit::max(4))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(map_response(in_our_form))
    }

    #[rstest]
    #[case::no_route("GET", "/none", "", 404, ErrorCode::NotFound)]
    #[case::no_method("POST", "/", "", 405, ErrorCode::MethodNotAllowed)]
    #[case::no_query("GET", "/?number=x", "", 400, ErrorCode::BadRequest)]
    #[case::too_large("PUT", "/", "12345", 413, ErrorCode::TooLarge)]
    #[case::our_own("GET", "/dead", "", 503, ErrorCode::Sealed)]
    #[tokio::test]
    async fn every_error_has_our_form(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] body: &'static str,
        #[case] status: u16,
        #[case] code: ErrorCode,
    ) {
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();

        let response = router().oneshot(request).await.unwrap();

        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key(header::ALLOW), status == 405);
        let body = to_bytes(response.into_body(), 1024).await.unwrap();
        assert_eq!(serde_json::from_slice::<ErrorAnswer>(&body).unwrap().code, code);
    }

    #[test]
    fn who_is_to_wait_hears_how_long_and_never_too_short() {
        let failure = Failure::new(ErrorCode::TooManyRequests, "wait");

        let response = failure.after(Duration::from_millis(1100)).into_response();

        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
