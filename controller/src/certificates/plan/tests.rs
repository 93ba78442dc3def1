//! Rows of the table, and 25 years of them with real certificates.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use rstest::rstest;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{ServerName, UnixTime},
};

use crate::certificate::Certificate;
use crate::certificates::authority::{Authority, LIFE};

use super::*;

const NAMESPACE: &str = "watchword-system";

fn day(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn start() -> Timestamp {
    "2026-11-23T20:53:14Z".parse().unwrap()
}

/// Everything as it should be, made at the start.
fn settled() -> Facts {
    let authority = AuthorityFacts {
        bundle: "one".to_owned(),
        issued: start(),
        not_after: start() + LIFE,
        predecessor_not_after: None,
    };
    let leaf = LeafFacts { fits: true, not_after: start() + LEAF_LIFE };
    Facts {
        bundle: Some(authority.bundle.clone()),
        configurations: Configuration::ALL.map(|kind| (kind, vec!["one".to_owned()])).into(),
        leaves: Server::ALL.map(|server| (server, leaf)).into(),
        authority: Some(authority),
    }
}

fn step(authority: AuthorityStep) -> CertificatePlan {
    CertificatePlan { authority, ..CertificatePlan::default() }
}

#[test]
fn where_everything_is_right_nothing_is_planned() {
    assert!(plan(&settled(), None, start() + day(1)).is_empty());
}

#[test]
fn an_authority_comes_before_all_else() {
    assert_eq!(plan(&Facts::default(), None, start()), step(AuthorityStep::Create));
}

#[rstest]
#[case::young(day(0), None, None, AuthorityStep::Keep)]
#[case::a_year_and_a_day_left(day(9 * 365 - 1), None, None, AuthorityStep::Keep)]
#[case::a_year_left(day(9 * 365), None, None, AuthorityStep::Succeed)]
#[case::expired(day(10 * 365), None, None, AuthorityStep::Create)]
#[case::expired_with_a_predecessor(day(10 * 365), Some(day(1)), None, AuthorityStep::Create)]
#[case::overlap(day(59), Some(day(365)), None, AuthorityStep::Keep)]
#[case::overlap_is_over(day(60), Some(day(365)), None, AuthorityStep::ForgetPredecessor)]
#[case::predecessor_is_expired(day(10), Some(day(10)), None, AuthorityStep::ForgetPredecessor)]
#[case::asked(day(2), None, Some(day(1)), AuthorityStep::Succeed)]
#[case::asked_for_older_ones(day(2), None, Some(day(0)), AuthorityStep::Keep)]
#[case::asked_ahead(day(2), None, Some(day(3)), AuthorityStep::Keep)]
#[case::asked_during_an_overlap(day(2), Some(day(365)), Some(day(1)), AuthorityStep::Keep)]
fn an_authority_is_kept_succeeded_or_made_anew(
    #[case] age: SignedDuration,
    #[case] predecessor_ends: Option<SignedDuration>,
    #[case] rotate_before: Option<SignedDuration>,
    #[case] expected: AuthorityStep,
) {
    let mut facts = settled();
    let authority = facts.authority.as_mut().unwrap();
    authority.predecessor_not_after = predecessor_ends.map(|end| start() + end);

    let rotate_before = rotate_before.map(|moment| start() + moment);
    let plan = plan(&facts, rotate_before, start() + age);

    assert_eq!(plan.authority, expected);
    if expected != AuthorityStep::Keep {
        assert_eq!(plan, step(expected), "nothing else is planned with it");
    }
}

#[rstest]
#[case::two_thirds_left(day(10), true, false)]
#[case::a_third_left(day(20), true, true)]
#[case::expired(day(31), true, true)]
#[case::unfit(day(0), false, true)]
fn a_leaf_is_issued_anew_when_a_third_of_its_life_is_left(
    #[case] age: SignedDuration,
    #[case] fits: bool,
    #[case] renewed: bool,
) {
    let mut facts = settled();
    facts.leaves.get_mut(&Server::Store).unwrap().fits = fits;
    facts.leaves.get_mut(&Server::Webhook).unwrap().not_after = start() + day(1000);

    let plan = plan(&facts, None, start() + age);

    assert_eq!(plan.leaves, if renewed { vec![Server::Store] } else { vec![] });
}

#[test]
fn what_is_missing_or_differs_is_repaired_and_nothing_else() {
    let mut facts = settled();
    facts.leaves.remove(&Server::Webhook);
    facts.bundle = None;
    let bundles = vec!["one".to_owned(), String::new()];
    facts.configurations.insert(Configuration::Validating, bundles);

    let plan = plan(&facts, None, start());

    assert_eq!(plan.leaves, [Server::Webhook]);
    assert!(plan.bundle);
    assert_eq!(plan.configurations, [Configuration::Validating]);
}

#[test]
fn a_configuration_that_does_not_exist_is_not_made() {
    let facts = Facts { configurations: BTreeMap::new(), ..settled() };

    assert!(plan(&facts, None, start()).is_empty());
}

/// The cluster's objects, in memory, with real keys and certificates.
#[derive(Default)]
struct World {
    authority: Option<Authority>,
    bundle: Option<String>,
    chains: BTreeMap<Server, String>,
    generations: usize,
}

impl World {
    fn facts(&self) -> Facts {
        let authority = self.authority.as_ref();
        let leaf = |(server, chain): (&Server, &String)| {
            let chain = Certificate::chain(chain.as_bytes());
            let names = server.dns_names(NAMESPACE);
            let fits = authority.is_some_and(|authority| authority.has_issued(&chain, &names));
            (*server, LeafFacts { fits, not_after: chain[0].not_after })
        };
        Facts {
            authority: authority.map(|authority| AuthorityFacts {
                bundle: authority.bundle(),
                issued: authority.certificate().issued,
                not_after: authority.certificate().not_after,
                predecessor_not_after: authority
                    .predecessor()
                    .map(|predecessor| predecessor.certificate.not_after),
            }),
            bundle: self.bundle.clone(),
            configurations: BTreeMap::new(),
            leaves: self.chains.iter().map(leaf).collect(),
        }
    }

    fn settle(&mut self, rotate_before: Option<Timestamp>, now: Timestamp) {
        for _ in 0..4 {
            let plan = plan(&self.facts(), rotate_before, now);
            if plan.is_empty() {
                return;
            }
            self.authority = match (plan.authority, self.authority.take()) {
                (AuthorityStep::Create, _) | (_, None) => {
                    self.generations += 1;
                    Some(Authority::create(now).unwrap())
                }
                (AuthorityStep::ForgetPredecessor, Some(authority)) => {
                    Some(authority.without_predecessor())
                }
                (AuthorityStep::Keep, kept) => kept,
                (AuthorityStep::Succeed, Some(authority)) => {
                    self.generations += 1;
                    Some(authority.succeed(now).unwrap())
                }
            };
            let authority = self.authority.as_ref().unwrap();
            if plan.bundle {
                self.bundle = Some(authority.bundle());
            }
            for server in plan.leaves {
                let leaf = authority.issue(&server.dns_names(NAMESPACE), now).unwrap();
                self.chains.insert(server, leaf.chain);
            }
        }
        panic!("it does not settle");
    }
}

fn verifies(bundle: &str, chain: &str, name: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in Certificate::chain(bundle.as_bytes()) {
        roots.add(certificate.der().clone()).unwrap();
    }
    let provider = aws_lc_rs::default_provider().into();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let chain: Vec<_> = Certificate::chain(chain.as_bytes())
        .iter()
        .map(|certificate| certificate.der().clone())
        .collect();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(now.as_duration().unsigned_abs());
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).is_ok()
}

#[test]
fn the_old_authority_vouches_for_its_successor_by_the_cross_certificate_alone() {
    let old = Authority::create(start()).unwrap();
    let names = Server::Store.dns_names(NAMESPACE);
    let later = start() + day(9 * 365);
    let new = old.succeed(later).unwrap();
    let chain = new.issue(&names, later).unwrap().chain;
    let leaf = Certificate::chain(chain.as_bytes()).swap_remove(0).pem;

    for name in &names {
        assert!(verifies(&old.bundle(), &chain, name, later));
        assert!(verifies(&new.bundle(), &chain, name, later));
        assert!(verifies(&new.certificate().pem, &leaf, name, later));
        assert!(!verifies(&old.bundle(), &leaf, name, later));
    }
    assert!(!verifies(&new.bundle(), &chain, "watchword-store.elsewhere.svc", later));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, ..ProptestConfig::default() })]

    /// Bundles travel in the environment of pods, and kubelet is slow: at any time of 25 years,
    /// whatever bundle was published within the overlap verifies what is served now and what was
    /// served until now.
    #[test]
    fn whoever_got_a_bundle_within_the_overlap_can_verify_what_is_served(
        pauses in prop::collection::vec(1_i64..72, 40),
        rotation in prop::option::of(0_i64..9000),
    ) {
        let mut world = World::default();
        let mut now = start();
        let rotate_before = rotation.map(|days| start() + day(days));
        let mut published: VecDeque<(Timestamp, String)> = VecDeque::new();
        let mut pauses = pauses.iter().cycle();

        while now < start() + day(25 * 365) {
            let before = world.chains.clone();
            world.settle(rotate_before, now);
            let bundle = world.bundle.clone().unwrap();
            match published.back_mut() {
                Some((last, newest)) if *newest == bundle => *last = now,
                _ => published.push_back((now, bundle)),
            }
            while published[0].0 + OVERLAP < now {
                published.pop_front();
            }

            for (_, bundle) in &published {
                let served: BTreeSet<_> = world.chains.iter().chain(&before).collect();
                for (server, chain) in served {
                    let name = format!("{}.{NAMESPACE}.svc", server.service());
                    prop_assert!(verifies(bundle, chain, &name, now), "{server:?} at {now}");
                }
            }
            // Three to nine days, an hour's fraction each: controllers can be away for a while.
            now += SignedDuration::from_hours(72 + 2 * pauses.next().unwrap());
        }

        // 25 years need two successors, a request at most one more or an earlier one.
        prop_assert!((3..=4).contains(&world.generations), "{}", world.generations);
    }
}
