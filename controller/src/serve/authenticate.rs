//! Who is asking.
//!
//! A token is believed when the API server says so: it checks signature, expiry, audience and that
//! the bound pod still exists. The audience separates the endpoints: a container's token
//! (`watchword:<container>`) is good for `/v1/resolve` only, the controller's for `/v1/check` only,
//! and a person's is neither.

use std::collections::BTreeMap;

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::Client;
use kube::api::{Api, PostParams};
use watchword_core::claim::Claim;
use watchword_protocol::{CHECK_AUDIENCE, ErrorCode, audience};

use super::Service;
use super::audit::Event;
use super::failure::Failure;
use crate::tls::ClientIdentity;

/// Someone who talks to the Secrets API, as the API server knows them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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

/// The container that a token was mounted in.
///
/// # Errors
///
/// `Unauthenticated` when the API server does not vouch for the token as one of this container of
/// a pod; `Unavailable` when it cannot be asked.
pub(super) async fn container(
    client: &Client,
    token: &str,
    container: &str,
) -> Result<Claim, Failure> {
    let user = review(client, token, Some(audience(container))).await?.ok_or_else(refused)?;
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
    Ok(Claim {
        namespace: namespace.to_owned(),
        pod: bound("pod-name")?,
        pod_uid: bound("pod-uid")?,
        service_account: service_account.to_owned(),
        container: container.to_owned(),
    })
}

/// Lets only the controller pass, whose service account is `account`.
///
/// # Errors
///
/// As for [`container`]; `Denied` for anyone else.
pub(super) async fn controller(client: &Client, token: &str, account: &str) -> Result<(), Failure> {
    let audience = Some(CHECK_AUDIENCE.to_owned());
    let user = review(client, token, audience).await?.ok_or_else(refused)?;
    if user.username.as_deref() == Some(account) {
        Ok(())
    } else {
        Err(Failure::new(ErrorCode::Denied, "only Watchword's controller may ask this"))
    }
}

/// The person who sent a request, by bearer token or client certificate. Who cannot say who they
/// are has an audit line about `event`.
///
/// # Errors
///
/// As for [`container`]; `Unavailable` also when the audit log cannot be written.
pub(super) async fn person(
    service: &Service,
    event: Event,
    request: &Parts,
) -> Result<Person, Failure> {
    let identity = request.extensions.get::<ClientIdentity>();
    // A token says more recently who someone is than a certificate does.
    let person = match identity.filter(|_| !request.headers.contains_key(header::AUTHORIZATION)) {
        Some(identity) => Ok(certified(identity)),
        None => match token(&request.headers) {
            Ok(token) => bearer(&service.client, token).await,
            Err(failure) => Err(failure),
        },
    };
    if let Err(failure) = &person {
        service.record_stranger(event, None, failure)?;
    }
    person
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

/// The audience of tokens that people have made for Watchword.
const AUDIENCE: &str = "watchword";

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
}
