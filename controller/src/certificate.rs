//! Certificates as both the role that makes them and those that read them see them.
//!
//! Nothing here verifies a signature, and nothing has a clock.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{error::X509Error, extensions::GeneralName};

/// A certificate and the times that matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// When it was made: an hour after it becomes valid, see [`BACKDATE`].
    pub issued: Timestamp,
    /// The end of its life.
    pub not_after: Timestamp,
    /// As PEM, with a final line break.
    pub pem: String,
}

impl Certificate {
    /// All certificates of a PEM text; those after one that cannot be read are missing.
    pub fn chain(pem: &[u8]) -> Vec<Self> {
        CertificateDer::pem_slice_iter(pem)
            .map_while(|der| Self::from_der(&der.ok()?).ok())
            .collect()
    }

    /// A certificate, DER.
    ///
    /// # Errors
    ///
    /// It is none, or its times are none.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, X509Error> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der)?;
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| X509Error::InvalidDate)
        };
        let validity = parsed.validity();
        let not_before = time(validity.not_before)?;
        Ok(Self {
            der: der.clone().into_owned(),
            issued: not_before.checked_add(BACKDATE).map_err(|_| X509Error::InvalidDate)?,
            not_after: time(validity.not_after)?,
            pem: encode(der),
        })
    }

    /// Whether the names are exactly these.
    pub fn is_for(&self, dns_names: &[String]) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&self.der) else { return false };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
        names
            .value
            .general_names
            .iter()
            .eq(&dns_names.iter().map(|name| GeneralName::DNSName(name)).collect::<Vec<_>>())
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        Some(parsed.public_key().raw.to_vec())
    }

    /// The certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

fn encode(der: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::with_capacity(base64.len() + 100);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// How long before it is made a certificate is valid, for nodes whose clocks are slow.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// How long two authorities are trusted: a month for pods that started with the old one alone to
/// be replaced, and the longest life of a certificate that the old one signed.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours((30 + 30) * 24);
