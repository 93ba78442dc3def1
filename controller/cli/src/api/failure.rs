//! What the store did not do: what was tried, why not, and what to do about it.

use std::fmt;

use http::{Response, StatusCode};
use serde::Deserialize;
use watchword_core::reference::SecretName;
use zeroize::Zeroizing;

use super::{Directory, ROOT, StoreId};
use crate::{connect, value::MAX_VALUE_BYTES};

/// What was tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    AuditKey(StoreId),
    AutoUnseal(StoreId),
    Backup(StoreId),
    CancelRekey(StoreId),
    Create(SecretName),
    Delete(SecretName),
    Init(StoreId),
    List(Directory),
    Read(SecretName),
    ReadVersion(SecretName, u64),
    Rekey(StoreId),
    RekeyShare(StoreId),
    RekeyStatus(StoreId),
    Restore(StoreId),
    RollBack(SecretName, u64),
    Rotate(StoreId),
    RotateStatus(StoreId),
    Seal(StoreId),
    SealStatus(StoreId),
    Shares(StoreId),
    Show(StoreId),
    Unseal(StoreId),
    Update(SecretName),
    Verify(StoreId),
    Versions(SecretName),
}

impl Action {
    /// The verb and the path that the store asks the cluster about.
    fn right(&self) -> Option<(&'static str, String)> {
        let secret = |name: &dyn fmt::Display| format!("secret/default/{name}");
        let store = |verb, id: &StoreId| Some((verb, format!("store/{id}")));
        match self {
            Self::AuditKey(id) => store("audit", id),
            Self::AutoUnseal(id) | Self::Unseal(id) => store("unseal", id),
            Self::Backup(id) => store("backup", id),
            Self::CancelRekey(id)
            | Self::Rekey(id)
            | Self::RekeyShare(id)
            | Self::RekeyStatus(id) => store("rekey", id),
            Self::Create(name) => Some(("create", secret(name))),
            Self::Delete(name) => Some(("delete", secret(name))),
            Self::Init(id) | Self::Shares(id) => store("init", id),
            Self::List(directory) => {
                let slash = if directory.path().is_empty() { "" } else { "/" };
                Some(("list", format!("secret/default/{}{slash}", directory.path())))
            }
            Self::Read(name) | Self::ReadVersion(name, _) | Self::Versions(name) => {
                Some(("read", secret(name)))
            }
            Self::Restore(id) => store("restore", id),
            Self::Rotate(id) | Self::RotateStatus(id) => store("rotate", id),
            Self::Seal(id) => store("seal", id),
            Self::SealStatus(_) => None,
            Self::Show(id) => store("read", id),
            Self::Verify(id) => store("verify", id),
            Self::RollBack(name, _) | Self::Update(name) => Some(("update", secret(name))),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuditKey(store) => write!(f, "read the key of the audit log of store `{store}`"),
            Self::AutoUnseal(store) => write!(f, "let store `{store}` unseal itself"),
            Self::Backup(store) => write!(f, "back up store `{store}`"),
            Self::CancelRekey(store) => write!(f, "cancel the rekeying of store `{store}`"),
            Self::Create(name) => write!(f, "create `{name}`"),
            Self::Delete(name) => write!(f, "delete `{name}`"),
            Self::Init(store) => write!(f, "initialise store `{store}`"),
            Self::List(directory) => write!(f, "list `{directory}`"),
            Self::Read(name) => write!(f, "read `{name}`"),
            Self::ReadVersion(name, version) => write!(f, "read version {version} of `{name}`"),
            Self::Rekey(store) => write!(f, "begin to rekey store `{store}`"),
            Self::RekeyShare(store) => write!(f, "give a share to rekey store `{store}`"),
            Self::RekeyStatus(store) => write!(f, "read how far rekeying store `{store}` is"),
            Self::Restore(store) => write!(f, "restore store `{store}`"),
            Self::RollBack(name, version) => write!(f, "roll `{name}` back to version {version}"),
            Self::Rotate(store) => write!(f, "rotate the keys of store `{store}`"),
            Self::RotateStatus(store) => write!(f, "read the terms of store `{store}`"),
            Self::Seal(store) => write!(f, "seal store `{store}`"),
            Self::SealStatus(store) => write!(f, "read the seal status of store `{store}`"),
            Self::Shares(store) => write!(f, "read the encrypted shares of store `{store}`"),
            Self::Show(store) => write!(f, "read what store `{store}` is"),
            Self::Unseal(store) => write!(f, "unseal store `{store}`"),
            Self::Update(name) => write!(f, "update `{name}`"),
            Self::Verify(store) => write!(f, "verify store `{store}`"),
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
    pub(super) fn new(action: &Action, cause: Cause) -> Self {
        Self { action: action.clone(), cause }
    }

    /// The error of an answer that is a refusal.
    pub(super) fn refused(action: &Action, answer: &Response<Zeroizing<Vec<u8>>>) -> Self {
        Self::new(action, Cause::Refused(Refusal::read(answer)))
    }

    /// Whether the store itself said no, so that nothing was done.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(&self.cause, Cause::Refused(refusal) if refusal.status.is_client_error())
    }

    /// Whether it may be gone with another connection, because a replica is going away or cannot
    /// reach what it needs.
    pub(crate) fn may_pass(&self) -> bool {
        match &self.cause {
            Cause::Exchange(error) => error.may_pass(),
            Cause::Refused(refusal) => {
                refusal.status == StatusCode::SERVICE_UNAVAILABLE && !refusal.is_sealed()
            }
            _ => false,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let Cause::Refused(refusal) = &self.cause else { return None };
        if refusal.is_sealed() {
            return Some(refusal.way_to_open().to_owned());
        }
        match (refusal.status, &self.action) {
            (StatusCode::NOT_FOUND, _) if refusal.message.contains("no such store") => {
                Some("leave --store-id out".to_owned())
            }
            (StatusCode::BAD_REQUEST, Action::Unseal(_))
                if refusal.message.contains("not initiali") =>
            {
                Some(NEW_STORE.to_owned())
            }
            (StatusCode::UNAUTHORIZED, _) => {
                Some("a token may have expired; `kubectl auth whoami` says who you are".to_owned())
            }
            (StatusCode::FORBIDDEN, action) => {
                let (verb, path) = action.right()?;
                Some(format!(
                    "ask for the right that `kubectl auth can-i {verb} {ROOT}/{path}` checks"
                ))
            }
            (StatusCode::NOT_FOUND, Action::Update(name)) => {
                Some(format!("store it with `watchword secret create {name}`"))
            }
            (StatusCode::NOT_FOUND, Action::ReadVersion(name, _) | Action::RollBack(name, _)) => {
                Some(format!("`watchword secret versions {name}` shows which are kept"))
            }
            (StatusCode::NOT_FOUND, Action::Delete(_) | Action::Read(_) | Action::Versions(_)) => {
                Some("`watchword secret list` shows what is there".to_owned())
            }
            (StatusCode::NOT_FOUND, Action::Shares(_)) => Some(NEW_STORE.to_owned()),
            (StatusCode::CONFLICT, Action::Create(name)) => {
                Some(format!("change it with `watchword secret update {name}`"))
            }
            (StatusCode::CONFLICT, Action::Init(_)) => {
                Some("change its shares with `watchword store rekey`".to_owned())
            }
            (StatusCode::CONFLICT, Action::Rekey(_)) => Some(
                "`watchword store rekey --status` shows the one under way, --cancel stops it"
                    .to_owned(),
            ),
            (
                StatusCode::PRECONDITION_FAILED,
                Action::Delete(name) | Action::RollBack(name, _) | Action::Update(name),
            ) => Some(format!("somebody was faster: look with `watchword secret versions {name}`")),
            (StatusCode::PAYLOAD_TOO_LARGE, Action::Create(_) | Action::Update(_)) => {
                Some(format!("a value has at most {MAX_VALUE_BYTES} bytes (1 MiB less 1 KiB)"))
            }
            _ => None,
        }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
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
pub(super) struct Refusal {
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

    /// What opens a store that refused because it is closed.
    fn way_to_open(&self) -> &'static str {
        match self.message.contains("initiali") {
            true => NEW_STORE,
            false => {
                "open it with `watchword store unseal`; `watchword store status` says how many \
                 shares it takes"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.message.is_empty() {
            return f.write_str(&self.message);
        }
        if self.is_sealed() {
            return f.write_str("the store is sealed");
        }
        match self.status {
            StatusCode::UNAUTHORIZED => f.write_str("the store does not know who is asking"),
            StatusCode::FORBIDDEN => f.write_str("it is not allowed"),
            StatusCode::NOT_FOUND => f.write_str("there is no such secret"),
            StatusCode::CONFLICT => f.write_str("it exists already"),
            StatusCode::PAYLOAD_TOO_LARGE => f.write_str("the value is too long"),
            StatusCode::PRECONDITION_FAILED => f.write_str("it has changed"),
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

const NEW_STORE: &str = "a new store is made with `watchword store init`";

#[cfg(test)]
mod tests;
