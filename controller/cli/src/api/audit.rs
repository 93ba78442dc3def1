//! What is asked about the audit log.
//!
//! ```text
//! GET    /secrets/v1/audit/STORE         200 {"public_key":"…"}
//! ```

use serde::Deserialize;

use super::{Action, Call, Error, ROOT, Store};

impl Store {
    /// The key to verify the audit log with, in base64.
    pub(crate) async fn audit_key(&mut self) -> Result<String, Error> {
        let call = Call::get(format!("{ROOT}/audit/{}", self.id));
        Ok(self.ask_json::<AuditKey>(Action::AuditKey(self.id.clone()), call).await?.public_key)
    }
}

#[derive(Deserialize)]
struct AuditKey {
    public_key: String,
}
