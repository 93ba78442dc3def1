//! The wire format, as literals: an accidental change of a name or of a shape fails here.

#![allow(clippy::unwrap_used)] // tests; clippy.toml does not reach helpers of integration tests

use rstest::rstest;
use serde_json::{Value, json};

use watchword_protocol::{
    CheckAnswer, CheckRequest, CheckedReference, ContainerFiles, EnvSecret, ErrorAnswer, ErrorCode,
    FilePlan, FileSecret, PlannedFile, ResolveAnswer, ResolveRequest, SecretBytes, VERSION, Want,
    audience,
};

#[test]
fn a_resolve_request_looks_like_this() {
    let request = ResolveRequest {
        version: VERSION,
        container: "web".to_owned(),
        want: vec![Want::Env, Want::Files, Want::Uris],
    };

    let text = serde_json::to_string(&request).unwrap();

    assert_eq!(text, r#"{"version":1,"container":"web","want":["env","files","uris"]}"#);
    assert_eq!(serde_json::from_str::<ResolveRequest>(&text).unwrap(), request);
}

#[test]
fn a_resolve_answer_looks_like_this() {
    let answer = ResolveAnswer {
        env: vec![EnvSecret {
            name: "DB_PASSWORD".to_owned(),
            value: SecretBytes::new(b"hunter2\n".to_vec()),
        }],
        files: vec![FileSecret {
            name: "0".to_owned(),
            value: SecretBytes::new(vec![0, 255, 254]),
        }],
    };

    let text = serde_json::to_string(&answer).unwrap();

    let expected = r#"{"env":[{"name":"DB_PASSWORD","value":"aHVudGVyMgo="}],"files":[{"name":"0","value":"AP/+"}]}"#;
    assert_eq!(text, expected);
    let read: ResolveAnswer = serde_json::from_str(&text).unwrap();
    assert_eq!(read.env[0].value.expose_secret(), b"hunter2\n");
    assert_eq!(read.files[0].value.expose_secret(), [0, 255, 254]);
}

#[test]
fn an_error_answer_looks_like_this() {
    let answer = ErrorAnswer {
        code: ErrorCode::NotFound,
        message: "no secret `shop/db`".to_owned(),
        reference: Some("shop/db".to_owned()),
    };

    let text = serde_json::to_string(&answer).unwrap();

    let expected = r#"{"code":"not_found","message":"no secret `shop/db`","reference":"shop/db"}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<ErrorAnswer>(&text).unwrap(), answer);
}

#[test]
fn a_check_looks_like_this() {
    let request = CheckRequest {
        version: VERSION,
        namespace: "shop".to_owned(),
        revision: "web-5f2c".to_owned(),
    };
    let answer = CheckAnswer {
        references: vec![
            CheckedReference {
                name: "shop/db".to_owned(),
                key: Some("password".to_owned()),
                resolver: "store".to_owned(),
                version: Some(3),
                error: None,
            },
            CheckedReference {
                name: "bank/db".to_owned(),
                key: None,
                resolver: "store".to_owned(),
                version: None,
                error: Some(ErrorAnswer {
                    code: ErrorCode::Denied,
                    message: "not in the space of `/shop/web`".to_owned(),
                    reference: None,
                }),
            },
        ],
    };

    let asked = serde_json::to_string(&request).unwrap();
    let answered = serde_json::to_string(&answer).unwrap();

    assert_eq!(asked, r#"{"version":1,"namespace":"shop","revision":"web-5f2c"}"#);
    assert_eq!(
        answered,
        concat!(
            r#"{"references":[{"name":"shop/db","key":"password","resolver":"store","version":3},"#,
            r#"{"name":"bank/db","resolver":"store","#,
            r#""error":{"code":"denied","message":"not in the space of `/shop/web`"}}]}"#
        )
    );
    assert_eq!(serde_json::from_str::<CheckRequest>(&asked).unwrap(), request);
    assert_eq!(serde_json::from_str::<CheckAnswer>(&answered).unwrap(), answer);
}

#[test]
fn a_file_plan_looks_like_this() {
    let plan = FilePlan {
        containers: vec![ContainerFiles {
            container: "web".to_owned(),
            token: "/var/run/watchword/0/token".to_owned(),
            directory: "/watchword-files/0".to_owned(),
            files: vec![
                PlannedFile { name: "0".to_owned(), mode: 0o400, sandbox_path: None },
                PlannedFile {
                    name: "1".to_owned(),
                    mode: 0o600,
                    sandbox_path: Some("etc/tls.key".to_owned()),
                },
            ],
            sandbox: Some("/watchword-sandbox/0".to_owned()),
        }],
    };

    let text = serde_json::to_string(&plan).unwrap();

    assert_eq!(
        text,
        concat!(
            r#"{"containers":[{"container":"web","token":"/var/run/watchword/0/token","#,
            r#""directory":"/watchword-files/0","files":[{"name":"0","mode":256},"#,
            r#"{"name":"1","mode":384,"sandbox_path":"etc/tls.key"}],"#,
            r#""sandbox":"/watchword-sandbox/0"}]}"#
        )
    );
    assert_eq!(serde_json::from_str::<FilePlan>(&text).unwrap(), plan);
}

#[rstest]
#[case::resolve(json!({"version": 1, "container": "web", "want": [], "names": ["shop/db"]}))]
#[case::check(json!({"version": 1, "namespace": "shop", "revision": "web-1", "value": true}))]
#[case::plan(json!({"containers": [], "owner": 0}))]
fn a_request_with_an_unknown_field_is_refused(#[case] body: Value) {
    let resolve = serde_json::from_value::<ResolveRequest>(body.clone()).map(drop);
    let check = serde_json::from_value::<CheckRequest>(body.clone()).map(drop);
    let plan = serde_json::from_value::<FilePlan>(body).map(drop);

    let errors = [resolve, check, plan].map(|result| result.unwrap_err().to_string());
    assert!(errors.iter().all(|error| error.contains("unknown field")), "{errors:?}");
}

#[test]
fn an_unknown_kind_of_secrets_is_refused() {
    let body = json!({"version": 1, "container": "web", "want": ["args"]});

    assert!(serde_json::from_value::<ResolveRequest>(body).is_err());
}

#[test]
fn an_answer_may_say_more_than_this_version_knows() {
    let answer: ResolveAnswer =
        serde_json::from_value(json!({"env": [], "lease_seconds": 60})).map_err(drop).unwrap();
    let error: ErrorAnswer =
        serde_json::from_value(json!({"code": "throttled", "message": "later", "after": 3}))
            .unwrap();

    assert!(answer.files.is_empty());
    assert_eq!(error.code, ErrorCode::Internal);
}

#[rstest]
#[case(ErrorCode::AlreadyExists, "\"already_exists\"", 409, true)]
#[case(ErrorCode::BadRequest, "\"bad_request\"", 400, true)]
#[case(ErrorCode::Conflict, "\"conflict\"", 409, false)]
#[case(ErrorCode::Denied, "\"denied\"", 403, true)]
#[case(ErrorCode::Internal, "\"internal\"", 500, false)]
#[case(ErrorCode::Invalid, "\"invalid\"", 422, true)]
#[case(ErrorCode::MethodNotAllowed, "\"method_not_allowed\"", 405, true)]
#[case(ErrorCode::NotFound, "\"not_found\"", 404, true)]
#[case(ErrorCode::PreconditionFailed, "\"precondition_failed\"", 412, true)]
#[case(ErrorCode::Sealed, "\"sealed\"", 503, false)]
#[case(ErrorCode::Timeout, "\"timeout\"", 408, false)]
#[case(ErrorCode::TooLarge, "\"too_large\"", 413, true)]
#[case(ErrorCode::TooManyRequests, "\"too_many_requests\"", 429, false)]
#[case(ErrorCode::Unauthenticated, "\"unauthenticated\"", 401, false)]
#[case(ErrorCode::Unavailable, "\"unavailable\"", 503, false)]
fn codes_have_a_name_a_status_and_a_verdict(
    #[case] code: ErrorCode,
    #[case] text: &str,
    #[case] status: u16,
    #[case] is_final: bool,
) {
    assert_eq!(serde_json::to_string(&code).unwrap(), text);
    assert_eq!(serde_json::from_str::<ErrorCode>(text).unwrap(), code);
    assert_eq!(code.http_status(), status);
    assert_eq!(code.is_final(), is_final);
}

#[test]
fn audiences_name_the_container() {
    assert_eq!(audience("web"), "watchword:web");
}
