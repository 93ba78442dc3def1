//! HTTPS for webhook and store: TLS 1.3, certificates that change without a restart.
//!
//! The certificate is read from a folder, which kubelet fills from a Secret, and again whenever
//! its bytes change; new connections get the new one. Key exchange is hybrid post-quantum
//! (X25519MLKEM768) where the client can. Client certificates are asked for only if there is an
//! authority to verify them, are never required, and a wrong one ends the handshake.

mod certificate;
mod client;
#[cfg(fuzzing)]
pub mod fuzzing;

use std::{future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::Router;
use jiff::Timestamp;
use rustls::{ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier, version::TLS13};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use crate::{
    chain::Chain,
    listen::{self, Accepted, Limits, Protocol, Transport},
    readiness::{Condition, Readiness},
    shutdown::Shutdown,
};

pub use certificate::{Files, LoadError};
pub use client::ClientIdentity;

/// A server: where, what and how.
#[derive(Debug)]
pub struct ServeTls {
    /// Where to listen.
    pub address: SocketAddr,
    /// Authorities that may vouch for clients, if clients may show certificates at all.
    pub client_ca: Option<ClientCa>,
    /// How much of it clients may have.
    pub limits: Limits,
    /// Where the condition `certificate` goes.
    pub readiness: Readiness,
    /// What is served. A request has the extension [`listen::Peer`] and, if its client showed a
    /// certificate, [`ClientIdentity`].
    pub router: Router,
    /// When to drain and end.
    pub shutdown: Shutdown,
    /// Folder with `tls.crt` (leaf first, then intermediates) and `tls.key`.
    pub tls_dir: PathBuf,
}

/// PEM of the authorities that may vouch for clients, changing at any time; empty: none may.
pub type ClientCa = watch::Receiver<String>;

/// Serves until a shutdown is requested and drained. Waits for a certificate before it listens.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn serve(server: ServeTls) -> io::Result<()> {
    let address = server.address;
    serve_with(server, async || listen::bind(address).await, POLL).await
}

async fn serve_with(
    server: ServeTls,
    bind: impl AsyncFnOnce() -> io::Result<TcpListener>,
    poll: Duration,
) -> io::Result<()> {
    let ServeTls { address: _, client_ca, limits, readiness, router, shutdown, tls_dir } = server;
    let condition = readiness.condition(CONDITION);
    let mut identity =
        Identity { client_ca, condition, files: Files::new(tls_dir), not_after: None };
    let config = loop {
        if let Some(config) = identity.refresh() {
            break config;
        }
        tokio::select! {
            () = identity.wait(poll.min(FIRST_POLL)) => {}
            () = shutdown.requested() => return Ok(()),
        }
    };
    let config = Arc::new(ArcSwap::new(config));
    let refresh = async {
        loop {
            identity.wait(poll).await;
            if let Some(renewed) = identity.refresh() {
                config.store(renewed);
            }
        }
    };
    let transport = Tls { config: Arc::clone(&config) };
    let listener = bind().await?;
    tokio::select! {
        () = listen::serve(listener, transport, router, limits, shutdown) => Ok(()),
        () = refresh => Ok(()), // never: it has no end
    }
}

/// What the server is known by, and by whom it knows its clients.
struct Identity {
    client_ca: Option<ClientCa>,
    condition: Condition,
    files: Files,
    not_after: Option<Timestamp>,
}

impl Identity {
    /// Until it may have changed: an interval later, or when the authorities for clients do.
    async fn wait(&mut self, poll: Duration) {
        let changed = async {
            let changed = match &mut self.client_ca {
                None => false,
                Some(client_ca) => client_ca.changed().await.is_ok(),
            };
            if !changed {
                // There is none, or its sender is gone: it changes no more.
                future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = changed => self.files.forget(),
            () = time::sleep(poll) => {}
        }
    }

    /// A configuration if something has changed and can be used; keeps the condition up to date.
    fn refresh(&mut self) -> Option<Arc<ServerConfig>> {
        let config = match self.files.load() {
            Ok(None) => None,
            Ok(Some(loaded)) => match self.configure(loaded.key) {
                Ok(config) => {
                    info!(not_after = %loaded.not_after, "serving a new certificate");
                    self.not_after = Some(loaded.not_after);
                    Some(config)
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot use the certificate");
                    None
                }
            },
            Err(error) => {
                warn!(error = %Chain(&error), "cannot read the certificate");
                if self.not_after.is_none() {
                    self.condition.unmet(Chain(&error).to_string());
                }
                None
            }
        };
        match self.not_after {
            Some(not_after) if not_after.duration_since(Timestamp::now()) > MARGIN => {
                self.condition.met();
            }
            Some(not_after) => self.condition.unmet(format!("it ends at {not_after}")),
            None => {}
        }
        config
    }

    fn configure(
        &mut self,
        key: Arc<rustls::sign::CertifiedKey>,
    ) -> Result<Arc<ServerConfig>, ConfigureError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match &mut self.client_ca {
            None => None,
            Some(client_ca) => client::roots(&client_ca.borrow_and_update())?,
        };
        let verifier = match roots {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(roots) => {
                WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Why a certificate that could be read cannot be served.
#[derive(Debug, thiserror::Error)]
enum ConfigureError {
    #[error(transparent)]
    Authorities(#[from] client::RootsError),
    #[error("cannot configure TLS")]
    Configure(#[from] rustls::Error),
    #[error("cannot verify clients")]
    Verify(#[from] rustls::server::VerifierBuilderError),
}

/// The handshake, with whatever configuration is the current one.
#[derive(Clone)]
struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Transport for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn accept(&self, stream: TcpStream) -> io::Result<Accepted<Self::Stream>> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let protocol = match session.alpn_protocol() {
            Some(protocol) if protocol == HTTP2 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let mut extensions = http::Extensions::new();
        if let Some([leaf, ..]) = session.peer_certificates() {
            extensions.insert(client::identity(leaf).map_err(io::Error::other)?);
        }
        Ok(Accepted { extensions, protocol, stream })
    }
}

/// How HTTP/2 is called in the handshake.
const HTTP2: &[u8] = b"h2";

/// How often the files are read: kubelet itself takes up to a minute and a half.
const POLL: Duration = Duration::from_secs(10);

/// How often the files are read as long as nothing is served.
const FIRST_POLL: Duration = Duration::from_secs(1);

/// How long before its end a certificate makes the process unready: then another replica, or at
/// least an alarm, has time to come.
const MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// The condition's name.
const CONDITION: &str = "certificate";

#[cfg(test)]
mod tests;
