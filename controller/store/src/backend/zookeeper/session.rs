//! The connection to ZooKeeper, and a new one when its session has ended.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use zookeeper_client::{Acls, Client, Error};

use super::Digest;

/// At most one session at a time, made when it is needed.
pub(super) struct Session {
    hosts: String,
    digest: Option<Digest>,
    client: Mutex<Option<Client>>,
}

impl Session {
    pub(super) fn new(hosts: String, digest: Option<Digest>) -> Self {
        Self { hosts, digest, client: Mutex::new(None) }
    }

    /// The client of a session that has not ended as far as is known; it may be without a
    /// connection, and then requests wait until there is one or the session ends.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        // Whoever finds the session ended opens the next one, and the others wait for it.
        let mut current = self.client.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.state().is_terminated()) {
            return Ok(client.clone());
        }
        let mut connector = Client::connector().with_session_timeout(SESSION_TIMEOUT);
        if let Some(digest) = &self.digest {
            connector = connector.with_auth("digest", digest.0.expose_secret().as_bytes());
        }
        let client = connector.connect(&self.hosts).await?;
        *current = Some(client.clone());
        Ok(client)
    }

    /// Whom new nodes are for.
    pub(super) fn acls(&self) -> Acls<'static> {
        match self.digest {
            None => Acls::anyone_all(),
            Some(_) => Acls::creator_all(),
        }
    }
}

/// How long a session lasts without a server that it can reach, if the servers agree: long enough
/// for an election, and less than what callers wait.
const SESSION_TIMEOUT: Duration = Duration::from_secs(8);
