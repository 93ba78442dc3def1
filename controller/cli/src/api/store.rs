//! What is asked about the store itself.
//!
//! ```text
//! GET    /secrets/v1/seal-status/STORE   200 {"sealed":true,"threshold":2,"shares":3,"progress":0}
//! GET    /secrets/v1/init/STORE          200 {"keys":["<hex>"],"pgp_fingerprints":["…"]}
//! PUT    /secrets/v1/init/STORE          the same, from {"shares":3,"threshold":2,"pgp_keys":["<base64>"]}
//! PUT    /secrets/v1/unseal/STORE        200 the seal status, from {"key":"<hex>"} or {"reset":true}
//! PUT    /secrets/v1/auto-unseal/STORE   204
//! PUT    /secrets/v1/seal/STORE          200
//! GET    /secrets/v1/rekey/STORE         200 how far it is
//! PUT    /secrets/v1/rekey/STORE         the same, from what `init` takes
//! PUT    /secrets/v1/rekey/STORE/share   the same, from {"key":"<hex>","nonce":"…"}; in the end with keys
//! DELETE /secrets/v1/rekey/STORE         the same, from {"nonce":"…"}
//! GET    /secrets/v1/rotate/STORE        200 the terms, and how far rewrapping is
//! PUT    /secrets/v1/rotate/STORE        the same, from {"retire":true}
//! GET    /secrets/v1/backup/STORE        200 octet-stream
//! PUT    /secrets/v1/restore/STORE       204 from an octet-stream, into a new store only
//! GET    /secrets/v1/store/STORE         200 {"name":"default","driver":"…",…}
//! ```
//!
//! A share is on its way here only in [`Store::unseal`] and [`Store::give_to_rekey`], in memory that
//! is wiped.

use std::{fs::File, io::Write};

use http::{HeaderValue, Method, header::EXPECT};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Action, BYTES, Call, Error, ROOT, Store};
use crate::connect::RequestBody;

impl Store {
    /// Says whether the store is sealed.
    pub(crate) async fn seal_status(&mut self) -> Result<SealStatus, Error> {
        let call = Call::get(self.path("seal-status"));
        self.ask_json(Action::SealStatus(self.id.clone()), call).await
    }

    /// Says what kind of store it is.
    pub(crate) async fn show(&mut self) -> Result<Backend, Error> {
        let call = Call::get(self.path("store"));
        self.ask_json(Action::Show(self.id.clone()), call).await
    }

    /// Makes the root key, and gives its encrypted shares.
    pub(crate) async fn init(&mut self, custody: &Custody) -> Result<Entrusted, Error> {
        let action = Action::Init(self.id.clone());
        let call = Call::put(self.path("init")).with_json(custody, SMALL);
        self.ask_json(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await
    }

    /// The encrypted shares of the store as it is.
    pub(crate) async fn shares(&mut self) -> Result<Entrusted, Error> {
        let call = Call::get(self.path("init"));
        self.ask_json(Action::Shares(self.id.clone()), call).await
    }

    /// Gives a share.
    pub(crate) async fn unseal(&mut self, share: &Zeroizing<String>) -> Result<SealStatus, Error> {
        self.change_seal(&Unsealing::Key(share)).await
    }

    /// Forgets the shares given so far.
    pub(crate) async fn forget_shares(&mut self) -> Result<SealStatus, Error> {
        self.change_seal(&Unsealing::Reset(true)).await
    }

    /// Lets the store open itself.
    pub(crate) async fn auto_unseal(&mut self) -> Result<(), Error> {
        let call = Call::put(self.path("auto-unseal"));
        self.ask(Action::AutoUnseal(self.id.clone()), call).await.map(drop)
    }

    /// Drops the key on every replica.
    pub(crate) async fn seal(&mut self) -> Result<(), Error> {
        let call = Call::put(self.path("seal"));
        self.ask(Action::Seal(self.id.clone()), call).await.map(drop)
    }

    /// Says how far a change of the shares is.
    pub(crate) async fn rekey_status(&mut self) -> Result<RekeyStatus, Error> {
        let call = Call::get(self.path("rekey"));
        self.ask_json(Action::RekeyStatus(self.id.clone()), call).await
    }

    /// Begins a change of the shares.
    pub(crate) async fn begin_rekey(&mut self, custody: &Custody) -> Result<RekeyStatus, Error> {
        let action = Action::Rekey(self.id.clone());
        let call = Call::put(self.path("rekey")).with_json(custody, SMALL);
        self.ask_json(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await
    }

    /// Gives a share to the change of this nonce.
    pub(crate) async fn give_to_rekey(
        &mut self,
        share: &Zeroizing<String>,
        nonce: &str,
    ) -> Result<RekeyStatus, Error> {
        let action = Action::RekeyShare(self.id.clone());
        let call = Call::put(format!("{}/share", self.path("rekey")));
        let call = call.with_json(&RekeyShare { key: share, nonce }, SMALL);
        self.ask_json(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await
    }

    /// Stops the change of the shares that has this nonce.
    pub(crate) async fn cancel_rekey(&mut self, nonce: &str) -> Result<(), Error> {
        let action = Action::CancelRekey(self.id.clone());
        let call = Call::new(Method::DELETE, self.path("rekey"));
        let call = call.with_json(&RekeyCancel { nonce }, SMALL);
        self.ask(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await.map(drop)
    }

    /// Says which terms there are, and how far rewrapping is.
    pub(crate) async fn rotate_status(&mut self) -> Result<RotateStatus, Error> {
        let call = Call::get(self.path("rotate"));
        self.ask_json(Action::RotateStatus(self.id.clone()), call).await
    }

    /// Begins a new term, and destroys the older ones in the end if asked to.
    pub(crate) async fn rotate(&mut self, retire: bool) -> Result<RotateStatus, Error> {
        let action = Action::Rotate(self.id.clone());
        let call = Call::put(self.path("rotate")).with_json(&Rotation { retire }, SMALL);
        self.ask_json(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await
    }

    /// Writes a backup to `sink`.
    pub(crate) async fn backup(&mut self, sink: &mut impl Write) -> Result<(), Error> {
        let action = Action::Backup(self.id.clone());
        let call = Call { accept: BYTES, ..Call::get(self.path("backup")) };
        let request = self.request(call).map_err(|error| Error::new(&action, error.into()))?;
        let answer = self.connection.download(request, sink).await;
        let answer = answer.map_err(|error| Error::new(&action, error.into()))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(Error::refused(&action, &answer)),
        }
    }

    /// Brings a backup of this length into a new store.
    pub(crate) async fn restore(
        &mut self,
        backup: File,
        length: u64,
        bar: ProgressBar,
    ) -> Result<(), Error> {
        let body = Some((BYTES, RequestBody::file(backup, length, bar)));
        let expect = Some((EXPECT, HeaderValue::from_static("100-continue")));
        let call = Call { body, condition: expect, ..Call::put(self.path("restore")) };
        self.ask(Action::Restore(self.id.clone()), call).await.map(drop)
    }

    async fn change_seal(&mut self, change: &Unsealing<'_>) -> Result<SealStatus, Error> {
        let action = Action::Unseal(self.id.clone());
        let call = Call::put(self.path("unseal")).with_json(change, SMALL);
        self.ask_json(action.clone(), call.map_err(|cause| Error::new(&action, cause))?).await
    }

    fn path(&self, operation: &str) -> String {
        format!("{ROOT}/{operation}/{}", self.id)
    }
}

/// What kind of store it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Backend {
    /// Its id.
    pub(crate) name: String,
    /// For people.
    pub(crate) description: String,
    /// Where it keeps its records.
    pub(crate) driver: String,
    /// There is a root key.
    pub(crate) initialized: bool,
    /// There is no key in memory.
    pub(crate) sealed: bool,
}

/// Who is to hold the shares of a new root key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Custody {
    /// How many there are.
    pub(crate) shares: i64,
    /// How many of them open the store.
    pub(crate) threshold: i64,
    /// The OpenPGP public key of each holder, base64 of its binary form.
    pub(crate) pgp_keys: Vec<String>,
}

/// Shares that only their holders can read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Entrusted {
    /// Hexadecimal digits of one OpenPGP message for each share.
    pub(crate) keys: Vec<String>,
    /// The fingerprint of the key that each is encrypted to.
    pub(crate) pgp_fingerprints: Vec<String>,
}

/// Whether a store is sealed, and what opens it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct SealStatus {
    /// Sealed: there is no key, and all that needs one is refused.
    pub(crate) sealed: bool,
    /// How many shares open it.
    pub(crate) threshold: u32,
    /// How many shares there are; none in a store that is not initialised.
    pub(crate) shares: u32,
    /// How many different shares have been given since it was last opened or reset.
    pub(crate) progress: u32,
}

/// How far a change of the shares is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct RekeyStatus {
    /// One is under way.
    pub(crate) started: bool,
    /// Which; every share is given to it by this name.
    pub(crate) nonce: String,
    /// How many shares there will be.
    pub(crate) shares: u32,
    /// How many of them will open the store.
    pub(crate) threshold: u32,
    /// How many of today's shares have been given.
    pub(crate) progress: u32,
    /// How many of today's shares it takes.
    pub(crate) required: u32,
    /// It is done.
    pub(crate) complete: bool,
    /// The new encrypted shares, when it is done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    /// The keys that they are, or will be, encrypted to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pgp_fingerprints: Vec<String>,
}

impl RekeyStatus {
    /// The new shares, when it is done.
    pub(crate) fn entrusted(&self) -> Option<Entrusted> {
        let Self { keys, pgp_fingerprints, .. } = self;
        self.complete
            .then(|| Entrusted { keys: keys.clone(), pgp_fingerprints: pgp_fingerprints.clone() })
    }
}

/// The terms of a store's keys, and how far rewrapping is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct RotateStatus {
    /// The term that new values are sealed under.
    pub(crate) term: u32,
    /// All that are kept, oldest first.
    pub(crate) terms: Vec<Term>,
    /// How far older records are.
    pub(crate) rewrap: Rewrap,
    /// Why rewrapping stopped, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// One term.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Term {
    pub(crate) term: u32,
    /// When it began, as the store says it.
    pub(crate) created: serde_json::Value,
}

/// How far rewrapping is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Rewrap {
    pub(crate) running: bool,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// The request that changes whether the store is sealed. It has no `Debug`: it may hold a share.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Unsealing<'a> {
    Key(&'a str),
    Reset(bool),
}

/// The request with a share for a change of the shares. It has no `Debug`.
#[derive(Serialize)]
struct RekeyShare<'a> {
    key: &'a str,
    nonce: &'a str,
}

#[derive(Serialize)]
struct RekeyCancel<'a> {
    nonce: &'a str,
}

#[derive(Serialize)]
struct Rotation {
    retire: bool,
}

/// Room for the body of a request that has a share in it, so that it grows nowhere.
const SMALL: usize = 1024;
