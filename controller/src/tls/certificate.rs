//! The served certificate, read from files whenever their bytes change.
//!
//! Polled, not watched: kubelet swaps a symbolic link, after which a watch on the file is stale.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A folder with `tls.crt` and `tls.key`, and what of it has been seen already.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Digest of what was loaded or refused last.
    seen: Option<[u8; 32]>,
}

/// A certificate that can be served.
#[derive(Debug)]
pub struct Loaded {
    /// Leaf, intermediates and key.
    pub key: Arc<CertifiedKey>,
    /// The end of the leaf's life.
    pub not_after: Timestamp,
}

impl Files {
    /// The files in `directory`, not looked at yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, seen: None }
    }

    /// The certificate if the files differ from the last call; a pair that does not fit together,
    /// as between two writes, is an error once and is tried again when it changes.
    ///
    /// # Errors
    ///
    /// A file is missing or not what it should be.
    pub fn load(&mut self) -> Result<Option<Loaded>, LoadError> {
        let certificate = self.read("tls.crt")?;
        let key = self.read("tls.key")?;
        let digest = Sha256::new()
            .chain_update(certificate.len().to_be_bytes())
            .chain_update(&certificate)
            .chain_update(&key)
            .finalize()
            .into();
        if self.seen.replace(digest) == Some(digest) {
            return Ok(None);
        }
        parse(&certificate, &key).map(Some)
    }

    /// Makes the next [`Files::load`] return what is there, changed or not.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, LoadError> {
        let path = self.directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Zeroizing::new(bytes)),
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }
}

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `tls.crt` is not a certificate that has an end.
    #[error("cannot parse `tls.crt`")]
    Certificate(#[source] x509_parser::error::X509Error),
    /// The key is of a kind that we do not sign with, or belongs to another certificate.
    #[error("cannot use `tls.key` with `tls.crt`")]
    Fit(#[source] rustls::Error),
    /// Either file is not PEM, or the wrong PEM.
    #[error("cannot read `{file}` as PEM")]
    Pem {
        /// Which.
        file: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// A file is missing or unreadable.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LoadError {
    /// The file that is missing, if that is the reason.
    pub fn missing(&self) -> Option<&Path> {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => Some(path),
            _ => None,
        }
    }
}

fn parse(certificate: &[u8], key: &[u8]) -> Result<Loaded, LoadError> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| LoadError::Pem { file: "tls.crt", source })?;
    let Some(leaf) = chain.first() else {
        return Err(LoadError::Pem { file: "tls.crt", source: pem::Error::NoItemsFound });
    };
    let not_after = not_after(leaf).map_err(LoadError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|source| LoadError::Pem { file: "tls.key", source })?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(LoadError::Fit)?;
    Ok(Loaded { key: Arc::new(key), not_after })
}

fn not_after(leaf: &CertificateDer<'_>) -> Result<Timestamp, x509_parser::error::X509Error> {
    use x509_parser::error::X509Error;

    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(X509Error::from)?;
    let seconds = leaf.validity().not_after.timestamp();
    Timestamp::from_second(seconds).map_err(|_| X509Error::InvalidDate)
}
