//! Certificates by which people are known, as clusters give them to their administrators.

use std::fs;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::LocalNode;

/// Whoever signs certificates of clients.
pub struct ClientAuthority(Issuer<'static, KeyPair>);

/// A certificate of a client, and its key: PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl ClientAuthority {
    /// The authority of a local cluster, which its API server and its store believe.
    ///
    /// # Errors
    ///
    /// If its files cannot be read.
    pub fn of(node: &LocalNode) -> Result<Self> {
        let read = |name: &str| {
            let path = node.keys().join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
        };
        let key = KeyPair::from_pem(&read("ca.key")?).context("a broken key")?;
        Ok(Self(Issuer::from_ca_cert_pem(&read("ca.crt")?, key).context("a broken authority")?))
    }

    /// Another one of the same name, which nobody knows.
    ///
    /// # Errors
    ///
    /// If no key can be made.
    pub fn posing() -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "watchword-local-cluster");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        let key = KeyPair::from_pem(&issuer.key().serialize_pem())?;
        Ok(Self(Issuer::from_ca_cert_pem(&issuer.pem(), key)?))
    }

    /// A certificate of the user (CN) in this group (O).
    ///
    /// # Errors
    ///
    /// If no key can be made.
    pub fn issue(&self, user: &str, group: &str) -> Result<ClientCertificate> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::OrganizationName, group);
        parameters.distinguished_name.push(DnType::CommonName, user);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = parameters.signed_by(&key, &self.0).context("cannot sign")?;
        Ok(ClientCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
