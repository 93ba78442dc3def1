//! Who may do what to which path, and who may run the store: Kubernetes RBAC, asked with DC/OS' own
//! verbs.
//!
//! A person may if either of two things is granted: the URL `/secrets/v1/secret/default/<path>` as
//! a non-resource URL (cluster admins can grant that), or the virtual resource `secrets` of group
//! `store.watchword.dev` in a namespace whose space the path lies in (namespace admins can). The
//! API server matches texts, so it is asked with a path that has been parsed, never with what came
//! over the wire.
//!
//! Each verb of administration is granted on the URL `/secrets/v1/store/default`, and by nothing
//! else: whoever may read every secret may not unseal, and whoever may seal reads none.
//!
//! What the API server said about a secret is remembered for some seconds; about administration it is
//! asked each time.

use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use watchword_protocol::ErrorCode;

use super::Service;
use super::authenticate::Person;
use super::failure::Failure;
use super::lineage;
use super::recent::{Key, Recent};
use super::throttle::Source;

/// What can be done to a secret: the verbs of DC/OS' permissions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    /// Make a secret that is not there.
    Create,
    /// Remove all its versions.
    Delete,
    /// Read the names below a path.
    List,
    /// Read its value.
    Read,
    /// Give it a new version.
    Update,
}

impl Verb {
    /// As rules spell it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Read => "read",
            Self::Update => "update",
        }
    }
}

/// What can be done to the store as a whole: each a right of its own.
///
/// | verb | lets one |
/// |---|---|
/// | `audit` | have the public key that the audit log is verified with |
/// | `backup` | take all records, sealed |
/// | `create` | make a store (there is one, so this only says who may hear so) |
/// | `delete` | remove a store (likewise) |
/// | `init` | initialise, and have the encrypted shares again |
/// | `read` | see which stores there are and their settings |
/// | `rekey` | change shares, threshold and PGP keys |
/// | `restore` | bring a backup into an empty store |
/// | `rotate` | add a term, rewrap, destroy older terms |
/// | `seal` | drop the key everywhere |
/// | `unseal` | give shares, and have the bootstrap key used |
/// | `verify` | have every record checked |
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum AdminVerb {
    /// The public key of the audit log.
    Audit,
    /// A copy of all records.
    Backup,
    /// A further store.
    Create,
    /// No store any more.
    Delete,
    /// The first keyring, and its encrypted shares.
    Init,
    /// The list of stores.
    Read,
    /// Other shares for the same secrets.
    Rekey,
    /// All records from a copy.
    Restore,
    /// A further term, rewrapping, the end of older terms.
    Rotate,
    /// No key in memory any more.
    Seal,
    /// Shares given, also by the kept key.
    Unseal,
    /// Every record checked.
    Verify,
}

impl AdminVerb {
    /// As rules spell it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Backup => "backup",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Init => "init",
            Self::Read => "read",
            Self::Rekey => "rekey",
            Self::Restore => "restore",
            Self::Rotate => "rotate",
            Self::Seal => "seal",
            Self::Unseal => "unseal",
            Self::Verify => "verify",
        }
    }
}

/// Lets `person` run the store if `verb` is granted on the store's URL. Asks the API server each
/// time. The audit line about a denial is the caller's affair, as about whatever follows.
///
/// # Errors
///
/// `Denied` when nothing grants it, `TooManyRequests` after too many denials, `Unavailable` when the
/// API server cannot be asked.
pub(super) async fn administer(
    service: &Service,
    person: &Person,
    verb: AdminVerb,
) -> Result<(), Failure> {
    let verb = verb.as_str();
    service.throttle.check(Source::user(&person.user), Instant::now())?;
    let mut questions = Questions::of(service, person);
    let granted = questions.ask(url(person, STORE_URL, verb)).await;
    if !matches!(granted, Ok(false)) {
        questions.give_back();
    }
    if granted? {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Denied,
        format!(
            "`{}` may not {verb} the store: grant the verb `{verb}` on the URL {STORE_URL}",
            person.user
        ),
    ))
}

/// By what a person was let pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Grant {
    /// By the URL, which only cluster admins grant.
    Everywhere,
    /// By the virtual resource in this namespace, which speaks for this namespace's space only.
    Namespace(String),
}

/// What was found out lately about people's rights to secrets. Denials are not remembered: what an
/// administrator grants helps at once, and the throttle bounds how often anyone is denied.
pub(super) struct Grants {
    given: Recent<Grant>,
}

impl Grants {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { given: Recent::new(MAX_GRANTS) }
    }
}

/// Lets `person` pass if `verb` is granted on `path`, which is canonical; a folder, which is what
/// can be listed, ends with `/`, the root is empty. It is the same for a secret that is not there.
///
/// # Errors
///
/// `Denied` when nothing grants it, `TooManyRequests` after too many denials, `Unavailable` when the
/// API server cannot be asked.
pub(super) async fn allow(
    service: &Service,
    person: &Person,
    verb: Verb,
    path: &str,
) -> Result<Grant, Failure> {
    let Grants { given } = &service.grants;
    let now = Instant::now();
    let key = key(person, verb, path);
    if let Some(grant) = given.get(&key, now) {
        return Ok(grant);
    }
    service.throttle.check(Source::user(&person.user), now)?;
    let mut questions = Questions::of(service, person);
    let granted = granted(service, person, verb, path, &mut questions).await;
    let is_denied = match &granted {
        Ok(grant) => grant.is_none(),
        Err(failure) => failure.code == ErrorCode::Denied,
    };
    if !is_denied {
        questions.give_back();
    }
    if let Some(grant) = granted? {
        given.insert(key, grant.clone(), GIVEN_FOR, Instant::now());
        return Ok(grant);
    }
    Err(Failure::new(
        ErrorCode::Denied,
        format!(
            "`{}` may not {} `{}`: grant the verb `{}` on the URL {URL_PREFIX}{path}, or on \
             `secrets` of group store.watchword.dev in the namespace that owns the path",
            person.user,
            verb.as_str(),
            if path.is_empty() { "/" } else { path },
            verb.as_str()
        ),
    ))
}

/// What the API server grants, as far as it counts: what a namespace grants does for this life of the
/// namespace only, and is remembered with that.
async fn granted(
    service: &Service,
    person: &Person,
    verb: Verb,
    path: &str,
    questions: &mut Questions<'_>,
) -> Result<Option<Grant>, Failure> {
    let grant = review(service, person, verb, path, questions).await?;
    if let Some(Grant::Namespace(namespace)) = &grant {
        lineage::judge_namespace(service, namespace).await?;
    }
    Ok(grant)
}

/// What the API server says: by the URL, else by a namespace in whose space the path lies.
async fn review(
    service: &Service,
    person: &Person,
    verb: Verb,
    path: &str,
    questions: &mut Questions<'_>,
) -> Result<Option<Grant>, Failure> {
    if questions.ask(url(person, &format!("{URL_PREFIX}{path}"), verb.as_str())).await? {
        return Ok(Some(Grant::Everywhere));
    }
    let (path_alone, is_folder) = match path.strip_suffix('/') {
        Some(folder) => (folder, true),
        None => (path, false),
    };
    // Nobody owns the root.
    let owners = match path_alone {
        "" => Vec::new(),
        path => service.ownership().owners(path, is_folder),
    };
    for namespace in owners {
        for name in names(path) {
            let resource = SubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some("store.watchword.dev".to_owned()),
                    resource: Some("secrets".to_owned()),
                    namespace: Some(namespace.clone()),
                    verb: Some(verb.as_str().to_owned()),
                    name,
                    ..ResourceAttributes::default()
                }),
                ..subject(person)
            };
            if questions.ask(resource).await? {
                return Ok(Some(Grant::Namespace(namespace)));
            }
        }
    }
    Ok(None)
}

/// What a decision hangs on, as far as the question goes. Every part has its length in front, so
/// that no two questions are one.
fn key(person: &Person, verb: Verb, path: &str) -> Key {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    let Person { user, uid, groups, extra } = person;
    part(verb.as_str());
    part(path);
    part(user);
    part(uid.as_deref().unwrap_or_default());
    part(&groups.len().to_string());
    groups.iter().for_each(|group| part(group));
    for (name, values) in extra {
        part(name);
        part(&values.len().to_string());
        values.iter().for_each(|value| part(value));
    }
    hash.finalize().into()
}

/// The names by which a namespaced grant may speak of a path: itself, each folder above it as
/// `dir/*`, and no name at all, which is every secret of the namespace's space.
fn names(path: &str) -> Vec<Option<String>> {
    let exact = (!path.is_empty()).then(|| path.to_owned());
    let folders = path.match_indices('/').map(|(end, _)| format!("{}/*", &path[..end]));
    exact.into_iter().chain(folders).map(Some).chain([None]).collect()
}

fn url(person: &Person, path: &str, verb: &str) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(path.to_owned()),
            verb: Some(verb.to_owned()),
        }),
        ..subject(person)
    }
}

fn subject(person: &Person) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(person.user.clone()),
        uid: person.uid.clone(),
        groups: Some(person.groups.clone()),
        extra: Some(person.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    }
}

/// What the API server is asked for one request of a person, who pays for each question before it is
/// asked: a path in many folders takes many.
struct Questions<'a> {
    asked: u32,
    service: &'a Service,
    user: Source,
}

impl<'a> Questions<'a> {
    /// None was asked.
    fn of(service: &'a Service, person: &Person) -> Self {
        Self { asked: 0, service, user: Source::user(&person.user) }
    }

    async fn ask(&mut self, spec: SubjectAccessReviewSpec) -> Result<bool, Failure> {
        self.asked += 1;
        self.service.throttle.spend(self.user, Instant::now());
        ask(&self.service.client, spec).await
    }

    /// They did not lead to a denial, and cost nothing.
    fn give_back(self) {
        self.service.throttle.give_back(self.user, self.asked, Instant::now());
    }
}

async fn ask(client: &Client, spec: SubjectAccessReviewSpec) -> Result<bool, Failure> {
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::<SubjectAccessReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Failure::unavailable("cannot have the access reviewed", &error))?;
    // An explicit denial beats an allowance, as in Kubernetes.
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

/// How long a grant counts after the API server gave it.
const GIVEN_FOR: Duration = Duration::from_secs(5);

/// How many grants are remembered: some hundred KiB.
const MAX_GRANTS: usize = 4096;

const STORE_URL: &str = "/secrets/v1/store/default";
const URL_PREFIX: &str = "/secrets/v1/secret/default/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_may_name_the_path_its_folders_or_nothing() {
        let names: Vec<_> = names("shop/web/db").into_iter().collect();

        let expected = ["shop/web/db", "shop/*", "shop/web/*"].map(|name| Some(name.to_owned()));
        assert_eq!(names, [expected.as_slice(), &[None]].concat());
    }

    #[test]
    fn every_part_of_a_question_counts() {
        let person = |user: &str, groups: &[&str], extra: &[(&str, &[&str])]| Person {
            user: user.to_owned(),
            uid: None,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            extra: extra
                .iter()
                .map(|(name, values)| {
                    ((*name).to_owned(), values.iter().map(|&value| value.to_owned()).collect())
                })
                .collect(),
        };
        let alice = person("alice", &["a", "b"], &[]);

        let keys = [
            key(&alice, Verb::Read, "shop/db"),
            key(&alice, Verb::List, "shop/db"),
            key(&alice, Verb::Read, "shop/db/"),
            key(&person("bob", &["a", "b"], &[]), Verb::Read, "shop/db"),
            key(&person("alice", &["a"], &[]), Verb::Read, "shop/db"),
            key(&person("alice", &["ab"], &[]), Verb::Read, "shop/db"),
            key(&person("alice", &["a"], &[("b", &[])]), Verb::Read, "shop/db"),
            key(&person("alice", &["a", "b"], &[("c", &["d"])]), Verb::Read, "shop/db"),
            key(&person("alice", &["a", "b"], &[("c", &[]), ("d", &[])]), Verb::Read, "shop/db"),
        ];

        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key(&alice, Verb::Read, "shop/db"), keys[0]);
    }
}
