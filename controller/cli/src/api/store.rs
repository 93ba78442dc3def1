//! What is asked about the store itself.
//!
//! ```text
//! GET    /secrets/v1/seal-status/STORE   200 {"sealed":true,"threshold":2,"shares":3,"progress":0}
//! PUT    /secrets/v1/seal/STORE          200
//! GET    /secrets/v1/store/STORE         200 {"name":"default","driver":"…",…}
//! ```

use serde::{Deserialize, Serialize};

use super::{Action, Call, Error, ROOT, Store};

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

    /// Drops the key on every replica.
    pub(crate) async fn seal(&mut self) -> Result<(), Error> {
        let call = Call::put(self.path("seal"));
        self.ask(Action::Seal(self.id.clone()), call).await.map(drop)
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
