//! Clients that show a certificate: who they are, in Kubernetes' reading of the subject.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject},
};
use x509_parser::{error::X509Error, x509::AttributeTypeAndValue};

/// Whom a verified client certificate names: common name and organisations, as the API server
/// reads them. Only [`crate::tls::serve`] puts this into a request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// The organisations (O), in the certificate's order.
    pub groups: Vec<String>,
    /// The common name (CN), never empty.
    pub user: String,
}

/// Reads the subject of a certificate that has been verified.
pub(super) fn identity(leaf: &CertificateDer<'_>) -> Result<ClientIdentity, IdentityError> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(X509Error::from)?;
    let subject = leaf.subject();
    let text = |attribute: &AttributeTypeAndValue<'_>| Some(attribute.as_str().ok()?.to_owned());
    // Of several common names Go takes the last one, and so does the API server.
    let user = subject.iter_common_name().last().and_then(text).filter(|user| !user.is_empty());
    Ok(ClientIdentity {
        groups: subject.iter_organization().filter_map(text).collect(),
        user: user.ok_or(IdentityError::Nameless)?,
    })
}

/// Why a verified certificate names nobody.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("the client's certificate has no common name")]
    Nameless,
    #[error("cannot parse the client's certificate")]
    Parse(#[from] X509Error),
}

/// The authorities of a bundle; `None` if it holds none.
pub(super) fn roots(bundle: &str) -> Result<Option<RootCertStore>, RootsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.map_err(RootsError::Pem)?).map_err(RootsError::Add)?;
    }
    Ok((!roots.is_empty()).then_some(roots))
}

/// Why a bundle of authorities for clients cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootsError {
    #[error("cannot use an authority for clients")]
    Add(#[source] rustls::Error),
    #[error("cannot read the authorities for clients as PEM")]
    Pem(#[source] pem::Error),
}
