//! What is asked about the audit log, and for the comparison with it.
//!
//! ```text
//! GET    /secrets/v1/audit/STORE         200 {"public_key":"…"}
//! GET    /secrets/v1/verify/STORE        200 {"time":"…","objects":[{"object":"…","newest":1,…}],"sound_versions":9}
//! ```

use jiff::Timestamp;
use serde::Deserialize;

use crate::connect::STANDSTILL_TIME;

use super::{Action, Call, Error, ROOT, Store};

impl Store {
    /// The key to verify the audit log with, in base64.
    pub(crate) async fn audit_key(&mut self) -> Result<String, Error> {
        let call = Call::get(format!("{ROOT}/audit/{}", self.id));
        Ok(self.ask_json::<AuditKey>(Action::AuditKey(self.id.clone()), call).await?.public_key)
    }

    /// What every record is, after the store has opened each.
    pub(crate) async fn verify(&mut self) -> Result<Verified, Error> {
        let call = Call::get(format!("{ROOT}/verify/{}", self.id));
        let call = Call { limit: STANDSTILL_TIME, ..call };
        self.ask_json(Action::Verify(self.id.clone()), call).await
    }
}

#[derive(Deserialize)]
struct AuditKey {
    public_key: String,
}

/// The store as its records say.
#[derive(Deserialize)]
pub(crate) struct Verified {
    /// When the store began to look, by its clock.
    pub(crate) time: Timestamp,
    /// The records, but for those that are only counted.
    pub(crate) objects: Vec<Object>,
    /// How many versions open; a store of an earlier release has them among the records.
    #[serde(default)]
    sound_versions: usize,
}

impl Verified {
    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.objects.len() + self.sound_versions
    }
}

/// What is known of a record, without its path.
#[derive(Deserialize)]
pub(crate) struct Object {
    /// Its name; of a secret's head the keyed hash of the path.
    pub(crate) object: String,
    /// Of a head: the highest version that there ever was.
    pub(crate) newest: u64,
    /// Whether the secret is deleted.
    pub(crate) deleted: bool,
    /// What is wrong with it.
    pub(crate) damage: Option<String>,
}

impl Object {
    /// Whether it is the head of a secret: 56 hexadecimal digits and no more.
    pub(crate) fn is_head(&self) -> bool {
        self.object.len() == 56 && self.object.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}
