//! The keys and certificates of one cluster: one authority, ECDSA P-256 throughout, PKCS#8 PEM.
//!
//! They are made once per cluster and kept with it. Every leaf may serve and be a client. The
//! folder appears only when it is complete.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    date_time_ymd,
};

use super::configuration::{Credentials, kubeconfig};
use super::layout::{INSIDE, Layout};

/// Makes the keys of a cluster and its kubeconfigs, unless it has them.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    let folder = layout.keys();
    if folder.exists() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove `{}`", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;

    let authority = authority()?;
    write(&partial.join("ca.crt"), &authority.pem())?;
    write(&partial.join("ca.key"), &authority.key().serialize_pem())?;
    for leaf in LEAVES {
        let issued = leaf.issue(&authority)?;
        write(&partial.join(format!("{}.crt", leaf.file)), &issued.certificate)?;
        write(&partial.join(format!("{}.key", leaf.file)), &issued.key)?;
        if leaf.file == "admin" {
            let text = kubeconfig(&Credentials::Data {
                authority: BASE64_STANDARD.encode(authority.pem()),
                certificate: BASE64_STANDARD.encode(&issued.certificate),
                key: BASE64_STANDARD.encode(&issued.key),
            });
            write(&layout.kubeconfig(), &text)?;
        }
        let text = kubeconfig(&Credentials::Files {
            folder: format!("{INSIDE}/pki"),
            name: leaf.file.to_owned(),
        });
        write(&partial.join(format!("{}.conf", leaf.file)), &text)?;
    }
    let tokens = key_pair()?;
    write(&partial.join("sa.key"), &tokens.serialize_pem())?;
    write(&partial.join("sa.pub"), &tokens.public_key_pem())?;

    fs::rename(&partial, &folder).with_context(|| format!("cannot make `{}`", folder.display()))
}

/// What a leaf certificate says.
struct Leaf {
    file: &'static str,
    organization: Option<&'static str>,
    common_name: &'static str,
    names: &'static [&'static str],
}

struct Issued {
    certificate: String,
    key: String,
}

impl Leaf {
    fn issue(&self, authority: &CertifiedIssuer<'_, KeyPair>) -> Result<Issued> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = subject(self.organization, self.common_name);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.subject_alt_names = self
            .names
            .iter()
            .map(|name| {
                Ok(match name.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName((*name).try_into()?),
                })
            })
            .collect::<Result<_>>()?;
        valid_for_a_century(&mut parameters);
        let key = key_pair()?;
        let certificate = parameters
            .signed_by(&key, authority)
            .with_context(|| format!("cannot issue the certificate of {}", self.common_name))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = subject(None, "watchword-local-cluster");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid_for_a_century(&mut parameters);
    CertifiedIssuer::self_signed(parameters, key_pair()?)
        .context("cannot make the cluster's certificate authority")
}

fn subject(organization: Option<&str>, common_name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    subject
}

/// The cluster goes long before its certificates do, so nothing has to renew them.
fn valid_for_a_century(parameters: &mut CertificateParams) {
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2120, 1, 1);
}

fn key_pair() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// `admin` is also the API server's client certificate for the kubelet.
const LEAVES: [Leaf; 7] = [
    Leaf { file: "admin", organization: Some("system:masters"), common_name: "admin", names: &[] },
    Leaf {
        file: "apiserver",
        organization: None,
        common_name: "kube-apiserver",
        names: &[
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            "10.99.0.1",
            "10.96.0.1",
        ],
    },
    Leaf { file: "front-proxy", organization: None, common_name: "front-proxy-client", names: &[] },
    Leaf {
        file: "kcm",
        organization: None,
        common_name: "system:kube-controller-manager",
        names: &[],
    },
    Leaf {
        file: "kubelet",
        organization: Some("system:nodes"),
        common_name: "system:node:node-1",
        names: &["node-1", "10.99.0.1"],
    },
    Leaf { file: "proxy", organization: None, common_name: "system:kube-proxy", names: &[] },
    Leaf { file: "sched", organization: None, common_name: "system:kube-scheduler", names: &[] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;

    #[test]
    fn keys_are_made_once_and_complete() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let layout = Layout::new(&cache, &"unit".parse().unwrap());
        fs::create_dir_all(layout.state()).unwrap();

        create(&layout).unwrap();
        let first = fs::read(layout.keys().join("ca.crt")).unwrap();
        create(&layout).unwrap();

        assert_eq!(fs::read(layout.keys().join("ca.crt")).unwrap(), first);
        for file in ["ca.key", "sa.pub", "kubelet.conf", "apiserver.key", "front-proxy.crt"] {
            assert!(layout.keys().join(file).exists(), "{file}");
        }
        let public = fs::read_to_string(layout.keys().join("sa.pub")).unwrap();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"));
    }
}
