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
    /// The request makes no sense to the store: broken JSON, an unknown version or field.
    BadRequest,
    /// A rule forbids it; says nothing about whether the secret exists.
    Denied,
    /// The store failed. What is not known reads as this.
    Internal,
    /// The secret is there and cannot be used as asked: not UTF-8, no such key, too large.
    Invalid,
    /// The secret, or what leads to it, is not there.
    NotFound,
    /// The store is sealed; someone has to unseal it.
    Sealed,
    /// The token is missing, expired, or not (yet) known to the API server.
    Unauthenticated,
    /// Something that the store needs is out of reach, or there are too many requests.
    Unavailable,
}

impl ErrorCode {
    /// All codes, alphabetical.
    pub const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::Denied,
        Self::Internal,
        Self::Invalid,
        Self::NotFound,
        Self::Sealed,
        Self::Unauthenticated,
        Self::Unavailable,
    ];

    /// Whether asking again is useless: an agent gives up on these and asks again on all others.
    ///
    /// `Unauthenticated` is not final: the kubelet renews tokens, and a pod may ask before the
    /// store's watch has seen it.
    pub fn is_final(self) -> bool {
        match self {
            Self::BadRequest | Self::Denied | Self::Invalid | Self::NotFound => true,
            Self::Internal | Self::Sealed | Self::Unauthenticated | Self::Unavailable => false,
        }
    }

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Denied => 403,
            Self::Internal => 500,
            Self::Invalid => 422,
            Self::NotFound => 404,
            Self::Sealed | Self::Unavailable => 503,
            Self::Unauthenticated => 401,
        }
    }

    /// The name on the wire: `not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Denied => "denied",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Sealed => "sealed",
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
