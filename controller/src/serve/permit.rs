//! Whether a definition may have a reference: the space rule, then the resolver's namespaces.
//!
//! Asked before anything is looked up, so that a denial is the same whether the secret exists.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use watchword_core::space::{Ownership, RootSecrets};
use watchword_core::wanted::SecretSource;
use watchword_crds::task_revision::TaskRevisionSpec;
use watchword_crds::{SecretStore, names};
use watchword_protocol::ErrorCode;
use watchword_store::{Config, MAX_VALUE_BYTES};

use super::Service;
use super::failure::Failure;
use super::lineage::Tenant;
use crate::resolvers::Resolver;

/// What the definition of one revision may have.
pub(super) struct Permit {
    /// The resolver that the definition's references go to.
    pub(super) resolver: Resolver,
    /// Its name.
    pub(super) resolver_name: String,
    id: String,
    inline_values: bool,
    root_secrets: RootSecrets,
}

impl Permit {
    /// Judges the revision's id by the Spaces and finds its resolver.
    ///
    /// # Errors
    ///
    /// `Denied` when the id is not the namespace's, or when there is no such resolver for it: the
    /// two cannot be told apart from without.
    pub(super) fn of(
        service: &Service,
        tenant: &Tenant,
        revision: &TaskRevisionSpec,
    ) -> Result<Self, Failure> {
        let denied = |message: String| Failure::new(ErrorCode::Denied, message);
        let Tenant { namespace, ownership, .. } = tenant;
        ownership.check(namespace, &revision.id).map_err(|error| denied(error.to_string()))?;
        let name = revision.resolver.as_deref().unwrap_or(names::DEFAULT_RESOLVER);
        let resolver = service.resolvers.get(&ObjectRef::new(name)).filter(|resolver| {
            let namespaces = &resolver.spec.namespaces;
            namespaces.iter().any(|one| one == namespace || one == EVERY_NAMESPACE)
                || ownership.allows_resolver(namespace, name)
        });
        let resolver =
            resolver.and_then(|resolver| Resolver::of(&resolver.spec)).ok_or_else(|| {
                denied(format!(
                    "there is no SecretResolver `{name}` for namespace `{namespace}`; a cluster \
                 administrator must list the namespace in one"
                ))
            })?;
        Ok(Self {
            id: revision.id.clone(),
            inline_values: ownership.allows_inline_values(namespace),
            resolver,
            resolver_name: name.to_owned(),
            root_secrets: service.root_secrets(),
        })
    }

    /// Judges one reference.
    ///
    /// # Errors
    ///
    /// `Denied`, naming the rule; `Invalid` for what is no reference at all.
    pub(super) fn check(&self, source: &SecretSource) -> Result<(), Failure> {
        match source {
            SecretSource::Inline(_) if self.inline_values => Ok(()),
            SecretSource::Inline(_) => Err(Failure::new(
                ErrorCode::Denied,
                "inline secrets are refused: store the value and refer to it, or have a Space \
                 allow `inlineValues`",
            )),
            SecretSource::Invalid { message } => {
                Err(Failure::new(ErrorCode::Invalid, message.clone()))
            }
            SecretSource::Reference { name, .. } if self.root_secrets.may_read(name, &self.id) => {
                Ok(())
            }
            SecretSource::Reference { name, .. } => Err(Failure::new(
                ErrorCode::Denied,
                format!(
                    "the service `{}` may not read secret `{name}`: the folders of a secret must \
                     be the first components of the service id",
                    self.id
                ),
            )
            .about(name.as_str())),
        }
    }
}

impl Service {
    /// Who owns which ids, as the Spaces stand now.
    pub(super) fn ownership(&self) -> Ownership {
        let spaces = self.spaces.state();
        Ownership::of(spaces.iter().map(AsRef::as_ref))
    }

    /// The largest secret, as the settings have it.
    pub(super) fn max_secret_bytes(&self) -> usize {
        let limit = self.settings().and_then(|settings| settings.spec.max_secret_bytes);
        limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_VALUE_BYTES)
    }

    /// Has the store keep as many versions as the settings say.
    pub(super) fn keep_versions(&self) {
        let wanted = self.settings().and_then(|settings| settings.spec.keep_versions);
        let wanted = wanted.and_then(|wanted| NonZeroUsize::new(usize::try_from(wanted).ok()?));
        self.store.keep_versions(wanted.unwrap_or(Config::default().keep_versions));
    }

    fn root_secrets(&self) -> RootSecrets {
        let settings = self.settings();
        RootSecrets::read(settings.as_ref().and_then(|one| one.spec.root_secrets.as_deref()))
    }

    /// The one SecretStore that counts, as the watch knows it.
    pub(super) fn settings(&self) -> Option<Arc<SecretStore>> {
        self.stores.get(&ObjectRef::new(names::DEFAULT_STORE))
    }
}

/// In `SecretResolver.spec.namespaces`: all of them.
const EVERY_NAMESPACE: &str = "*";
