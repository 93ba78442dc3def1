//! How the store says no: a status, a stable code and a text for the client; the causes for the
//! log, and never the one in the other.

use std::error::Error;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::warn;
use watchword_protocol::{ErrorAnswer, ErrorCode};

use crate::chain::Chain;

/// A request that failed.
#[derive(Debug)]
pub struct Failure {
    /// The class, which programs decide by.
    pub code: ErrorCode,
    /// For the client; names nothing that the client does not know.
    pub message: String,
    /// The name of the reference that it is about.
    pub reference: Option<String>,
    /// The status, where it is not the one that goes with the code.
    pub status: Option<StatusCode>,
}

impl Failure {
    /// A failure of a class, with a text for the client.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reference: None, status: None }
    }

    /// The API server, or something else that the store leans on, did not answer as hoped: the
    /// client hears `what`, the log hears why.
    pub fn unavailable(what: &str, cause: &dyn Error) -> Self {
        warn!(error = %Chain(cause), "{what}");
        Self::new(ErrorCode::Unavailable, what)
    }

    /// Says which reference it is about.
    #[must_use]
    pub fn about(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
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
        response
    }
}

/// Nothing is served under this path.
pub(super) async fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "there is nothing under this path")
}
