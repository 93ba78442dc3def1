//! What a request asks to be done with a secret, read from everything but its body: method, path,
//! query and headers. A request that makes no sense is refused here, before anyone is asked whether
//! it is allowed.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use watchword_protocol::ErrorCode;
use watchword_store::SecretPath;

use super::condition::{Conditions, Tag};
use super::query::Parameters;
use super::representation::{Accept, Media};
use super::target::Target;
use crate::serve::Failure;
use crate::serve::audit::Event;
use crate::serve::authorize::Verb;

/// Something to be done, and to what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Operation {
    /// What is to be done.
    pub(super) action: Action,
    /// The canonical path, by which permission is asked for and which the audit log has: a folder
    /// ends with `/`, the root is empty.
    pub(super) text: String,
}

/// What can be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Make a secret. `only_absent`: refuse in the words of `If-None-Match` if it is there.
    Create { path: SecretPath, media: Media, only_absent: bool },
    /// Delete all versions.
    Delete { path: SecretPath, condition: Option<Tag> },
    /// The names below a folder, or all.
    List { folder: Option<SecretPath> },
    /// The value, `unless` the client has that version.
    Read { path: SecretPath, version: Option<u64>, accept: Accept, unless: Option<Tag> },
    /// DC/OS' renewal of a lease.
    Renew { path: SecretPath },
    /// DC/OS' end of a lease.
    Revoke { path: SecretPath },
    /// Make an old version the newest.
    RollBack { path: SecretPath, version: u64, condition: Option<Tag> },
    /// Give a new version.
    Update { path: SecretPath, media: Media, condition: Option<Tag> },
    /// Which versions there are.
    Versions { path: SecretPath },
}

/// Which of the API's paths a request came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    /// `/secrets/v1/renew/`
    Renew,
    /// `/secrets/v1/revoke/`
    Revoke,
    /// `/secrets/v1/secret/`
    Secret,
}

impl Endpoint {
    fn prefix(self) -> &'static str {
        match self {
            Self::Renew => "/secrets/v1/renew/",
            Self::Revoke => "/secrets/v1/revoke/",
            Self::Secret => "/secrets/v1/secret/",
        }
    }

    /// What a request is about, as far as it can be told before it is understood.
    pub(super) fn event(self, method: &Method) -> Event {
        match (self, method) {
            (Self::Renew, _) => Event::Renew,
            (Self::Revoke, _) => Event::Revoke,
            (Self::Secret, &Method::PUT) => Event::Create,
            (Self::Secret, &Method::PATCH) => Event::Update,
            (Self::Secret, &Method::DELETE) => Event::Delete,
            (Self::Secret, _) => Event::Read,
        }
    }
}

impl Operation {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// `BadRequest`, `NotFound` for another store, `MethodNotAllowed`.
    pub(super) fn parse(endpoint: Endpoint, request: &Parts) -> Result<Self, Failure> {
        let Parts { method, uri, headers, .. } = request;
        let Parameters { list, rollback, version, versions } = Parameters::parse(uri.query())?;
        let conditions = Conditions::parse(headers)?;
        let is_get = matches!(*method, Method::GET | Method::HEAD);
        // A flag must not turn the path of a write into a folder's, nor be forgotten.
        let asked = [list, versions, version.is_some(), rollback.is_some()];
        if asked.iter().filter(|&&asked| asked).count() > 1 {
            return Err(bad("`list`, `rollback`, `version` and `versions` exclude each other"));
        }
        if (list || versions || version.is_some()) && !(is_get && endpoint == Endpoint::Secret) {
            return Err(bad("`list`, `version` and `versions` go with GET of a secret only"));
        }
        if rollback.is_some() && !(*method == Method::PATCH && endpoint == Endpoint::Secret) {
            return Err(bad("`rollback` goes with PATCH of a secret only"));
        }
        let rest = uri.path().strip_prefix(endpoint.prefix()).unwrap_or_default();
        let target = Target::parse(rest, list)?;
        let text = target.text();
        let path = match target {
            Target::Folder(folder) => {
                conditions.none()?;
                return Ok(Self { action: Action::List { folder }, text });
            }
            Target::Secret(path) => path,
        };
        let action = match (endpoint, method) {
            (Endpoint::Renew, _) => {
                conditions.none()?;
                Action::Renew { path }
            }
            (Endpoint::Revoke, _) => {
                conditions.none()?;
                Action::Revoke { path }
            }
            (Endpoint::Secret, &Method::GET | &Method::HEAD) if versions => {
                conditions.none()?;
                Action::Versions { path }
            }
            (Endpoint::Secret, &Method::GET | &Method::HEAD) => {
                let unless = conditions.only_none_match()?;
                Action::Read { path, version, accept: Accept::parse(headers)?, unless }
            }
            (Endpoint::Secret, &Method::PUT) => Action::Create {
                path,
                media: Media::of_body(headers)?,
                only_absent: conditions.only_absent()?,
            },
            (Endpoint::Secret, &Method::PATCH) => {
                let condition = conditions.only_match()?;
                match rollback {
                    Some(version) => Action::RollBack { path, version, condition },
                    None => Action::Update { path, media: Media::of_body(headers)?, condition },
                }
            }
            (Endpoint::Secret, &Method::DELETE) => {
                Action::Delete { path, condition: conditions.only_match()? }
            }
            _ => {
                return Err(bad("use GET, PUT, PATCH or DELETE")
                    .with_status(StatusCode::METHOD_NOT_ALLOWED));
            }
        };
        Ok(Self { action, text })
    }

    /// What has to be granted; all of it.
    pub(super) fn verbs(&self) -> &'static [Verb] {
        match self.action {
            Action::Create { .. } => &[Verb::Create],
            Action::Delete { .. } => &[Verb::Delete],
            Action::List { .. } => &[Verb::List],
            Action::Read { .. } | Action::Renew { .. } | Action::Versions { .. } => &[Verb::Read],
            // Otherwise who may only write could bring a value back that they have never seen.
            Action::RollBack { .. } => &[Verb::Update, Verb::Read],
            Action::Revoke { .. } | Action::Update { .. } => &[Verb::Update],
        }
    }

    /// How the audit log calls it.
    pub(super) fn event(&self) -> Event {
        match self.action {
            Action::Create { .. } => Event::Create,
            Action::Delete { .. } => Event::Delete,
            Action::List { .. } | Action::Versions { .. } => Event::List,
            Action::Read { .. } => Event::Read,
            Action::Renew { .. } => Event::Renew,
            Action::Revoke { .. } => Event::Revoke,
            Action::RollBack { .. } => Event::Rollback,
            Action::Update { .. } => Event::Update,
        }
    }

    /// The path, or the folder, and whether a value is written there.
    pub(super) fn path(&self) -> (Option<&SecretPath>, bool) {
        match &self.action {
            Action::List { folder } => (folder.as_ref(), false),
            Action::Create { path, .. }
            | Action::RollBack { path, .. }
            | Action::Update { path, .. } => (Some(path), true),
            Action::Delete { path, .. }
            | Action::Read { path, .. }
            | Action::Renew { path }
            | Action::Revoke { path }
            | Action::Versions { path } => (Some(path), false),
        }
    }

    /// Whether something is different afterwards.
    pub(super) fn is_change(&self) -> bool {
        match self.action {
            Action::Create { .. }
            | Action::Delete { .. }
            | Action::RollBack { .. }
            | Action::Update { .. } => true,
            Action::List { .. }
            | Action::Read { .. }
            | Action::Renew { .. }
            | Action::Revoke { .. }
            | Action::Versions { .. } => false,
        }
    }
}

fn bad(message: &str) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn parsed(
        endpoint: Endpoint,
        method: &str,
        rest: &str,
        headers: &[(&str, &str)],
    ) -> Result<Operation, Failure> {
        let uri = format!("{}{rest}", endpoint.prefix());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Operation::parse(endpoint, &parts)
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[rstest]
    #[case("GET", "default/shop/db", Event::Read, &[Verb::Read])]
    #[case("HEAD", "default/shop/db", Event::Read, &[Verb::Read])]
    #[case("GET", "default/shop/db?version=2", Event::Read, &[Verb::Read])]
    #[case("GET", "default/shop/db?versions=true", Event::List, &[Verb::Read])]
    #[case("GET", "default/shop/db?list=true", Event::List, &[Verb::List])]
    #[case("GET", "default/shop/db?list=false", Event::Read, &[Verb::Read])]
    #[case("PUT", "default/shop/db", Event::Create, &[Verb::Create])]
    #[case("PATCH", "default/shop/db", Event::Update, &[Verb::Update])]
    #[case("PATCH", "default/shop/db?rollback=2", Event::Rollback, &[Verb::Update, Verb::Read])]
    #[case("DELETE", "default/shop/db", Event::Delete, &[Verb::Delete])]
    fn method_and_query_say_what_is_to_be_done(
        #[case] method: &str,
        #[case] rest: &str,
        #[case] event: Event,
        #[case] verbs: &[Verb],
    ) {
        let operation = parsed(Endpoint::Secret, method, rest, &[JSON]).unwrap();

        assert_eq!(operation.event(), event);
        assert_eq!(operation.verbs(), verbs);
    }

    #[rstest]
    #[case::list_of_a_write("PUT", "default/shop?list=true", &[JSON])]
    #[case::list_of_an_update("PATCH", "default/shop?list=true", &[JSON])]
    #[case::list_of_a_deletion("DELETE", "default/shop?list=true", &[])]
    #[case::version_of_a_deletion("DELETE", "default/shop/db?version=1", &[])]
    #[case::rollback_by_reading("GET", "default/shop/db?rollback=1", &[])]
    #[case::two_at_once("GET", "default/shop?list=true&version=1", &[])]
    #[case::no_media("PUT", "default/shop/db", &[])]
    #[case::no_media("PATCH", "default/shop/db", &[])]
    #[case::accept("GET", "default/shop/db", &[("accept", "text/html")])]
    #[case::put_over("PUT", "default/shop/db", &[JSON, ("if-match", "\"1\"")])]
    #[case::no_etag("DELETE", "default/shop/db", &[("if-match", "1")])]
    #[case::trailing("DELETE", "default/shop/db/", &[])]
    #[case::root("GET", "default", &[])]
    #[case::trace("TRACE", "default/shop/db", &[])]
    fn what_makes_no_sense_is_refused(
        #[case] method: &str,
        #[case] rest: &str,
        #[case] headers: &[(&str, &str)],
    ) {
        let failure = parsed(Endpoint::Secret, method, rest, headers).unwrap_err();

        assert_eq!(failure.code, ErrorCode::BadRequest);
    }

    #[rstest]
    #[case(Endpoint::Renew, &[Verb::Read])]
    #[case(Endpoint::Revoke, &[Verb::Update])]
    fn leases_have_rights_too(#[case] endpoint: Endpoint, #[case] verbs: &[Verb]) {
        assert_eq!(parsed(endpoint, "PUT", "default/shop/db", &[]).unwrap().verbs(), verbs);
        assert!(parsed(endpoint, "PUT", "default/shop/db?list=true", &[]).is_err());
        assert!(parsed(endpoint, "PUT", "other/shop/db", &[]).is_err());
    }

    proptest! {
        /// Whatever the request, the path that is asked about is the path that is acted upon.
        #[test]
        fn permission_is_asked_for_what_is_done(
            method in "GET|PUT|PATCH|DELETE",
            rest in "default/[a-z/%.2F]{0,12}(\\?(list|versions)=true)?",
        ) {
            if let Ok(operation) = parsed(Endpoint::Secret, &method, &rest, &[JSON]) {
                let is_folder = matches!(operation.action, Action::List { .. });
                let path = operation.path().0.map(|path| match is_folder {
                    true => format!("{path}/"),
                    false => path.to_string(),
                });
                prop_assert_eq!(path.unwrap_or_default(), operation.text);
            }
        }
    }
}
