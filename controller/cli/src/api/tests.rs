//! What the store is asked, and what is made of its answers, without a connection.

use http::HeaderValue;
use rstest::rstest;

use super::*;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn refused(action: &Action, status: u16, body: &str) -> Error {
    let answer =
        Response::builder().status(status).body(Zeroizing::new(body.as_bytes().to_vec())).unwrap();
    Error::new(action, Cause::Refused(Refusal::read(&answer)))
}

fn said(error: &Error) -> String {
    crate::output::chain(error)
}

#[rstest]
#[case("/", "/", "")]
#[case("", "/", "")]
#[case("shop", "/shop", "shop")]
#[case("/shop/", "/shop", "shop")]
#[case("shop/a", "/shop/a", "shop/a")]
fn a_directory_has_one_spelling(#[case] text: &str, #[case] shown: &str, #[case] path: &str) {
    let directory: Directory = text.parse().unwrap();

    assert_eq!(directory.to_string(), shown);
    assert_eq!(directory.path(), path);
}

#[rstest]
#[case("//")]
#[case("shop//")]
#[case("../shop")]
#[case("shop?list=true")]
fn what_means_something_to_a_url_is_no_directory(#[case] text: &str) {
    assert!(text.parse::<Directory>().is_err());
}

#[test]
fn a_listed_name_leads_to_its_secret() {
    let shop: Directory = "shop".parse().unwrap();
    let root: Directory = "/".parse().unwrap();

    assert_eq!(shop.join(&name("api/key")), Some(name("shop/api/key")));
    assert_eq!(root.join(&name("api/key")), Some(name("api/key")));
}

#[rstest]
#[case("default", true)]
#[case("a-B_1", true)]
#[case("", false)]
#[case("a/b", false)]
#[case("a?b", false)]
#[case("ä", false)]
fn a_store_id_means_nothing_to_a_url(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(text.parse::<StoreId>().is_ok(), expected);
}

#[rstest]
#[case("\"3\"", Some(3))]
#[case("W/\"3\"", Some(3))]
#[case("3", Some(3))]
#[case("\"abc\"", None)]
fn the_version_is_the_etag(#[case] tag: &'static str, #[case] expected: Option<u64>) {
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, HeaderValue::from_static(tag));

    assert_eq!(version_of(&headers), expected);
}

#[test]
fn text_becomes_json_in_a_vector_that_need_not_grow() {
    let value = Value::Text(Zeroizing::new("\u{1}".repeat(1000)));

    let (content_type, body) = encode(value).unwrap();

    assert_eq!(content_type, "application/json");
    assert_eq!(body.len(), 6 * 1000 + 12);
    assert_eq!(body.capacity(), 6 * 1000 + 12);
}

#[test]
fn times_are_text_whatever_the_store_says() {
    let body = r#"{"versions":[{"version":1,"created":0,"author":"ann"},
        {"version":2,"created":"2026-11-23T21:00:00Z"},{"version":3,"created":null}]}"#;

    let Versions { versions } = serde_json::from_str(body).unwrap();

    assert_eq!(versions[0].created.as_deref(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(versions[1].created.as_deref(), Some("2026-11-23T21:00:00Z"));
    assert_eq!(versions[2].created, None);
}

#[rstest]
#[case(Action::Read(name("a")), 401, "", "cannot read `a`: the store does not know who is asking")]
#[case(Action::Read(name("a")), 403, "{}", "cannot read `a`: it is not allowed")]
#[case(Action::Read(name("a")), 404, "", "cannot read `a`: there is no such secret")]
#[case(Action::Create(name("a")), 409, "", "cannot create `a`: it exists already")]
#[case(Action::Update(name("a")), 413, "", "cannot update `a`: the value is too long")]
#[case(
    Action::Delete(name("a")),
    500,
    "",
    "cannot delete `a`: the store answered 500 Internal Server Error"
)]
#[case(Action::List("/".parse().unwrap()), 403, r#"{"code":"denied","message":"No"}"#, "cannot list `/`: No")]
#[case(
    Action::Versions(name("a")),
    404,
    r#"{"message":"Gone"}"#,
    "cannot read the versions of `a`: Gone"
)]
#[case(Action::SealStatus("default".parse().unwrap()), 503, r#"{"code":"sealed"}"#, "cannot read the seal status of store `default`: the store is sealed")]
fn a_refusal_says_what_was_tried_and_why_not(
    #[case] action: Action,
    #[case] status: u16,
    #[case] body: &str,
    #[case] expected: &str,
) {
    assert_eq!(said(&refused(&action, status, body)), expected);
}

#[rstest]
#[case(Action::Update(name("a/b")), 404, "store it with `watchword secret create a/b`")]
#[case(Action::Read(name("a/b")), 404, "`watchword secret list` shows what is there")]
#[case(Action::Create(name("a/b")), 409, "change it with `watchword secret update a/b`")]
#[case(
    Action::Read(name("a")),
    401,
    "a token may have expired; `kubectl auth whoami` says who you are"
)]
#[case(
    Action::List("a".parse().unwrap()),
    403,
    "ask for the right that `kubectl auth can-i list /secrets/v1/secret/default/a/` checks"
)]
fn a_hint_is_something_to_do(#[case] action: Action, #[case] status: u16, #[case] hint: &str) {
    assert_eq!(refused(&action, status, "").hint().as_deref(), Some(hint));
}
