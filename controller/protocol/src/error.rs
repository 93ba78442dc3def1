//! Refusals: the body of every answer whose status is not 200.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The body of every answer whose status is not 200.
///
/// Never holds a value: what stands here ends in termination messages, Events and logs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorAnswer {
    /// The class of the failure, by which programs decide.
    pub code: ErrorCode,
    /// What was tried and what stands in the way, for people.
    pub message: String,
    /// The name of the reference that the failure is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The class of a failure; snake_case in JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// It is there already, and the request would have made it.
    AlreadyExists,
    /// The request makes no sense to the store: broken JSON, an unknown version or field.
    BadRequest,
    /// Something else is under way that rules it out.
    Conflict,
    /// A rule forbids it; says nothing about whether the secret exists.
    Denied,
    /// The store failed. What is not known reads as this.
    Internal,
    /// The secret is there and cannot be used as asked: not UTF-8, no such key, too large.
    Invalid,
    /// There is such a path, and the method means nothing there.
    MethodNotAllowed,
    /// The secret, or what leads to it, is not there.
    NotFound,
    /// What the request made a condition (`If-Match`, `If-None-Match`) is not so.
    PreconditionFailed,
    /// The store is sealed; someone has to unseal it.
    Sealed,
    /// The request took longer than it may.
    Timeout,
    /// The value, or the body around it, is larger than the store takes.
    TooLarge,
    /// Too many requests of this caller were refused lately; the header `Retry-After` says when to
    /// ask again.
    TooManyRequests,
    /// The token is missing, expired, or not (yet) known to the API server.
    Unauthenticated,
    /// Something that the store needs is out of reach, or there are too many requests.
    Unavailable,
}

impl ErrorCode {
    /// All codes, alphabetical.
    pub const ALL: [Self; 15] = [
        Self::AlreadyExists,
        Self::BadRequest,
        Self::Conflict,
        Self::Denied,
        Self::Internal,
        Self::Invalid,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::PreconditionFailed,
        Self::Sealed,
        Self::Timeout,
        Self::TooLarge,
        Self::TooManyRequests,
        Self::Unauthenticated,
        Self::Unavailable,
    ];

    /// Whether asking again is useless: an agent gives up on these and asks again on all others.
    ///
    /// `Unauthenticated` is not final: the kubelet renews tokens, and a pod may ask before the
    /// store's watch has seen it.
    pub fn is_final(self) -> bool {
        match self {
            Self::AlreadyExists
            | Self::BadRequest
            | Self::Denied
            | Self::Invalid
            | Self::MethodNotAllowed
            | Self::NotFound
            | Self::PreconditionFailed
            | Self::TooLarge => true,
            Self::Conflict
            | Self::Internal
            | Self::Sealed
            | Self::Timeout
            | Self::TooManyRequests
            | Self::Unauthenticated
            | Self::Unavailable => false,
        }
    }

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::AlreadyExists | Self::Conflict => 409,
            Self::BadRequest => 400,
            Self::Denied => 403,
            Self::Internal => 500,
            Self::Invalid => 422,
            Self::MethodNotAllowed => 405,
            Self::NotFound => 404,
            Self::PreconditionFailed => 412,
            Self::Sealed | Self::Unavailable => 503,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::TooManyRequests => 429,
            Self::Unauthenticated => 401,
        }
    }

    /// The name on the wire: `not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::BadRequest => "bad_request",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::PreconditionFailed => "precondition_failed",
            Self::Sealed => "sealed",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::TooManyRequests => "too_many_requests",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A newer store may have codes that this one does not know. Asking again is right for them:
        // giving up is for failures of which it is certain that they stay.
        Ok(Self::ALL.into_iter().find(|code| code.as_str() == text).unwrap_or(Self::Internal))
    }
}
