//! For the fuzz target: a client's certificate. TLS has verified it before its subject is read, but
//! whoever signs it for others decides little of what stands in there.

use rustls::pki_types::CertificateDer;

use super::client;

/// Reads DER, and PEM as the authorities for clients come.
pub fn certificate(bytes: &[u8]) {
    if let Ok(identity) = client::identity(&CertificateDer::from(bytes)) {
        assert!(!identity.user.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(client::roots(text));
    }
}
