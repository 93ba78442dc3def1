//! Spaces: which service may read which secret, and which namespace may call itself which service.
//!
//! The first rule is DC/OS': a secret's parent path must be a prefix of the service id, component by
//! component. It is only as good as the id, so the second rule says who owns an id: the namespaces
//! that a cluster administrator's Space binds to the longest prefix of it, and where no Space has
//! anything to say about `/<namespace>`, the namespace of that name. Both are judged at admission
//! and again when a secret is handed out.
//!
//! The names of namespaces come back. So the third rule: a namespace that owns its name by the name
//! alone, and was deleted and made again, owns nothing of its predecessor's until a Space confirms
//! its uid. This is judged where the secrets are, by what the store remembers.

use watchword_crds::space::Space;

use crate::reference::SecretName;

/// Whether the service may read the secret, by the rule of DC/OS: whole components count, the
/// service's own name is one of them, and a secret without a path is for everyone.
pub fn may_read(secret: &SecretName, service_id: &str) -> bool {
    is_prefix(&components(secret.parent()), &components(service_id))
}

/// Who may read secrets that have no path (`rootSecrets` of the SecretStore).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RootSecrets {
    /// Every service, as in DC/OS.
    #[default]
    Everyone,
    /// No service.
    Nobody,
}

impl RootSecrets {
    /// Reads the field of a SecretStore; what is not `Everyone` is `Nobody`, to be on the safe side.
    pub fn read(text: Option<&str>) -> Self {
        match text {
            None | Some("Everyone") => Self::Everyone,
            Some(_) => Self::Nobody,
        }
    }

    /// Whether the service may read the secret, by [`may_read`] and this setting.
    pub fn may_read(self, secret: &SecretName, service_id: &str) -> bool {
        let is_open = self == Self::Everyone || !secret.parent().is_empty();
        is_open && may_read(secret, service_id)
    }
}

/// Who owns which service ids, by all Spaces of the cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ownership {
    spaces: Vec<Claim>,
}

/// What one Space says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Claim {
    name: String,
    namespaces: Vec<String>,
    prefixes: Vec<Vec<String>>,
    children: Vec<String>,
    confirmed: Vec<(String, String)>,
    resolvers: Vec<String>,
    allows_inline_values: bool,
}

/// One prefix of one Space.
#[derive(Clone, Copy)]
struct Binding<'a> {
    space: &'a Claim,
    prefix: &'a [String],
}

impl Ownership {
    /// Reads all Spaces of the cluster; their order makes no difference.
    pub fn of<'a>(spaces: impl IntoIterator<Item = &'a Space>) -> Self {
        let mut spaces: Vec<Claim> = spaces.into_iter().map(Claim::of).collect();
        spaces.sort_by(|one, two| one.name.cmp(&two.name));
        Self { spaces }
    }

    /// Judges whether definitions of this namespace may call themselves `service_id`.
    ///
    /// # Errors
    ///
    /// Why not. The reason does not tell which secrets exist.
    pub fn check(&self, namespace: &str, service_id: &str) -> Result<(), OwnershipError> {
        check_service_id(service_id)?;
        let id = components(service_id);
        let chain = self.chain(&id);
        if let Some((outer, inner)) = chain.windows(2).find_map(conflict) {
            return Err(OwnershipError::Conflict {
                id: service_id.to_owned(),
                spaces: [outer.space.name.clone(), inner.space.name.clone()],
            });
        }
        match chain.last() {
            Some(owner) if owner.space.binds(namespace) => Ok(()),
            Some(owner) => Err(OwnershipError::Foreign {
                id: service_id.to_owned(),
                namespace: namespace.to_owned(),
                prefix: text(owner.prefix),
            }),
            None if self.owns_its_name(namespace) && is_prefix(&[namespace], &id) => Ok(()),
            None => Err(OwnershipError::Unbound {
                id: service_id.to_owned(),
                namespace: namespace.to_owned(),
            }),
        }
    }

    /// Whether definitions of this namespace may hold inline values: every Space that binds the
    /// namespace must allow it, and one must be there.
    pub fn allows_inline_values(&self, namespace: &str) -> bool {
        let mut binding = self.spaces.iter().filter(|space| space.binds(namespace)).peekable();
        binding.peek().is_some() && binding.all(|space| space.allows_inline_values)
    }

    /// Whether a Space lets definitions of this namespace name the resolver.
    pub fn allows_resolver(&self, namespace: &str, resolver: &str) -> bool {
        self.spaces
            .iter()
            .filter(|space| space.binds(namespace))
            .any(|space| space.resolvers.iter().any(|name| name == resolver))
    }

    /// The namespaces whose space a secret lies in: those that own its parent as a service id.
    /// `path` is canonical; with `is_folder` it names the folder itself. Nobody's namespace owns
    /// the root, or a space that is in conflict.
    pub fn owners(&self, path: &str, is_folder: bool) -> Vec<String> {
        let parent = if is_folder { path } else { path.rsplit_once('/').map_or("", |(up, _)| up) };
        let id = components(parent);
        let Some(first) = id.first() else { return Vec::new() };
        let chain = self.chain(&id);
        if chain.windows(2).any(|pair| conflict(pair).is_some()) {
            return Vec::new();
        }
        match chain.last() {
            Some(owner) => owner.space.namespaces.clone(),
            None if self.owns_its_name(first) => vec![(*first).to_owned()],
            None => Vec::new(),
        }
    }

    /// Whether a Space confirms that the namespace of this uid may have what a predecessor of the
    /// same name had.
    pub fn confirms(&self, namespace: &str, uid: &str) -> bool {
        let mut confirmed = self.spaces.iter().flat_map(|space| &space.confirmed);
        confirmed.any(|(name, life)| name == namespace && life == uid)
    }

    /// Whether a namespace that no Space binds owns the prefix of its own name: only where no Space
    /// names that prefix, an ancestor or a descendant of it.
    pub fn owns_its_name(&self, namespace: &str) -> bool {
        let is_bound = self.spaces.iter().any(|space| space.binds(namespace));
        let own = [namespace];
        !is_bound
            && !self
                .bindings()
                .any(|binding| is_prefix(binding.prefix, &own) || is_prefix(&own, binding.prefix))
    }

    /// Pairs of Spaces (by name, in alphabetical order) that claim the same ids without leave; ids
    /// that both claim belong to nobody.
    pub fn conflicts(&self) -> Vec<[String; 2]> {
        let mut conflicts: Vec<[String; 2]> = self
            .bindings()
            .flat_map(|binding| {
                let chain =
                    self.chain(&binding.prefix.iter().map(String::as_str).collect::<Vec<_>>());
                let pairs = chain.windows(2).filter_map(conflict);
                pairs
                    .map(|(outer, inner)| {
                        let mut names = [outer.space.name.clone(), inner.space.name.clone()];
                        names.sort();
                        names
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        conflicts.sort();
        conflicts.dedup();
        conflicts
    }

    fn bindings(&self) -> impl Iterator<Item = Binding<'_>> {
        self.spaces
            .iter()
            .flat_map(|space| space.prefixes.iter().map(move |prefix| Binding { space, prefix }))
    }

    /// The bindings of all prefixes of an id, the shortest first.
    fn chain(&self, id: &[&str]) -> Vec<Binding<'_>> {
        let mut chain: Vec<_> =
            self.bindings().filter(|binding| is_prefix(binding.prefix, id)).collect();
        chain.sort_by_key(|binding| binding.prefix.len());
        chain
    }
}

impl Claim {
    fn of(space: &Space) -> Self {
        let spec = &space.spec;
        Self {
            name: space.metadata.name.clone().unwrap_or_default(),
            namespaces: spec.namespaces.clone(),
            prefixes: spec
                .prefixes
                .iter()
                .map(|prefix| components(prefix).into_iter().map(str::to_owned).collect())
                .collect(),
            children: spec.children.clone(),
            confirmed: spec
                .confirmed
                .iter()
                .map(|one| (one.namespace.clone(), one.uid.clone()))
                .collect(),
            resolvers: spec.resolvers.clone(),
            allows_inline_values: spec.inline_values.as_deref() == Some("Allow"),
        }
    }

    fn binds(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|name| name == namespace)
    }
}

/// Why a namespace may not call itself a service id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OwnershipError {
    /// Two Spaces claim the id, and neither lists the other as its child.
    #[error("the service id `{id}` is claimed by two Spaces, `{}` and `{}`; a cluster administrator must change one, or list one as the other's child", .spaces[0], .spaces[1])]
    Conflict {
        /// The id.
        id: String,
        /// The Spaces' names.
        spaces: [String; 2],
    },
    /// A Space gives the id to other namespaces.
    #[error(
        "the service id `{id}` is below `{prefix}`, which belongs to other namespaces than `{namespace}`; use an id of your own, or ask a cluster administrator for a Space"
    )]
    Foreign {
        /// The id.
        id: String,
        /// The namespace that asked.
        namespace: String,
        /// The prefix that decides.
        prefix: String,
    },
    /// The text is no service id.
    #[error("`{}` is no service id; use one like `/shop/web`, of letters, digits, `-`, `_` and `.` between slashes", .id.escape_debug())]
    NoId {
        /// The text.
        id: String,
    },
    /// The namespace is not the one whose secrets lie below its name.
    #[error(
        "namespace `{namespace}` was deleted and made again, and secrets below `/{namespace}` belong to its predecessor; if it may have them, a cluster administrator applies `{{apiVersion: watchword.dev/v1alpha1, kind: Space, metadata: {{name: confirm-{namespace}}}, spec: {{confirmed: [{{namespace: '{namespace}', uid: '{uid}'}}]}}}}`"
    )]
    Successor {
        /// The namespace.
        namespace: String,
        /// The uid that it has now.
        uid: String,
    },
    /// No Space gives the id to the namespace.
    #[error(
        "the service id `{id}` does not belong to namespace `{namespace}`; use one below `/{namespace}`, or ask a cluster administrator for a Space"
    )]
    Unbound {
        /// The id.
        id: String,
        /// The namespace that asked.
        namespace: String,
    },
}

/// A service id is 1 to 253 bytes: a slash and a component, once or more; a component is letters,
/// digits, `-`, `_` and `.`, but neither `.` nor `..`.
///
/// # Errors
///
/// [`OwnershipError::NoId`] for any other text.
pub fn check_service_id(text: &str) -> Result<(), OwnershipError> {
    let is_component = |component: &str| {
        !matches!(component, "" | "." | "..")
            && component
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let is_id = text.len() <= MAX_ID_BYTES
        && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_component));
    if is_id { Ok(()) } else { Err(OwnershipError::NoId { id: text.to_owned() }) }
}

/// Two neighbours in a chain, if the outer Space does not let the inner one be there.
fn conflict<'a>(pair: &[Binding<'a>]) -> Option<(Binding<'a>, Binding<'a>)> {
    let [outer, inner] = pair else { return None };
    let is_child =
        outer.prefix.len() < inner.prefix.len() && outer.space.children.contains(&inner.space.name);
    (outer.space.name != inner.space.name && !is_child).then_some((*outer, *inner))
}

/// The components of a path or an id, whether or not it begins with a slash.
fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|component| !component.is_empty()).collect()
}

fn is_prefix<P: AsRef<str>, I: AsRef<str>>(prefix: &[P], id: &[I]) -> bool {
    prefix.len() <= id.len() && prefix.iter().zip(id).all(|(one, two)| one.as_ref() == two.as_ref())
}

fn text(prefix: &[String]) -> String {
    format!("/{}", prefix.join("/"))
}

/// What the schema allows too.
const MAX_ID_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use watchword_crds::space::{Confirmed, SpaceSpec};

    use super::*;

    fn space(name: &str, namespaces: &[&str], prefixes: &[&str], children: &[&str]) -> Space {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        let spec = SpaceSpec {
            namespaces: owned(namespaces),
            prefixes: owned(prefixes),
            children: owned(children),
            ..SpaceSpec::default()
        };
        Space::new(name, spec)
    }

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    #[test]
    fn the_cases_of_dcos_come_out_as_documented() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../tests/vectors/spaces.json")).unwrap();

        for case in &cases {
            let (secret, service) = (case["secret"].as_str(), case["service"].as_str());
            let readable = may_read(&name(secret.unwrap()), service.unwrap());
            assert_eq!(Some(readable), case["readable"].as_bool(), "{case}");
        }
        assert_eq!(cases.len(), 17);
    }

    #[rstest]
    #[case("/shop/web", true)]
    #[case("/shopping/web", false)]
    #[case("/", false)]
    #[case("", false)]
    fn only_whole_components_count(#[case] service: &str, #[case] readable: bool) {
        assert_eq!(may_read(&name("shop/db"), service), readable);
    }

    #[test]
    fn secrets_without_a_path_can_be_closed() {
        assert!(RootSecrets::Everyone.may_read(&name("db"), "/shop/web"));
        assert!(!RootSecrets::Nobody.may_read(&name("db"), "/shop/web"));
        assert!(RootSecrets::Nobody.may_read(&name("shop/db"), "/shop/web"));
        assert_eq!(RootSecrets::read(Some("nobody")), RootSecrets::Nobody);
    }

    #[rstest]
    #[case::own_name("shop", "/shop/web", true)]
    #[case::the_name_itself("shop", "/shop", true)]
    #[case::another_name("shop", "/bank/web", false)]
    #[case::a_longer_name("shop", "/shopping/web", false)]
    fn without_spaces_a_namespace_owns_its_name(
        #[case] namespace: &str,
        #[case] id: &str,
        #[case] owned: bool,
    ) {
        assert_eq!(Ownership::default().check(namespace, id).is_ok(), owned);
    }

    #[rstest]
    #[case::bound("store", "/shop/web", true)]
    #[case::a_namespace_named_like_anothers_prefix("shop", "/shop/web", false)]
    #[case::a_bound_namespace_owns_its_prefixes_only("store", "/store/web", false)]
    #[case::descendant_named("bank", "/bank/teller", false)]
    #[case::ancestor_named("org", "/org/x/web", false)]
    #[case::unbound_elsewhere("free", "/free/web", true)]
    fn spaces_take_ids_from_namespaces(
        #[case] namespace: &str,
        #[case] id: &str,
        #[case] owned: bool,
    ) {
        let ownership = Ownership::of(&[
            space("shop", &["store"], &["/shop"], &[]),
            space("vault", &["vault"], &["/bank/vault"], &[]),
            space("org", &["head"], &["/org"], &[]),
        ]);

        assert_eq!(ownership.check(namespace, id).is_ok(), owned);
    }

    #[test]
    fn the_longest_bound_prefix_owns_an_id() {
        let ownership = Ownership::of(&[
            space("shop", &["shop"], &["/shop"], &["web"]),
            space("web", &["web"], &["/shop/web"], &[]),
        ]);

        assert_eq!(ownership.check("web", "/shop/web/front"), Ok(()));
        assert_eq!(ownership.check("shop", "/shop/db"), Ok(()));
        assert!(ownership.check("shop", "/shop/web/front").is_err());
        assert!(ownership.check("web", "/shop/db").is_err());
        assert!(ownership.conflicts().is_empty());
    }

    #[rstest]
    #[case::nested("/shop", "/shop/web")]
    #[case::equal("/shop/web", "/shop/web")]
    fn spaces_that_overlap_without_leave_own_nothing_there(#[case] one: &str, #[case] two: &str) {
        let ownership =
            Ownership::of(&[space("b", &["shop"], &[one], &[]), space("a", &["web"], &[two], &[])]);

        for namespace in ["shop", "web"] {
            let denied = ownership.check(namespace, "/shop/web/front").unwrap_err();
            assert!(matches!(denied, OwnershipError::Conflict { .. }), "{denied}");
        }
        assert_eq!(ownership.conflicts(), [["a".to_owned(), "b".to_owned()]]);
    }

    #[test]
    fn a_child_may_not_claim_what_its_parent_claims_too() {
        let ownership = Ownership::of(&[
            space("parent", &["shop"], &["/shop"], &["child"]),
            space("child", &["web"], &["/shop"], &[]),
        ]);

        assert!(ownership.check("web", "/shop/web").is_err());
        assert!(ownership.check("shop", "/shop/web").is_err());
    }

    #[test]
    fn a_child_cannot_take_what_its_parent_gave_to_another() {
        let ownership = Ownership::of(&[
            space("a", &["a"], &["/a"], &["b", "c"]),
            space("b", &["b"], &["/a/b"], &[]),
            space("c", &["c"], &["/a/b/c"], &[]),
        ]);

        assert!(ownership.check("c", "/a/b/c").is_err(), "only `b` may let `c` in");
    }

    #[rstest]
    #[case("")]
    #[case("shop/web")]
    #[case("/")]
    #[case("/shop/")]
    #[case("/shop//web")]
    #[case("/shop/../bank")]
    #[case("/shop/we b")]
    #[case("/shop/%2e%2e")]
    fn what_is_no_service_id_belongs_to_nobody(#[case] id: &str) {
        let everything = Ownership::of(&[space("all", &["shop"], &["/"], &[])]);

        assert_eq!(everything.check("shop", id), Err(OwnershipError::NoId { id: id.to_owned() }));
    }

    #[test]
    fn inline_values_need_every_space_of_the_namespace_to_allow_them() {
        let allowing = |name: &str, allows: Option<&str>| {
            let mut space = space(name, &["shop"], &["/shop"], &[]);
            space.spec.inline_values = allows.map(str::to_owned);
            space
        };

        assert!(!Ownership::default().allows_inline_values("shop"));
        assert!(!Ownership::of(&[allowing("a", None)]).allows_inline_values("shop"));
        assert!(Ownership::of(&[allowing("a", Some("Allow"))]).allows_inline_values("shop"));
        assert!(!Ownership::of(&[allowing("a", Some("Allow"))]).allows_inline_values("bank"));
        assert!(
            !Ownership::of(&[allowing("a", Some("Allow")), allowing("b", Some("Deny"))])
                .allows_inline_values("shop")
        );
    }

    #[test]
    fn a_life_of_a_namespace_is_confirmed_and_nothing_else() {
        let mut confirming = space("confirm-shop", &[], &[], &[]);
        let uid = "6f0c1a52-3b0e-4b8e-9d52-0c9d4a3c7a11";
        confirming.spec.confirmed =
            vec![Confirmed { namespace: "shop".to_owned(), uid: uid.to_owned() }];

        let ownership = Ownership::of(&[confirming]);

        assert!(ownership.confirms("shop", uid));
        assert!(!ownership.confirms("bank", uid));
        assert!(!ownership.confirms("shop", "00000000-0000-4000-8000-000000000000"));
        assert!(ownership.owns_its_name("shop"), "to confirm is not to bind");
    }

    #[test]
    fn the_denial_of_a_successor_holds_the_space_to_apply() {
        let uid = "6f0c1a52-3b0e-4b8e-9d52-0c9d4a3c7a11";
        let denial =
            OwnershipError::Successor { namespace: "shop".to_owned(), uid: uid.to_owned() }
                .to_string();

        let yaml = denial.split('`').nth(5).unwrap();
        let applied: Space = serde_yaml::from_str(yaml).unwrap();

        assert!(Ownership::of(&[applied]).confirms("shop", uid), "{denial}");
    }

    fn any_spaces() -> impl Strategy<Value = Vec<Space>> {
        let names = || proptest::collection::vec("[abc]", 0..3);
        let prefixes = proptest::collection::vec("(/[abc]){1,3}", 0..3);
        proptest::collection::vec((names(), prefixes, names()), 0..4).prop_map(|spaces| {
            spaces
                .into_iter()
                .enumerate()
                .map(|(index, (namespaces, prefixes, children))| {
                    let spec = SpaceSpec { namespaces, prefixes, children, ..SpaceSpec::default() };
                    Space::new(["a", "b", "c", "d"][index % 4], spec)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn an_id_has_owners_in_one_space_at_most(spaces in any_spaces(), id in "(/[abc]){1,4}") {
            let ownership = Ownership::of(&spaces);

            let owners: Vec<&str> = ["a", "b", "c"]
                .into_iter()
                .filter(|namespace| ownership.check(namespace, &id).is_ok())
                .collect();

            let in_one_space = spaces.iter().any(|space| {
                owners.iter().all(|owner| space.spec.namespaces.iter().any(|name| name == owner))
            });
            prop_assert!(owners.len() <= 1 || in_one_space, "{:?} own {}", owners, id);
        }

        #[test]
        fn the_order_of_spaces_makes_no_difference(
            spaces in any_spaces(),
            namespace in "[abc]",
            id in "(/[abc]){1,4}",
        ) {
            let reversed: Vec<Space> = spaces.iter().rev().cloned().collect();

            prop_assert_eq!(
                Ownership::of(&spaces).check(&namespace, &id).is_ok(),
                Ownership::of(&reversed).check(&namespace, &id).is_ok()
            );
        }

        #[test]
        fn a_namespace_that_no_space_speaks_of_owns_what_is_below_its_name(
            spaces in any_spaces(),
            rest in "(/[abc]){0,3}",
        ) {
            prop_assert_eq!(Ownership::of(&spaces).check("free", &format!("/free{rest}")), Ok(()));
        }

        #[test]
        fn what_a_service_may_read_its_descendants_may_read_too(
            secret in "([ab]{1,2}/){0,3}s",
            id in "(/[ab]{1,2}){1,3}",
            below in "(/[ab]{1,2}){0,2}",
        ) {
            if may_read(&name(&secret), &id) {
                let descendant = format!("{id}{below}");
                prop_assert!(may_read(&name(&secret), &descendant), "{} from {}", secret, descendant);
            }
        }
    }
}
