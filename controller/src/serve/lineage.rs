//! Whether a namespace is the one that its secrets were written for, or a successor of its name.
//!
//! A namespace that no Space speaks of owns `/<namespace>` by its name alone. The store remembers
//! which uid it had at the first write below its name, or at the first release; a namespace of the
//! same name and another uid gets nothing from below it until a Space confirms that uid, or until
//! nothing lies there any more. The uid comes from the API server.
//!
//! What a request was judged by must not change under it. For a pod: its token was reviewed before
//! the namespace is asked for, and the pod is looked at after, so the same pod, and with it the same
//! namespace, lived all the time. For a person: the namespace is asked for after the grant was
//! reviewed, so a grant of the successor meets the successor's uid; what was found is remembered no
//! longer than the grant itself.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use watchword_core::space::{Ownership, OwnershipError};
use watchword_protocol::ErrorCode;
use watchword_store::{ListError, NamespaceError, SecretPath, Standing};

use super::Service;
use super::failure::Failure;

/// A namespace at one time, and the Spaces that its requests are judged by.
pub(super) struct Tenant {
    /// Its name.
    pub(super) namespace: String,
    /// Who owns which ids.
    pub(super) ownership: Ownership,
    /// `None` if a Space speaks for it, and its uid makes no difference.
    uid: Option<String>,
}

/// A tenant that may have what lies below its name.
#[must_use = "the uid has to be recorded before anything is written or released"]
pub(super) struct Heir<'a> {
    tenant: &'a Tenant,
    standing: Standing,
}

impl Tenant {
    /// The namespace as it is now.
    ///
    /// # Errors
    ///
    /// `Denied` when there is none, `Unavailable` when the API server cannot be asked.
    pub(super) async fn of(service: &Service, namespace: &str) -> Result<Self, Failure> {
        let ownership = service.ownership();
        let uid = match ownership.owns_its_name(namespace) {
            false => None,
            true => Some(live_uid(service, namespace).await?.ok_or_else(|| {
                Failure::new(
                    ErrorCode::Denied,
                    format!("there is no namespace `{namespace}` (any more)"),
                )
            })?),
        };
        Ok(Self { namespace: namespace.to_owned(), ownership, uid })
    }

    /// Judges whether the namespace may have what lies below its name.
    ///
    /// # Errors
    ///
    /// `Denied`, the same whatever is asked for; `Sealed`; `Unavailable` when it is not known.
    pub(super) async fn judge(&self, service: &Service) -> Result<Heir<'_>, Failure> {
        let standing = match &self.uid {
            None => Standing::Same,
            Some(uid) => self.standing(service, uid).await?,
        };
        Ok(Heir { tenant: self, standing })
    }

    async fn standing(&self, service: &Service, uid: &str) -> Result<Standing, Failure> {
        let Self { namespace, ownership, .. } = self;
        let standing = service.store.standing(namespace, uid).await.map_err(failure)?;
        let is_other = matches!(standing, Standing::Other { .. });
        if is_other
            && !ownership.confirms(namespace, uid)
            && has_any_below(service, namespace).await?
        {
            let (namespace, uid) = (namespace.clone(), uid.to_owned());
            let denial = OwnershipError::Successor { namespace, uid };
            return Err(Failure::new(ErrorCode::Denied, denial.to_string()));
        }
        Ok(standing)
    }
}

impl Heir<'_> {
    /// Records the uid, so that a later namespace of this name is known as one.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it cannot be recorded: then nothing may be written or released.
    pub(super) async fn record(&self, service: &Service) -> Result<(), Failure> {
        let Tenant { namespace, uid, .. } = self.tenant;
        let Some(uid) = uid else { return Ok(()) };
        service.store.record_namespace(namespace, uid, &self.standing).await.map_err(failure)
    }
}

/// Judges a namespace whose own RBAC grants a person something, after that grant was found.
///
/// # Errors
///
/// As for [`Tenant::judge`].
pub(super) async fn judge_namespace(service: &Service, namespace: &str) -> Result<(), Failure> {
    let tenant = Tenant::of(service, namespace).await?;
    let _heir = tenant.judge(service).await?;
    Ok(())
}

/// Records, before something is written to `path`, which namespace has it. Who may write below a
/// successor's name, by a grant for all namespaces, confirms nothing by that.
///
/// # Errors
///
/// As for [`Heir::record`].
pub(super) async fn record_write(service: &Service, path: &SecretPath) -> Result<(), Failure> {
    let Some((namespace, _)) = path.as_str().split_once('/') else { return Ok(()) };
    let ownership = service.ownership();
    if !ownership.owns_its_name(namespace) || !is_namespace_name(namespace) {
        return Ok(());
    }
    let Some(uid) = live_uid(service, namespace).await? else { return Ok(()) };
    let tenant = Tenant { namespace: namespace.to_owned(), ownership, uid: Some(uid) };
    match tenant.judge(service).await {
        Ok(heir) => heir.record(service).await,
        Err(denied) if denied.code == ErrorCode::Denied => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn live_uid(service: &Service, namespace: &str) -> Result<Option<String>, Failure> {
    let api: Api<Namespace> = Api::all(service.client.clone());
    let found = api
        .get_metadata_opt(namespace)
        .await
        .map_err(|error| Failure::unavailable("cannot look at the namespace", &error))?;
    Ok(found.and_then(|namespace| namespace.metadata.uid))
}

async fn has_any_below(service: &Service, namespace: &str) -> Result<bool, Failure> {
    // A namespace's name is a component of a path: what is not cannot have secrets below it.
    let Ok(folder) = namespace.parse() else { return Ok(false) };
    service.store.has_any_below(&folder).await.map_err(|error| match error {
        ListError::Sealed => sealed(),
        error => Failure::unavailable("cannot look at the namespace's secrets", &error),
    })
}

/// Whether a namespace can have this name: the API server is asked about no other.
fn is_namespace_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.bytes().all(|byte| is_letter(byte) || byte == b'-')
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().last().is_some_and(is_letter)
}

fn failure(error: NamespaceError) -> Failure {
    match error {
        NamespaceError::Sealed => sealed(),
        error => Failure::unavailable("cannot tell whose secrets the namespace's are", &error),
    }
}

fn sealed() -> Failure {
    Failure::new(ErrorCode::Sealed, "the store is sealed")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("shop", true)]
    #[case("shop-2", true)]
    #[case("Shop", false)]
    #[case("sh_op", false)]
    #[case("-shop", false)]
    #[case("shop-", false)]
    #[case("", false)]
    fn only_what_can_be_a_namespace_is_asked_for(#[case] text: &str, #[case] can_be: bool) {
        assert_eq!(is_namespace_name(text), can_be);
    }
}
