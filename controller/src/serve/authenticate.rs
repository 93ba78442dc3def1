//! Who is asking.
//!
//! A token is believed when the API server says so: it checks signature, expiry, audience and that
//! the bound pod still exists. The audience separates the endpoints: a container's token
//! (`watchword:<container>`) is good for `/v1/resolve` only, the controller's for `/v1/check` only,
//! and a person's is neither. A token that does not even say that it has the audience is refused
//! without a question, and one address asks only so many in vain ([`super::throttle`]).
//!
//! Who a person is is remembered for a few seconds, by the hash of the token: a person who is removed
//! from the cluster is so much longer known. Who a container is is asked each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::Client;
use kube::api::{Api, PostParams};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watchword_core::claim::Claim;
use watchword_protocol::{CHECK_AUDIENCE, ErrorCode, audience};

use super::Service;
use super::audit::Event;
use super::failure::Failure;
use super::peer::PeerClaim;
use super::recent::Recent;
use super::throttle::Source;
use crate::listen::Peer;
use crate::tls::ClientIdentity;

/// Someone who talks to the Secrets API, as the API server knows them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Person {
    /// The user's name.
    pub user: String,
    /// The user's uid, where the authenticator gives one.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// Whatever else the authenticator says; RBAC does not look at it, webhooks may.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What was found out lately about people's tokens.
pub(super) struct People {
    known: Recent<Arc<Person>>,
    /// Tokens that nobody vouches for.
    unknown: Recent<()>,
}

impl People {
    /// Nobody is known.
    pub(super) fn new() -> Self {
        Self { known: Recent::new(MAX_PEOPLE), unknown: Recent::new(MAX_PEOPLE) }
    }
}

/// The container that the token of a request was mounted in.
///
/// # Errors
///
/// `Unauthenticated` when the API server does not vouch for the token as one of this container of
/// a pod; `TooManyRequests` after too many of this address for which it did not; `Unavailable` when
/// it cannot be asked.
pub(super) async fn container(
    service: &Service,
    request: &Parts,
    container: &str,
) -> Result<Claim, Failure> {
    let pod = async {
        let token = token(&request.headers)?;
        bound_pod(&service.client, token, audience(container)).await
    };
    let pod = service.throttle.review(address(request), pod).await?;
    Ok(Claim {
        namespace: pod.namespace,
        pod: pod.pod,
        pod_uid: pod.uid,
        service_account: pod.service_account,
        container: container.to_owned(),
    })
}

/// The pod that says that it is another replica of the store.
///
/// # Errors
///
/// As for [`container`], but for `TooManyRequests`.
pub(super) async fn peer(client: &Client, token: &str) -> Result<PeerClaim, Failure> {
    bound_pod(client, token, PEER_AUDIENCE.to_owned()).await
}

/// The pod that a token is bound to.
async fn bound_pod(client: &Client, token: &str, audience: String) -> Result<PeerClaim, Failure> {
    if !is_meant(token, &audience) {
        return Err(refused());
    }
    let user = review(client, token, Some(audience)).await?.ok_or_else(refused)?;
    let account = user.username.unwrap_or_default();
    let (namespace, service_account) = account
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split_once(':'))
        .ok_or_else(refused)?;
    let extra = user.extra.unwrap_or_default();
    let bound = |key: &str| -> Result<String, Failure> {
        let values = extra.get(&format!("authentication.kubernetes.io/{key}"));
        // Absent: a token that is bound to no pod. Nobody could tell whose it is.
        values.and_then(|values| values.first()).cloned().ok_or_else(refused)
    };
    Ok(PeerClaim {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: bound("pod-name")?,
        uid: bound("pod-uid")?,
    })
}

/// Lets only the controller pass.
///
/// # Errors
///
/// As for [`container`]; `Denied` for anyone else.
pub(super) async fn controller(service: &Service, request: &Parts) -> Result<(), Failure> {
    let user = async {
        let token = token(&request.headers)?;
        if !is_meant(token, CHECK_AUDIENCE) {
            return Err(refused());
        }
        let audience = Some(CHECK_AUDIENCE.to_owned());
        review(&service.client, token, audience).await?.ok_or_else(refused)
    };
    let user = service.throttle.review(address(request), user).await?;
    if user.username.as_ref() == Some(&service.controller) {
        Ok(())
    } else {
        Err(Failure::new(ErrorCode::Denied, "only Watchword's controller may ask this"))
    }
}

/// Whether a token says of itself that it has the audience. Nothing of it is verified, and nothing
/// is believed: what does not say so need not be shown to the API server, which makes no token for
/// an audience that is not a JWT.
fn is_meant(token: &str, audience: &str) -> bool {
    #[derive(Deserialize)]
    struct Payload {
        aud: Audiences,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        Many(Vec<String>),
        One(String),
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).ok();
    let payload = payload.and_then(|json| serde_json::from_slice::<Payload>(&json).ok());
    match payload.map(|payload| payload.aud) {
        None => false,
        Some(Audiences::Many(all)) => all.iter().any(|one| one == audience),
        Some(Audiences::One(one)) => one == audience,
    }
}

/// Where a request comes from.
fn address(request: &Parts) -> Option<Source> {
    request.extensions.get::<Peer>().map(|peer| Source::address(peer.0.ip()))
}

/// The person who sent a request, by bearer token or client certificate. Who cannot say who they
/// are has an audit line about `event`.
///
/// # Errors
///
/// As for [`container`]; `TooManyRequests` after too many tokens of this address that nobody vouched
/// for; `Unavailable` also when the audit log cannot be written.
pub(super) async fn person(
    service: &Service,
    event: Event,
    request: &Parts,
) -> Result<Arc<Person>, Failure> {
    let identity = request.extensions.get::<ClientIdentity>();
    // A token says more recently who someone is than a certificate does.
    if let Some(identity) =
        identity.filter(|_| !request.headers.contains_key(header::AUTHORIZATION))
    {
        return Ok(Arc::new(certified(identity)));
    }
    let person = remembered(service, request).await;
    if let Err(failure) = &person {
        service.record_stranger(event, None, failure)?;
    }
    person
}

/// The person behind the token of a request, from memory if possible.
async fn remembered(service: &Service, request: &Parts) -> Result<Arc<Person>, Failure> {
    let now = Instant::now();
    let token = token(&request.headers);
    let key = token.as_ref().ok().map(|token| Sha256::digest(token).into());
    if let Some(person) = key.and_then(|key| service.people.known.get(&key, now)) {
        return Ok(person);
    }
    let person = async {
        if key.is_some_and(|key| service.people.unknown.get(&key, now).is_some()) {
            return Err(refused());
        }
        let person = bearer(&service.client, token?).await.map(Arc::new);
        let now = Instant::now();
        match (&person, key) {
            (Ok(person), Some(key)) => {
                service.people.known.insert(key, Arc::clone(person), KNOWN_FOR, now);
            }
            (Err(failure), Some(key)) if failure.code == ErrorCode::Unauthenticated => {
                service.people.unknown.insert(key, (), UNKNOWN_FOR, now);
            }
            _ => {}
        }
        person
    };
    service.throttle.review(address(request), person).await
}

/// The person whom a client certificate names.
fn certified(identity: &ClientIdentity) -> Person {
    let mut groups = identity.groups.clone();
    // The API server adds this group to everyone whom it knows.
    groups.push("system:authenticated".to_owned());
    Person { user: identity.user.clone(), groups, ..Person::default() }
}

/// The person behind a bearer token: one made for Watchword, else one made for the API server.
async fn bearer(client: &Client, token: &str) -> Result<Person, Failure> {
    let mut user = review(client, token, Some(AUDIENCE.to_owned())).await?;
    if user.is_none() {
        user = review(client, token, None).await?;
    }
    let UserInfo { username, uid, groups, extra } = user.ok_or_else(refused)?;
    Ok(Person {
        user: username.ok_or_else(refused)?,
        uid,
        groups: groups.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
    })
}

/// The token of a request: `Authorization: Bearer <token>`, or DC/OS' `token=<token>`.
///
/// # Errors
///
/// `Unauthenticated` when there is none.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Failure> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| {
        let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
        if scheme.eq_ignore_ascii_case("bearer") {
            Some(token.trim())
        } else {
            value.strip_prefix("token=").map(str::trim)
        }
    });
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Failure::new(
            ErrorCode::Unauthenticated,
            "a token is needed: send `Authorization: Bearer <token>`",
        )
    })
}

/// What the API server says of a token; `None` when it does not vouch for it.
async fn review(
    client: &Client,
    token: &str,
    audience: Option<String>,
) -> Result<Option<UserInfo>, Failure> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: audience.clone().map(|audience| vec![audience]),
        },
        ..TokenReview::default()
    };
    let answer = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Failure::unavailable("cannot have the token reviewed", &error))?;
    let status = answer.status.unwrap_or_default();
    // An API server that ignores audiences would not name ours.
    let for_us = audience
        .is_none_or(|audience| status.audiences.iter().flatten().any(|one| *one == audience));
    Ok(status.user.filter(|_| status.authenticated == Some(true) && for_us))
}

fn refused() -> Failure {
    Failure::new(ErrorCode::Unauthenticated, "the token is not good for this")
}

/// The audience of tokens by which the store's replicas know each other.
const PEER_AUDIENCE: &str = "watchword-peer";

/// The audience of tokens that people have made for Watchword.
const AUDIENCE: &str = "watchword";

/// How long a person is known by a token, and how long nobody is.
const KNOWN_FOR: Duration = Duration::from_secs(10);
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// How many tokens are remembered: with large groups some MiB.
const MAX_PEOPLE: usize = 2048;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Bearer abc", Some("abc"))]
    #[case("bearer abc", Some("abc"))]
    #[case("token=abc", Some("abc"))]
    #[case("Basic abc", None)]
    #[case("Bearer ", None)]
    #[case("token=", None)]
    #[case("abc", None)]
    fn both_forms_of_the_token_header_are_read(
        #[case] value: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());

        assert_eq!(token(&headers).ok(), expected);
    }

    #[rstest]
    #[case(r#"{"aud":["watchword:web"],"sub":"x"}"#, true)]
    #[case(r#"{"aud":["other","watchword:web"]}"#, true)]
    #[case(r#"{"aud":"watchword:web"}"#, true)]
    #[case(r#"{"aud":["watchword:web2"]}"#, false)]
    #[case(r#"{"aud":[]}"#, false)]
    #[case(r#"{"aud":{"watchword:web":1}}"#, false)]
    #[case(r#"{"sub":"watchword:web"}"#, false)]
    #[case("watchword:web", false)]
    fn a_token_is_reviewed_only_if_it_says_that_it_has_the_audience(
        #[case] payload: &str,
        #[case] expected: bool,
    ) {
        let jwt = format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload));

        assert_eq!(is_meant(&jwt, "watchword:web"), expected);
    }

    #[rstest]
    #[case("")]
    #[case("opaque")]
    #[case("e30..c2ln")]
    #[case("e30.!.c2ln")]
    #[case("e30.eyJhdWQiOiJ3In0")]
    #[case("e30.eyJhdWQiOiJ3In0.c2ln.c2ln")]
    fn what_is_no_jwt_is_not_reviewed(#[case] token: &str) {
        assert!(!is_meant(token, "w"));
        assert!(is_meant("e30.eyJhdWQiOiJ3In0.c2ln", "w"));
    }
}
