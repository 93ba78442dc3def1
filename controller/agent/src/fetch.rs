//! One request to the store: `POST /v1/resolve`.
//!
//! What goes wrong is described from the connection, from the status and from the store's own
//! [`ErrorAnswer`]; a body that holds values is never quoted, not even by the parser's message.
//! Proxies and redirects are not for this: proxy variables are the application's, and a token goes
//! to the store or nowhere.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider};
use watchword_protocol::{
    ErrorAnswer, RESOLVE_PATH, ResolveAnswer, ResolveRequest, VERSION, Want, env_names,
};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::settings::{Identity, Store};

/// Asks one store, over TLS 1.3, and trusts one set of certificates.
pub(crate) struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(store: &Store) -> Result<Self, Failure> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(tls13_only()))
            .root_certs(RootCerts::Specific(Arc::new(certificates(&store.ca)?)))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("watchword-agent/", env!("CARGO_PKG_VERSION")))
            // Each try starts afresh: a connection to a replica that is gone would cost a failure.
            .max_idle_connections(0)
            // One limit per step and none over all: with one that covers looking the name up, ureq
            // starts a thread for that. Alone, the agent starts sooner and hands its signal mask on
            // as it found it. The resolver gives up by itself.
            // With the handshake.
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_send_request(Some(Duration::from_secs(10)))
            .timeout_send_body(Some(Duration::from_secs(10)))
            // The store asks the API server, and perhaps another resolver, before it answers.
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_recv_body(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Ok(Self { agent, url: format!("{}{RESOLVE_PATH}", store.url) })
    }

    /// Asks for one kind of `identity`'s secrets, once. `limit` bounds the answer, in bytes.
    pub(crate) fn resolve(
        &self,
        identity: &Identity,
        want: Want,
        limit: u64,
    ) -> Result<ResolveAnswer, Setback> {
        let request = ResolveRequest {
            version: VERSION,
            container: identity.container.clone(),
            want: vec![want],
        };
        let body = serde_json::to_string(&request)
            .map_err(|error| Setback::Final(format!("cannot write the request: {error}")))?;

        let response = self
            .agent
            .post(&self.url)
            .header("authorization", bearer(identity)?.as_str())
            .content_type("application/json")
            .send(body)
            .map_err(|error| Setback::Later(self.describe(&error)))?;

        let status = response.status();
        let body = response.into_body();
        if status == 200 {
            let length = body.content_length();
            let bytes =
                read(body.into_with_config().limit(limit).reader(), length.unwrap_or(0).min(limit))
                    .map_err(|error| Setback::Later(self.describe(&error.into())))?;
            return serde_json::from_slice(&bytes).map_err(|_| {
                Setback::Later("the store gave an answer that this agent cannot read".to_owned())
            });
        }
        // 64 KiB: a message of the store, not a page of a stranger.
        let refusal = read(body.into_with_config().limit(64 * 1024).reader(), 0)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ErrorAnswer>(&bytes).ok());
        Err(match refusal {
            Some(answer) if answer.code.is_final() => Setback::Final(answer.message),
            Some(answer) => Setback::Later(answer.message),
            // Not the store's own words, so nothing to give up for.
            None => Setback::Later(format!("the store answered with status {status}")),
        })
    }

    fn describe(&self, error: &ureq::Error) -> String {
        let url = self.url.trim_end_matches(RESOLVE_PATH);
        match error {
            ureq::Error::HostNotFound => format!("cannot find `{url}`"),
            ureq::Error::Io(error) => format!("cannot reach `{url}`: {error}"),
            ureq::Error::Timeout(_) => format!("`{url}` takes too long"),
            error => format!("cannot ask `{url}`: {error}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The store has decided; asking again is useless.
    Final(String),
    /// Asking again may help.
    Later(String),
}

/// Without a suite of TLS 1.2 that version is not even offered.
fn tls13_only() -> rustls::crypto::CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider
}

fn certificates(pem: &str) -> Result<Vec<ureq::tls::Certificate<'static>>, Failure> {
    let broken = |why: &dyn std::fmt::Display| {
        Failure::launch(format!("{}: {why}", env_names::WATCHWORD_CA))
    };
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| broken(&error))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(broken(&"no certificate in it"));
    }
    Ok(certificates)
}

/// The token as it is now: the kubelet renews the file while we wait.
fn bearer(identity: &Identity) -> Result<Zeroizing<String>, Setback> {
    let path = identity.token.display();
    let token = std::fs::read_to_string(&identity.token)
        .map(Zeroizing::new)
        .map_err(|error| Setback::Later(format!("cannot read the token `{path}`: {error}")))?;
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Setback::Later(format!("`{path}` holds no token")));
    }
    Ok(Zeroizing::new(format!("Bearer {token}")))
}

/// Reads to the end. A plain `read_to_end` would leave unwiped copies behind as its vector grows.
fn read(mut body: impl Read, expected: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // One byte more than expected, so that the end shows without growing.
    let capacity = usize::try_from(expected).unwrap_or(0).max(4095) + 1;
    let mut bytes = Zeroizing::new(vec![0; capacity]);
    let mut length = 0;
    loop {
        match body.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; length * 2]);
            larger[..length].copy_from_slice(&bytes);
            bytes = larger;
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read;

    proptest! {
        #[test]
        fn a_body_is_read_whole_whatever_was_expected(
            body in proptest::collection::vec(any::<u8>(), 0..20_000),
            expected in 0_u64..20_000,
        ) {
            let bytes = read(&body[..], expected).unwrap();

            prop_assert_eq!(&*bytes, &body);
        }
    }
}
