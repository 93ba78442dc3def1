//! What is asked, and what is made of answers, without a connection.

use hyper::body::Body as _;
use rstest::rstest;

use super::*;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
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

    let call = with_value(Call::put(String::new()), value).unwrap_or_else(|_| panic!());

    let (content_type, body) = call.body.unwrap();
    assert_eq!(content_type, "application/json");
    assert_eq!(body.size_hint().exact(), Some(6 * 1000 + 12));
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
