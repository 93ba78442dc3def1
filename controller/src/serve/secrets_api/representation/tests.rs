use std::net::IpAddr;

use axum::body::to_bytes;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;
use watchword_store::Meta;

use super::*;
use crate::serve::budget::Budget;

fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn share() -> Share {
    Budget::new().share(IpAddr::from([10, 0, 0, 1]))
}

fn chosen(accept: &str, own: ContentType, is_text: bool) -> Option<Media> {
    let accept = Accept::parse(&headers(&header::ACCEPT, &[accept])).ok()?;
    accept.choose(own, is_text).ok()
}

#[rstest]
#[case::curl("*/*", Some(Media::Json), Some(Media::Bytes), Some(Media::Bytes))]
#[case::json("application/json", Some(Media::Json), Some(Media::Json), None)]
#[case::upper("Application/JSON", Some(Media::Json), Some(Media::Json), None)]
#[case::bytes(
    "application/octet-stream",
    Some(Media::Bytes),
    Some(Media::Bytes),
    Some(Media::Bytes)
)]
#[case::browser(
    "application/json, text/plain, */*",
    Some(Media::Json),
    Some(Media::Bytes),
    Some(Media::Bytes)
)]
#[case::rather_json(
    "application/json, */*;q=0.5",
    Some(Media::Json),
    Some(Media::Json),
    Some(Media::Bytes)
)]
#[case::rather_bytes(
    "application/json;q=0.5, application/octet-stream",
    Some(Media::Bytes),
    Some(Media::Bytes),
    Some(Media::Bytes)
)]
#[case::no_bytes("*/*, application/octet-stream;q=0", Some(Media::Json), Some(Media::Json), None)]
#[case::text("text/plain", None, None, None)]
#[case::html("text/html, application/xml;q=0.9", None, None, None)]
#[case::never("application/json;q=0", None, None, None)]
#[case::not_ascii("é", None, None, None)]
fn the_client_chooses_the_form(
    #[case] accept: &str,
    #[case] of_text: Option<Media>,
    #[case] of_text_as_bytes: Option<Media>,
    #[case] of_binary: Option<Media>,
) {
    assert_eq!(chosen(accept, ContentType::Text, true), of_text);
    assert_eq!(chosen(accept, ContentType::Binary, true), of_text_as_bytes);
    assert_eq!(chosen(accept, ContentType::Binary, false), of_binary);
}

#[test]
fn without_a_wish_every_form_is_welcome() {
    assert_eq!(Accept::parse(&HeaderMap::new()).unwrap(), Accept { bytes: 1000, json: 1000 });
}

#[rstest]
#[case("application/json", Some(Media::Json))]
#[case("application/json; charset=utf-8", Some(Media::Json))]
#[case("Application/Octet-Stream", Some(Media::Bytes))]
#[case("application/x-www-form-urlencoded", None)]
#[case("text/plain", None)]
#[case("application/jsonx", None)]
#[case("", None)]
fn the_form_of_a_body_must_be_said(#[case] value: &str, #[case] expected: Option<Media>) {
    assert_eq!(Media::of_body(&headers(&header::CONTENT_TYPE, &[value])).ok(), expected);
    assert!(Media::of_body(&HeaderMap::new()).is_err());
}

#[rstest]
#[case::bare(json!({"value": "x\n"}))]
#[case::web_interface(json!({"path": "shop%2Fdb", "value": "x\n"}))]
#[case::sdk(json!({"author": "sdk", "value": "x\n", "description": "", "labels": ["a"]}))]
#[case::of_2_1(json!({"created": "now", "value": "x\n", "labels": null}))]
fn what_known_clients_send_is_taken(#[case] body: serde_json::Value) {
    let value = parse_json(body.to_string().as_bytes()).ok().unwrap().value;

    assert_eq!(value.expose_secret(), b"x\n");
}

#[rstest]
#[case("")]
#[case("{}")]
#[case("[]")]
#[case("{\"value\": 1}")]
#[case("{\"value\": null}")]
#[case("{\"value\": \"hunter2\", \"value\": \"x\"}")]
#[case("{\"value\": \"hunter2\"")]
#[case("{\"value\": \"hunter2\"} x")]
#[case("{\"value\": \"\\ud800\"}")]
fn other_bodies_are_refused_without_being_quoted(#[case] body: &str) {
    let failure = parse_json(body.as_bytes()).err().unwrap();

    assert_eq!(failure.code, ErrorCode::BadRequest);
    assert!(!failure.message.contains("hunter2"));
}

#[rstest]
#[case::bytes(Media::Bytes, 10, 10, None)]
#[case::bytes_too_many(Media::Bytes, 11, 10, Some(ErrorCode::TooLarge))]
#[case::json_too_long(Media::Json, MAX_JSON_BYTES + 1, 10, Some(ErrorCode::TooLarge))]
#[tokio::test]
async fn a_body_has_an_end(
    #[case] media: Media,
    #[case] bytes: usize,
    #[case] limit: usize,
    #[case] code: Option<ErrorCode>,
    #[values(true, false)] is_declared: bool,
) {
    let length = bytes.to_string();
    let values = [length.as_str()];
    let headers = headers(&header::CONTENT_LENGTH, if is_declared { &values } else { &[] });

    let value = given(Body::from(vec![b' '; bytes]), &headers, media, limit).await;

    assert_eq!(value.err().map(|failure| failure.code), code);
}

#[tokio::test]
async fn a_long_text_is_too_large_by_its_bytes_not_by_its_json() {
    let body = |text: &str| Body::from(json!({"value": text}).to_string());
    let none = HeaderMap::new();

    assert!(given(body("\u{1}\u{1}\u{1}"), &none, Media::Json, 3).await.is_ok());
    let refused = given(body("four"), &none, Media::Json, 3).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert!(!refused.message.contains("four"));
}

#[tokio::test]
async fn a_secret_looks_as_in_dcos() {
    let secret = Secret {
        meta: Meta {
            author: "grace".to_owned(),
            content_type: ContentType::Text,
            created: 1_000_000_000,
            about: None,
        },
        value: Value::new(b"x\n".to_vec()),
        version: 3,
    };
    let about = About { description: Some("of the shop".to_owned()), labels: None };
    let described = Secret {
        meta: Meta { about: Some(Box::new(about)), ..secret.meta.clone() },
        value: Value::new(b"x\n".to_vec()),
        version: 4,
    };

    let of = |secret| answer(secret, Accept { bytes: 0, json: 1000 }, share()).unwrap();
    let (plain, described) = (of(&secret), of(&described));

    assert_eq!(plain.headers()[header::ETAG], "\"3\"");
    assert_eq!(plain.headers()[header::CACHE_CONTROL], "no-store");
    let body = to_bytes(plain.into_body(), 1024).await.unwrap();
    let expected = r#"{"value":"x\n","author":"grace","created":"2001-09-09T01:46:40Z"}"#;
    assert_eq!(body, expected);
    let body = to_bytes(described.into_body(), 1024).await.unwrap();
    let more = expected.replace('}', r#","description":"of the shop"}"#);
    assert_eq!(body, more);
}

#[rstest]
#[case::as_it_is(Accept { bytes: 1000, json: 0 }, 16)]
// Each byte takes six in JSON.
#[case::escaped(Accept { bytes: 0, json: 1000 }, 2)]
fn people_who_take_nothing_hold_their_part_of_all_answers(
    #[case] accept: Accept,
    #[case] answers: usize,
) {
    let secret = Secret {
        meta: Meta {
            author: "grace".to_owned(),
            content_type: ContentType::Text,
            created: 0,
            about: None,
        },
        value: Value::new(vec![1; 1 << 20]),
        version: 1,
    };
    let budget = Budget::new();
    let ask = |host| answer(&secret, accept, budget.share(IpAddr::from([10, 0, 0, host])));

    let held: Vec<_> = (0..100).map_while(|_| ask(1).ok()).collect();

    assert_eq!(held.len(), answers);
    assert_eq!(ask(1).unwrap_err().code, ErrorCode::Unavailable);
    assert!(ask(2).is_ok());
}

#[rstest]
#[case(json!({"value": ""}), None)]
#[case(json!({"value": "", "description": null, "labels": null}), None)]
#[case(json!({"value": "", "description": "d"}), Some((Some(1), None)))]
#[case(json!({"value": "", "labels": ["a", "b"]}), Some((None, Some(2))))]
#[case(json!({"value": "", "description": "x".repeat(1024)}), Some((Some(1024), None)))]
fn what_is_said_of_a_secret_is_read(
    #[case] body: serde_json::Value,
    #[case] expected: Option<(Option<usize>, Option<usize>)>,
) {
    let about = parse_json(body.to_string().as_bytes()).ok().unwrap().about;

    let said = about.as_ref().map(|about| {
        (about.description.as_ref().map(String::len), about.labels.as_ref().map(Vec::len))
    });
    assert_eq!(said, expected);
}

#[rstest]
#[case(json!({"value": "", "description": "x".repeat(1025)}))]
#[case(json!({"value": "", "labels": vec![""; 129]}))]
#[case(json!({"value": "", "labels": "a"}))]
fn too_much_and_what_is_no_text_are_refused(#[case] body: serde_json::Value) {
    let refused = parse_json(body.to_string().as_bytes()).err().unwrap();

    assert_eq!(refused.code, ErrorCode::BadRequest);
}

proptest! {
    #[test]
    fn no_header_is_too_strange(text in ".{0,200}") {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.clone());
            headers.insert(header::CONTENT_TYPE, value);
            let _ = (Accept::parse(&headers), Media::of_body(&headers));
        }
    }

    #[test]
    fn every_text_is_read_byte_for_byte(text in "(?s).{0,100}") {
        let body = json!({"value": text}).to_string();

        let value = parse_json(body.as_bytes()).ok().unwrap().value;
        prop_assert_eq!(value.expose_secret(), text.as_bytes());
    }
}
