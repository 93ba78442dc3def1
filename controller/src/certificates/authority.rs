//! The authority itself: what it signs, and how it is kept in a Secret.
//!
//! ```text
//!            previous ──signs──► cross ═╗ same key and name
//!            current ═══════════════════╝──signs──► leaf        served: leaf, cross
//! ```
//!
//! A successor is signed by its predecessor too (`cross`), and servers send that along: whoever
//! trusts either of the two can verify the leaf, so that an authority can change while pods that
//! know only the old one go on. Keys are ECDSA P-256. Nothing here has a clock.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use x509_parser::error::X509Error;
use zeroize::{Zeroize, Zeroizing};

use watchword_crds::names;

use crate::certificate::{BACKDATE, Certificate};

/// A certificate authority with its key, and what is left of its predecessor.
///
/// It has no `Debug`, because of the key.
pub struct Authority {
    certificate: Certificate,
    key: Key,
    predecessor: Option<Predecessor>,
}

/// The authority before, still trusted by those who got to know it then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Predecessor {
    /// Its own certificate.
    pub certificate: Certificate,
    /// The current authority's key and name, signed by this one.
    pub cross: Certificate,
}

/// What a server gets. It has no `Debug`, because of the key.
pub struct Leaf {
    /// PEM: the server's certificate, then the cross certificate if there is one.
    pub chain: String,
    /// PEM of the private key.
    pub key: Zeroizing<String>,
}

impl Authority {
    /// A new authority that nobody knows yet.
    ///
    /// # Errors
    ///
    /// The system has no randomness, or `now` is not a time that certificates can hold.
    pub fn create(now: Timestamp) -> Result<Self, IssueError> {
        let key = Key(KeyPair::generate()?);
        // One more than none: the cross certificate of a successor stands between it and a leaf.
        let parameters = authority_parameters(now, now.checked_add(LIFE)?, 1)?;
        let certificate = Certificate::from_der(parameters.self_signed(&key.0)?.der())?;
        Ok(Self { certificate, key, predecessor: None })
    }

    /// A new authority that is trusted by whoever trusts this one, as long as this one lives.
    ///
    /// # Errors
    ///
    /// As for [`Authority::create`].
    pub fn succeed(&self, now: Timestamp) -> Result<Self, IssueError> {
        let successor = Self::create(now)?;
        let end = self.certificate.not_after.min(successor.certificate.not_after);
        let mut parameters = authority_parameters(now, end, 0)?;
        parameters.use_authority_key_identifier_extension = true;
        let cross = parameters.signed_by(&successor.key.0, &self.issuer()?)?;
        let predecessor = Predecessor {
            certificate: self.certificate.clone(),
            cross: Certificate::from_der(cross.der())?,
        };
        Ok(Self { predecessor: Some(predecessor), ..successor })
    }

    /// The same authority, trusted only by those who know it.
    #[must_use]
    pub fn without_predecessor(self) -> Self {
        Self { predecessor: None, ..self }
    }

    /// A certificate for a server with these names.
    ///
    /// # Errors
    ///
    /// As for [`Authority::create`], or a name is not one.
    pub fn issue(&self, dns_names: &[String], now: Timestamp) -> Result<Leaf, IssueError> {
        let key = Key(KeyPair::generate()?);
        let mut parameters = CertificateParams::new(dns_names)?;
        parameters.distinguished_name = named(dns_names.first().map_or("", String::as_str));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = SystemTime::from(now - BACKDATE).into();
        parameters.not_after = SystemTime::from(now + LEAF_LIFE).into();
        let mut chain = parameters.signed_by(&key.0, &self.issuer()?)?.pem();
        if let Some(predecessor) = &self.predecessor {
            chain.push_str(&predecessor.cross.pem);
        }
        Ok(Leaf { chain, key: Zeroizing::new(key.0.serialize_pem()) })
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The authority before, if it still matters.
    pub fn predecessor(&self) -> Option<&Predecessor> {
        self.predecessor.as_ref()
    }

    /// PEM of what clients should trust: this authority and its predecessor.
    pub fn bundle(&self) -> String {
        let mut bundle = self.certificate.pem.clone();
        if let Some(predecessor) = &self.predecessor {
            bundle.push_str(&predecessor.certificate.pem);
        }
        bundle
    }

    /// Whether `chain` is what [`Authority::issue`] would send for `dns_names` with another key:
    /// signed by this authority, for these names and no others, with the right intermediates.
    pub fn has_issued(&self, chain: &[Certificate], dns_names: &[String]) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let cross = self.predecessor.as_ref().map(|predecessor| &predecessor.cross);
        intermediates.iter().eq(cross) && leaf.is_for(dns_names) && self.has_signed(leaf, dns_names)
    }

    fn has_signed(&self, leaf: &Certificate, dns_names: &[String]) -> bool {
        let verify = || {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).ok()?;
            let provider = aws_lc_rs::default_provider().into();
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
            let name = ServerName::try_from(dns_names.first()?.as_str()).ok()?;
            let then = u64::try_from(leaf.issued.as_second()).ok()?;
            let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
            verifier.build().ok()?.verify_server_cert(leaf.der(), &[], &name, &[], then).ok()
        };
        verify().is_some()
    }

    /// The authority as a Secret's data.
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::from([
            (names::CA_CERTIFICATE_KEY, self.certificate.pem.clone().into_bytes()),
            (names::CA_PRIVATE_KEY_KEY, self.key.0.serialize_pem().into_bytes()),
        ]);
        if let Some(Predecessor { certificate, cross }) = &self.predecessor {
            data.insert(names::CA_PREVIOUS_KEY, certificate.pem.clone().into_bytes());
            data.insert(names::CA_CROSS_KEY, cross.pem.clone().into_bytes());
        }
        data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value))).collect()
    }

    /// The authority from a Secret's data. A predecessor needs both of its entries.
    ///
    /// # Errors
    ///
    /// An entry is missing or is not what its name says, or the key is another's.
    pub fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, ReadError> {
        let text = |entry: &'static str| match data.get(entry) {
            None => Err(ReadError::Missing { entry }),
            Some(bytes) => str::from_utf8(&bytes.0).map_err(|_| ReadError::NotPem { entry }),
        };
        let certificate = |entry| {
            let not_pem = |_| ReadError::NotPem { entry };
            let der = CertificateDer::from_pem_slice(text(entry)?.as_bytes()).map_err(not_pem)?;
            Certificate::from_der(&der).map_err(|source| ReadError::Parse { entry, source })
        };
        let key = KeyPair::from_pem(text(names::CA_PRIVATE_KEY_KEY)?)
            .map(Key)
            .map_err(|_| ReadError::NotPem { entry: names::CA_PRIVATE_KEY_KEY })?;
        let own = certificate(names::CA_CERTIFICATE_KEY)?;
        if own.public_key() != Some(key.0.subject_public_key_info()) {
            return Err(ReadError::OtherKey);
        }
        let predecessor = if data.contains_key(names::CA_PREVIOUS_KEY) {
            let cross = certificate(names::CA_CROSS_KEY)?;
            if cross.public_key() != own.public_key() {
                return Err(ReadError::OtherKey);
            }
            Some(Predecessor { certificate: certificate(names::CA_PREVIOUS_KEY)?, cross })
        } else {
            None
        };
        Ok(Self { certificate: own, key, predecessor })
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(self.certificate.der(), &self.key.0)
    }
}

/// Why nothing could be signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// What was signed cannot be read again.
    #[error("cannot read a new certificate")]
    Read(#[from] X509Error),
    /// Key generation or signing failed.
    #[error("cannot sign")]
    Sign(#[from] rcgen::Error),
    /// The clock is far off.
    #[error("cannot compute the times of a certificate")]
    Times(#[from] jiff::Error),
}

/// Why the Secret holds no authority.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is not there.
    #[error("cannot find `{entry}`")]
    Missing {
        /// Which.
        entry: &'static str,
    },
    /// An entry is not the PEM that it should be.
    #[error("cannot read `{entry}` as PEM")]
    NotPem {
        /// Which.
        entry: &'static str,
    },
    /// Key and certificates do not belong together.
    #[error("the key is not that of the certificates")]
    OtherKey,
    /// An entry is PEM, but of no certificate.
    #[error("cannot parse `{entry}`")]
    Parse {
        /// Which.
        entry: &'static str,
        /// Why.
        source: X509Error,
    },
}

/// A private key, whose encoded form is wiped when it is dropped.
struct Key(KeyPair);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What the certificates of an authority made at `now` say.
fn authority_parameters(
    now: Timestamp,
    not_after: Timestamp,
    intermediates: u8,
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new([])?;
    // Generations have different names: a verifier chooses among authorities by name.
    parameters.distinguished_name = named(&format!("Watchword authority {}", to_second(now)));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(intermediates));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = SystemTime::from(now - BACKDATE).into();
    parameters.not_after = SystemTime::from(not_after).into();
    Ok(parameters)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // A common name longer than 64 is refused by some; the names that count are elsewhere.
    name.push(DnType::CommonName, common_name.get(..64).unwrap_or(common_name));
    name
}

fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// How long an authority lives: ten years of 365 days.
pub const LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// How long a server's certificate lives.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["watchword-store", "watchword-store.watchword-system.svc"];

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    fn start() -> Timestamp {
        "2026-11-23T20:53:14Z".parse().unwrap()
    }

    #[test]
    fn an_authority_survives_its_secret() {
        let first = Authority::create(start()).unwrap();
        let second = first.succeed(start() + LEAF_LIFE).unwrap();

        let read = Authority::from_data(&second.to_data()).unwrap();

        assert!(read.certificate() == second.certificate());
        assert!(read.predecessor() == second.predecessor());
        assert_eq!(read.bundle(), second.bundle());
        let leaf = second.issue(&names(), start() + LEAF_LIFE).unwrap();
        assert!(read.has_issued(&Certificate::chain(leaf.chain.as_bytes()), &names()));
    }

    #[test]
    fn a_secret_with_another_key_holds_no_authority() {
        let [one, other] = [0, 1].map(|_| Authority::create(start()).unwrap());
        let mut data = one.to_data();
        let key = other.to_data().remove(names::CA_PRIVATE_KEY_KEY).unwrap();

        data.insert(names::CA_PRIVATE_KEY_KEY.to_owned(), key);

        assert!(matches!(Authority::from_data(&data), Err(ReadError::OtherKey)));
        data.remove(names::CA_PRIVATE_KEY_KEY);
        assert!(matches!(Authority::from_data(&data), Err(ReadError::Missing { .. })));
    }

    #[test]
    fn a_chain_is_known_by_its_signer_its_names_and_its_intermediates() {
        let first = Authority::create(start()).unwrap();
        let second = first.succeed(start()).unwrap();
        let leaf = second.issue(&names(), start()).unwrap();
        let chain = Certificate::chain(leaf.chain.as_bytes());

        assert_eq!(chain.len(), 2);
        assert!(second.has_issued(&chain, &names()));
        assert!(!second.has_issued(&chain, &names()[..1]));
        assert!(!second.has_issued(&chain[..1], &names()));
        assert!(!second.has_issued(&[], &names()));
        assert!(!first.has_issued(&chain, &names()));
        let third = second.succeed(start()).unwrap();
        assert!(!third.has_issued(&chain, &names()));
    }

    #[test]
    fn pem_survives_reading() {
        let authority = Authority::create(start()).unwrap();

        let again = Certificate::chain(authority.certificate().pem.as_bytes());

        assert_eq!(again, [authority.certificate().clone()]);
        assert_eq!(again[0].issued, start());
        assert_eq!(again[0].not_after, start() + LIFE);
    }
}
