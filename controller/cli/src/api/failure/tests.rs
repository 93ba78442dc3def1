//! What is made of refusals.

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
#[case(
    Action::ReadVersion(name("a"), 9),
    404,
    "`watchword secret versions a` shows which are kept"
)]
#[case(
    Action::Update(name("a")),
    412,
    "somebody was faster: look with `watchword secret versions a`"
)]
#[case(
    Action::Seal("default".parse().unwrap()),
    403,
    "ask for the right that `kubectl auth can-i seal /secrets/v1/store/default` checks"
)]
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
