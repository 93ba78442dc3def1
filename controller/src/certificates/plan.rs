//! What is to be done about the certificates: facts and a clock in, a plan out.
//!
//! The authority comes first: as long as something is to be done about it, nothing else is
//! planned, because everything else follows from what that writes. Carrying a plan out and
//! planning again ends in a plan that is empty.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use watchword_crds::names;

use crate::certificate::OVERLAP;

use super::authority::LEAF_LIFE;

/// A server whose certificate is ours to keep.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Server {
    /// Role `store`.
    Store,
    /// Role `webhook`.
    Webhook,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Store, Self::Webhook];

    /// The Service by whose names clients know it.
    pub fn service(self) -> &'static str {
        match self {
            Self::Store => names::STORE,
            Self::Webhook => names::WEBHOOK,
        }
    }

    /// The Secret that its certificate is in.
    pub fn secret(self) -> &'static str {
        match self {
            Self::Store => names::STORE_TLS,
            Self::Webhook => names::WEBHOOK_TLS,
        }
    }

    /// Every name that it can be called by inside the cluster, shortest first.
    pub fn dns_names(self, namespace: &str) -> Vec<String> {
        let service = self.service();
        vec![
            service.to_owned(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

/// A webhook configuration whose `caBundle` is ours to keep.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Configuration {
    /// The MutatingWebhookConfiguration.
    Mutating,
    /// The ValidatingWebhookConfiguration.
    Validating,
}

impl Configuration {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mutating, Self::Validating];

    /// The name of both objects.
    pub const NAME: &'static str = "watchword";
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The authority; `None` if there is none, or none that can be used.
    pub authority: Option<AuthorityFacts>,
    /// The published bundle, PEM.
    pub bundle: Option<String>,
    /// The `caBundle` of every webhook, PEM; configurations that do not exist are missing.
    pub configurations: BTreeMap<Configuration, Vec<String>>,
    /// The certificates that are served; those that are missing or cannot be used are missing.
    pub leaves: BTreeMap<Server, LeafFacts>,
}

/// What matters of an authority.
#[derive(Clone, Debug)]
pub struct AuthorityFacts {
    /// PEM of what clients should trust.
    pub bundle: String,
    /// When it was made.
    pub issued: Timestamp,
    /// The end of its life.
    pub not_after: Timestamp,
    /// The end of its predecessor's life, if it still has one.
    pub predecessor_not_after: Option<Timestamp>,
}

/// What matters of a certificate that is served.
#[derive(Clone, Copy, Debug)]
pub struct LeafFacts {
    /// Whether it is what the authority would issue now: signed by it, with its intermediates,
    /// for exactly the right names, and together with its own key.
    pub fits: bool,
    /// The end of its life.
    pub not_after: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificatePlan {
    /// What to do about the authority.
    pub authority: AuthorityStep,
    /// Whether to publish the authority's bundle.
    pub bundle: bool,
    /// Configurations that get the authority's bundle as `caBundle`.
    pub configurations: Vec<Configuration>,
    /// Servers that get a new certificate.
    pub leaves: Vec<Server>,
}

/// What to do about the authority.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AuthorityStep {
    /// Make one that nobody knows yet: there is none that could vouch for it.
    Create,
    /// Drop the predecessor: nobody who started with it alone is left.
    ForgetPredecessor,
    /// Nothing.
    #[default]
    Keep,
    /// Make a successor.
    Succeed,
}

impl CertificatePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides what to do at `now`. An authority that was made before `rotate_before` gets a
/// successor, once that moment has come.
pub fn plan(facts: &Facts, rotate_before: Option<Timestamp>, now: Timestamp) -> CertificatePlan {
    let Some(authority) = &facts.authority else {
        return CertificatePlan { authority: AuthorityStep::Create, ..CertificatePlan::default() };
    };
    let step = authority_step(authority, rotate_before, now);
    if step != AuthorityStep::Keep {
        return CertificatePlan { authority: step, ..CertificatePlan::default() };
    }
    CertificatePlan {
        authority: step,
        bundle: facts.bundle.as_ref() != Some(&authority.bundle),
        configurations: facts
            .configurations
            .iter()
            .filter(|(_, bundles)| bundles.iter().any(|bundle| *bundle != authority.bundle))
            .map(|(configuration, _)| *configuration)
            .collect(),
        leaves: Server::ALL
            .into_iter()
            .filter(|server| facts.leaves.get(server).is_none_or(|leaf| !is_good(leaf, now)))
            .collect(),
    }
}

fn authority_step(
    authority: &AuthorityFacts,
    rotate_before: Option<Timestamp>,
    now: Timestamp,
) -> AuthorityStep {
    let AuthorityFacts { bundle: _, issued, not_after, predecessor_not_after } = *authority;
    // A moment to come would ask for a successor of the successor, and so on.
    let asked = rotate_before.is_some_and(|moment| moment <= now && issued < moment);
    match predecessor_not_after {
        _ if not_after <= now => AuthorityStep::Create,
        // The bundle holds two: a successor now would lock those out who know only the older one.
        Some(end) if end <= now || issued + OVERLAP <= now => AuthorityStep::ForgetPredecessor,
        Some(_) => AuthorityStep::Keep,
        None if asked || not_after.duration_since(now) <= SUCCESSION => AuthorityStep::Succeed,
        None => AuthorityStep::Keep,
    }
}

/// Whether a certificate can stay: more than a third of its life is left.
fn is_good(leaf: &LeafFacts, now: Timestamp) -> bool {
    leaf.fits && leaf.not_after.duration_since(now) > LEAF_LIFE / 3
}

/// How long before its end an authority gets a successor.
const SUCCESSION: SignedDuration = SignedDuration::from_hours(365 * 24);

#[cfg(test)]
mod tests;
