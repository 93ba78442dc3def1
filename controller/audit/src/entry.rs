//! What a line says: who did what, to which secret, how it was decided and why. Typed fields and
//! no others; there is none for a value.
//!
//! Names and texts come from users. JSON escapes what is no plain character, and what is longer
//! than a field may be is cut, so that a line never exceeds [`crate::MAX_LINE_BYTES`].

use serde::{Serialize, Serializer};

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What happened.
    pub event: Event,
    /// Whether it was allowed.
    pub decision: Decision,
    /// Who asked.
    pub subject: Subject<'a>,
    /// The secret's path, or a folder's with a slash at its end; absent where it is about neither.
    pub path: Option<&'a str>,
    /// The version that was given out or written; of a deletion the newest that there was.
    pub version: Option<u64>,
    /// Why, for denials and failures.
    pub cause: Option<Cause<'a>>,
    /// How many refusals before this one have no line, since there were too many.
    pub unwritten: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The whole store was read out, as ciphertext.
    Backup,
    /// Somebody else than the controller asked what only the controller may ask.
    Check,
    /// A secret was created.
    Create,
    /// All versions of a secret were deleted.
    Delete,
    /// A replica gave the root key to another one.
    Handover,
    /// The store was initialised.
    Init,
    /// Paths were listed.
    List,
    /// The key to verify this log with was asked for.
    PublicKey,
    /// A person read a secret.
    Read,
    /// The root key was replaced, and its shares with it.
    Rekey,
    /// DC/OS' renewal of a secret's lease, which here prolongs nothing.
    Renew,
    /// A container was given secrets, or not.
    Resolve,
    /// A backup was brought into an empty store.
    Restore,
    /// The keys of older terms were destroyed.
    Retire,
    /// Records were sealed under the newest term.
    Rewrap,
    /// DC/OS' end of a secret's lease, which here ends nothing.
    Revoke,
    /// An older version of a secret was made its newest.
    Rollback,
    /// The keyring got a new term.
    Rotate,
    /// The store was sealed.
    Seal,
    /// Whether the store is there and open, and which stores there are, was asked.
    Status,
    /// The store was unsealed, or a share was given towards it.
    Unseal,
    /// A secret got a new version.
    Update,
    /// Every record was checked.
    Verify,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Backup,
        Self::Check,
        Self::Create,
        Self::Delete,
        Self::Handover,
        Self::Init,
        Self::List,
        Self::PublicKey,
        Self::Read,
        Self::Rekey,
        Self::Renew,
        Self::Resolve,
        Self::Restore,
        Self::Retire,
        Self::Rewrap,
        Self::Revoke,
        Self::Rollback,
        Self::Rotate,
        Self::Seal,
        Self::Status,
        Self::Unseal,
        Self::Update,
        Self::Verify,
    ];

    /// As lines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Check => "check",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Handover => "handover",
            Self::Init => "init",
            Self::List => "list",
            Self::PublicKey => "public_key",
            Self::Read => "read",
            Self::Rekey => "rekey",
            Self::Renew => "renew",
            Self::Resolve => "resolve",
            Self::Restore => "restore",
            Self::Retire => "retire",
            Self::Rewrap => "rewrap",
            Self::Revoke => "revoke",
            Self::Rollback => "rollback",
            Self::Rotate => "rotate",
            Self::Seal => "seal",
            Self::Status => "status",
            Self::Unseal => "unseal",
            Self::Update => "update",
            Self::Verify => "verify",
        }
    }
}

/// How it was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It was done. Of a release: it is about to be, and would not be without this line.
    Allowed,
    /// It is allowed and about to be tried; another line says how it went. Written before every
    /// change, so that none stands without a line, whenever the process may end.
    Attempted,
    /// A rule forbids it.
    Denied,
    /// It is allowed and did not work. After an attempt it may have happened nonetheless: the
    /// cause says why that is not known.
    Failed,
}

impl Decision {
    /// As lines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Attempted => "attempted",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject<'a> {
    /// One container of one pod.
    Container {
        /// Namespace of the pod.
        #[serde(serialize_with = "bounded")]
        namespace: &'a str,
        /// Name of the pod.
        #[serde(serialize_with = "bounded")]
        pod: &'a str,
        /// Uid of the pod.
        #[serde(serialize_with = "bounded")]
        uid: &'a str,
        /// Name of the container.
        #[serde(serialize_with = "bounded")]
        container: &'a str,
        /// The pod's service account.
        #[serde(serialize_with = "bounded")]
        service_account: &'a str,
    },
    /// Whoever showed no token, or one that is not good for what was asked.
    Nobody {
        /// The container that the request speaks of, which is what anyone could write.
        #[serde(serialize_with = "optional_bounded", skip_serializing_if = "Option::is_none")]
        container: Option<&'a str>,
    },
    /// Another replica of the store.
    Replica {
        /// Name of its pod.
        #[serde(serialize_with = "bounded")]
        pod: &'a str,
        /// Uid of its pod.
        #[serde(serialize_with = "bounded")]
        uid: &'a str,
    },
    /// The store itself, in the background or as its settings say.
    Store {},
    /// A user of the cluster, people and programs alike.
    User {
        /// The name.
        #[serde(serialize_with = "bounded")]
        name: &'a str,
        /// The uid, where the cluster's authenticator gives one.
        #[serde(serialize_with = "optional_bounded", skip_serializing_if = "Option::is_none")]
        uid: Option<&'a str>,
    },
}

/// Why something was denied or failed.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// The class, by which programs decide; never names anything.
    pub code: &'a str,
    /// The text, for people; may name paths.
    pub message: &'a str,
    /// The record that is damaged, missing or was put back, if that is why.
    pub record: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// The same without what tells the path: the path itself, and the text of the cause.
    #[must_use]
    pub fn without_path(self) -> Self {
        let cause = self.cause.map(|cause| Cause { message: "", ..cause });
        Self { path: None, cause, ..self }
    }
}

fn bounded<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, MAX_NAME_BYTES))
}

fn optional_bounded<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => bounded(text, serializer),
        None => serializer.serialize_none(),
    }
}

/// The longest beginning of `text` that takes at most `limit` bytes in JSON.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut taken = 0;
    for (start, character) in text.char_indices() {
        taken += match character {
            '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
            '\0'..='\u{1f}' => 6,
            character => character.len_utf8(),
        };
        if taken > limit {
            return &text[..start];
        }
    }
    text
}

/// The most that the text of a cause may take in a line.
pub(crate) const MAX_CAUSE_BYTES: usize = 1024;

/// The most that a name may take in a line: what Kubernetes allows for a pod's, the longest there
/// is but for users, whose names have no limit.
pub(crate) const MAX_NAME_BYTES: usize = 253;
