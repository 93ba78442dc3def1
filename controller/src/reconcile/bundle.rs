//! The bundle: how the store is known, from the same ConfigMap that the webhook tells pods from.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::SignedDuration;
use tokio::fs;
use tracing::{info, warn};
use watchword_core::reconciliation::Trust;

use crate::args::{RollArgs, TrustArgs};
use crate::certificate::{Certificate, OVERLAP};
use crate::chain::Chain;

/// The bundle's file, and what was last read from it.
pub(super) struct Bundle {
    file: PathBuf,
    known: ArcSwapOption<Trust>,
    patience: SignedDuration,
}

impl Bundle {
    /// The bundle that the arguments name, not read yet.
    pub(super) fn new(trust: &TrustArgs, rolls: RollArgs) -> Self {
        let RollArgs { roll_after } = rolls;
        Self {
            file: trust.ca_dir.join("ca.crt"),
            known: ArcSwapOption::empty(),
            patience: roll_after,
        }
    }

    /// Reads the file; whether it says something else than before. What cannot be read changes
    /// nothing: what was read before stays good.
    pub(super) async fn read(&self) -> bool {
        let path = || self.file.display();
        let bundle = match fs::read(&self.file).await {
            Ok(bundle) => bundle,
            Err(error) => {
                warn!(path = %path(), error = %Chain(&error), "cannot read the bundle");
                return false;
            }
        };
        let Some(trust) = trust(&bundle, self.patience) else {
            warn!(path = %path(), "no certificate in the bundle");
            return false;
        };
        if self.known.load().as_deref() == Some(&trust) {
            return false;
        }
        info!("the store is known by another authority than before");
        self.known.store(Some(Arc::new(trust)));
        true
    }

    /// How the store is known; `None` if that could never be read.
    pub(super) fn trust(&self) -> Option<Trust> {
        self.known.load().as_deref().cloned()
    }
}

/// What a bundle says: the newest authority comes first, then the one before.
fn trust(bundle: &[u8], patience: SignedDuration) -> Option<Trust> {
    let authorities = Certificate::chain(bundle);
    let (current, before) = authorities.split_first()?;
    let overlap_ends = before.first().map(|one| one.not_after.min(current.issued + OVERLAP));
    Some(Trust::new(&current.pem, current.issued, overlap_ends, patience))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::certificates::authority::Authority;

    #[test]
    fn a_bundle_says_who_signs_and_until_when_the_one_before_is_good() {
        let start: Timestamp = "2026-11-23T20:53:14Z".parse().unwrap();
        let later = start + SignedDuration::from_hours(24);
        let first = Authority::create(start).unwrap();
        let second = first.succeed(later).unwrap();
        let day = SignedDuration::from_hours(24);

        let both = trust(second.bundle().as_bytes(), day).unwrap();
        let alone = trust(first.bundle().as_bytes(), day).unwrap();

        let ends = Some(later + OVERLAP);
        assert_eq!(both, Trust::new(&second.certificate().pem, later, ends, day));
        assert_eq!(alone, Trust::new(&first.certificate().pem, start, None, day));
        assert_eq!(trust(b"", day), None);
    }

    #[tokio::test]
    async fn only_another_authority_is_news_and_a_lost_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = TrustArgs { ca_dir: directory.path().to_owned(), store_url: String::new() };
        let bundle = Bundle::new(&arguments, RollArgs { roll_after: SignedDuration::ZERO });
        assert!(!bundle.read().await);
        let file = directory.path().join("ca.crt");
        let first = Authority::create(Timestamp::now()).unwrap();

        std::fs::write(&file, first.bundle()).unwrap();
        assert!(bundle.read().await);
        assert!(!bundle.read().await);
        let before = bundle.trust();
        std::fs::write(&file, first.succeed(Timestamp::now()).unwrap().bundle()).unwrap();
        assert!(bundle.read().await);

        assert_ne!(bundle.trust(), before);
        std::fs::remove_file(&file).unwrap();
        assert!(!bundle.read().await);
        assert!(bundle.trust().is_some());
    }
}
