//! Whom the one share is for, where nobody was named: a pair of our own making.
//!
//! Making one takes seconds of computing, on a busy machine more than a request may take, and who
//! asked must not miss the private half. So it is made in the background, before anything is done
//! with it: a request that cannot wait for it is told to come again, and finds it ready. A leader of
//! a store that is not initialised begins at once.

use std::error::Error;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use watchword_protocol::ErrorCode;
use watchword_store::openpgp::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::now;
use crate::serve::Service;
use crate::serve::auto_unseal::{self, kept};
use crate::serve::failure::Failure;

/// A pair that is being made, or is made and nobody has taken it yet.
pub(super) type Making = JoinHandle<Result<PrivateKey, kept::KeptError>>;

/// The pair to use.
pub(super) enum Pair {
    /// The one that the settings keep in a Secret.
    Kept(PrivateKey),
    /// One that was made for this, and whose private half is shown once.
    Made(PrivateKey),
}

impl Pair {
    /// The pair to use.
    ///
    /// # Errors
    ///
    /// `Unavailable`, also when it is not made yet.
    pub(super) async fn get(service: &Service) -> Result<Self, Failure> {
        let settings = service.settings();
        match settings.as_deref().and_then(auto_unseal::reference) {
            None => made(service).await.map(Self::Made),
            Some(reference) => match timeout(WAIT, kept::pair(&service.client, reference)).await {
                Ok(pair) => pair.map(Self::Kept).map_err(|error| failed(&error)),
                Err(_) => Err(later()),
            },
        }
    }

    /// Its two halves; the private one only if somebody has to see it.
    ///
    /// # Errors
    ///
    /// The pair is not fit for its use.
    pub(super) fn halves(&self) -> Result<(PublicKey, Option<Zeroizing<String>>), Failure> {
        let (Self::Kept(private_key) | Self::Made(private_key)) = self;
        let public_key = private_key.public(now()).map_err(|error| failed(&error))?;
        let shown = match self {
            Self::Kept(_) => None,
            Self::Made(_) => Some(private_key.to_armor().map_err(|error| failed(&error))?),
        };
        Ok((public_key, shown))
    }
}

/// Begins to make a pair that is likely to be asked for.
pub(super) async fn prepare(service: &Service) {
    let settings = service.settings();
    let by_itself = settings.as_deref().is_some_and(auto_unseal::initializes_itself);
    if !by_itself && matches!(service.store.is_initialized().await, Ok(false)) {
        // Who does not lead any more needs none.
        let _ = service.seal.leading.with(|term| {
            term.pair.get_or_insert_with(|| tokio::spawn(kept::generate()));
        });
    }
}

async fn made(service: &Service) -> Result<PrivateKey, Failure> {
    let leading = &service.seal.leading;
    let making = leading.with(|term| term.pair.take())?;
    let mut making = making.unwrap_or_else(|| tokio::spawn(kept::generate()));
    match timeout(WAIT, &mut making).await {
        Ok(Ok(pair)) => pair.map_err(|error| failed(&error)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => {
            leading.with(|term| term.pair = Some(making))?;
            Err(later())
        }
    }
}

fn later() -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        "an OpenPGP pair is being made, which takes this machine a while; try again",
    )
    .after(AGAIN)
}

fn failed(error: &dyn Error) -> Failure {
    Failure::unavailable("cannot make an OpenPGP pair", error)
}

/// How long a request waits for a pair.
const WAIT: Duration = Duration::from_secs(6);

/// When to ask again.
const AGAIN: Duration = Duration::from_secs(5);
