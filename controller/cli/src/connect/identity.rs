//! Who is asking: what a kubeconfig shows to its API server, shown to the store.
//!
//! That is a bearer token (in the kubeconfig, in a file, or from an exec plugin), a client
//! certificate, or both. kube itself finds them, so that the store hears of the same person as the
//! API server. A plugin that may open a browser runs once where it can: what it gave is kept in the
//! configuration that the client is made from.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use kube::{
    Config,
    client::{AuthError, Body, ConfigExt},
};
use rustls::client::ResolvesClientCert;
use secrecy::SecretString;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use crate::output::chain;

/// What a person shows to the store. It has no `Debug`: the header holds a token.
pub(super) struct Identity {
    /// `Bearer …`, if there is a token.
    pub(super) authorization: Option<HeaderValue>,
    /// The client certificate, if there is one.
    pub(super) certificate: Option<Arc<dyn ResolvesClientCert>>,
}

/// Finds out who the kubeconfig says that is asking.
///
/// # Errors
///
/// `IdentityError` where nobody is, where finding out fails, and where the kubeconfig speaks for
/// someone else, which only an API server can check.
pub(super) async fn identify(config: &mut Config) -> Result<Identity, IdentityError> {
    if let Some(other) = &config.auth_info.impersonate {
        return Err(IdentityError::Impersonates { other: other.clone() });
    }
    trim_token_file(config)?;
    let authorization = authorization(config).await?;
    if let Some(token) = authorization.as_ref().and_then(token_of) {
        let auth = &mut config.auth_info;
        (auth.auth_provider, auth.exec, auth.token_file) = (None, None, None);
        auth.token = Some(token);
    }
    // A plugin that gives a certificate runs again here and for the client: there is no way to
    // hand kube its certificate, but for files.
    let tls = config.rustls_client_config().map_err(|error| failed(&error))?;
    let certificate = Some(tls.client_auth_cert_resolver).filter(|resolver| resolver.has_certs());
    match (&authorization, &certificate) {
        (None, None) => Err(IdentityError::Nobody),
        _ => Ok(Identity { authorization, certificate }),
    }
}

/// The header that kube would send, if it is a bearer token's.
async fn authorization(config: &Config) -> Result<Option<HeaderValue>, IdentityError> {
    let Some(layer) = config.auth_layer().map_err(|error| failed(&error))? else {
        return Ok(None);
    };
    let capture = service_fn(|request: Request<Body>| async move {
        Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
    });
    let answer = layer.layer(capture).oneshot(Request::new(Body::empty())).await;
    let header = answer.map_err(|error| failed(error.as_ref()))?.into_body();
    Ok(header.filter(|header| header.as_bytes().starts_with(BEARER.as_bytes())))
}

/// Reads a token file here, because kube takes its last newline for a part of the token.
fn trim_token_file(config: &mut Config) -> Result<(), IdentityError> {
    let auth = &mut config.auth_info;
    let Some(file) = auth.token_file.as_ref().filter(|_| auth.token.is_none()) else {
        return Ok(());
    };
    let text = std::fs::read_to_string(file)
        .map_err(|cause| IdentityError::TokenFile { file: file.clone(), cause })?;
    auth.token = Some(SecretString::from(text.trim().to_owned()));
    Ok(())
}

fn token_of(header: &HeaderValue) -> Option<SecretString> {
    header.to_str().ok()?.strip_prefix(BEARER).map(|token| SecretString::from(token.to_owned()))
}

/// Why nobody can be shown to the store. Holds nothing that a plugin printed: it may be a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot find out who the kubeconfig says you are: {reason}")]
    Failed { reason: String },
    #[error("the kubeconfig acts as `{other}`, which the store cannot check")]
    Impersonates { other: String },
    #[error("the kubeconfig's user has neither a token nor a client certificate")]
    Nobody,
    #[error("cannot read the kubeconfig's token file `{file}`")]
    TokenFile {
        file: String,
        #[source]
        cause: std::io::Error,
    },
}

impl IdentityError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { .. } | Self::Nobody => {
                Some("`kubectl auth whoami` shows whether kubectl knows you".to_owned())
            }
            Self::Impersonates { .. } => {
                Some("choose a context without `as` with --context".to_owned())
            }
            Self::TokenFile { .. } => None,
        }
    }
}

/// The failure of kube, without the output of a plugin and without lines of YAML, both of which
/// may hold a token.
fn failed(error: &(dyn std::error::Error + 'static)) -> IdentityError {
    let causes = || std::iter::successors(Some(error), |&error| error.source());
    let plugin = causes().find_map(|cause| cause.downcast_ref::<AuthError>());
    let reason = match plugin {
        Some(AuthError::AuthExecRun { out, .. }) => {
            format!("its exec plugin failed with {}", out.status)
        }
        Some(AuthError::AuthExecParse(_)) => {
            "its exec plugin printed something other than a credential".to_owned()
        }
        _ => chain(error),
    };
    IdentityError::Failed { reason }
}

const BEARER: &str = "Bearer ";

#[cfg(test)]
mod tests;
