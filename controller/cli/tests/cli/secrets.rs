//! `watchword secret` and `watchword store` against a store.

use std::{io::Read, process::Stdio};

use http::{Method, header};

use crate::{
    fake_store::FakeStore,
    watchword::{Person, TOKEN},
};

const LONGEST: usize = 1024 * 1024 - 1024;

#[test]
fn bytes_come_back_as_they_went() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let value: Vec<u8> = (0..=255).chain(*b"\r\n\n").collect();
    let file = ann.file("value", &value);

    let created = ann.runs(&["secret", "create", "shop/db", "--file", file.to_str().unwrap()]);
    let got = ann.runs(&["secret", "get", "/shop/db"]);

    assert_eq!((created.status, created.stdout.as_slice()), (0, &b""[..]));
    assert_eq!(created.stderr, "created `shop/db`\n");
    assert_eq!((got.status, got.stderr.as_str()), (0, ""));
    assert_eq!(got.stdout, value);
}

#[test]
fn the_request_says_who_and_what() {
    let store = FakeStore::start();

    Person::at(&store).pipes(b"\xff", &["secret", "create", "shop/db", "-f", "-"]);

    let asked = store.only_request();
    assert_eq!(asked.method, Method::PUT);
    assert_eq!(asked.target, "/secrets/v1/secret/default/shop/db");
    assert_eq!(asked.header(header::AUTHORIZATION), format!("Bearer {TOKEN}"));
    assert_eq!(asked.header(header::HOST), format!("localhost:{}", store.address.port()));
    assert_eq!(asked.header(header::CONTENT_TYPE), "application/octet-stream");
    assert_eq!(asked.header(header::CONTENT_LENGTH), "1");
    assert_eq!(asked.body, b"\xff");
}

#[test]
fn text_goes_as_json_and_stays_what_it_was() {
    let store = FakeStore::start();
    let ann = Person::at(&store);

    let created = ann.pipes(b"a \"quoted\"\n\x01 line\n", &["secret", "create", "a", "-t", "-"]);

    assert_eq!(created.status, 0, "{created:?}");
    assert_eq!(store.only_request().header(header::CONTENT_TYPE), "application/json");
    assert_eq!(store.value("a").unwrap(), b"a \"quoted\"\n\x01 line\n");
}

#[test]
fn an_empty_value_is_a_value() {
    let store = FakeStore::start();
    let ann = Person::at(&store);

    let created = ann.runs(&["secret", "create", "a", "--file", "-"]);
    let got = ann.runs(&["secret", "get", "a"]);

    assert_eq!((created.status, got.status), (0, 0), "{created:?} {got:?}");
    assert_eq!(store.value("a").unwrap(), b"");
    assert_eq!(got.stdout, b"");
}

#[test]
fn the_token_may_come_from_the_environment() {
    let store = FakeStore::start();
    let ann = Person::without_a_store();
    let authority = ann.file("ca.crt", store.authority.as_bytes());
    let address = format!("https://localhost:{}", store.address.port());
    store.hold("a", b"x");

    let output = ann
        .command(&["secret", "get", "a", "--address", &address, "--ca-file"])
        .arg(authority)
        .env("WATCHWORD_TOKEN", "from-the-environment")
        .output()
        .unwrap();

    assert_eq!(output.stdout, b"x");
    assert_eq!(store.only_request().header(header::AUTHORIZATION), "Bearer from-the-environment");
}

#[test]
fn an_update_makes_a_version() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("shop/db", b"old");

    let updated = ann.runs(&["secret", "update", "shop/db", "-v", "new"]);
    let versions = ann.runs(&["secret", "versions", "shop/db", "-j"]);
    let got = ann.runs(&["secret", "get", "shop/db", "--json"]);

    assert_eq!(updated.stderr, "updated `shop/db`\n");
    let versions: serde_json::Value = serde_json::from_slice(&versions.stdout).unwrap();
    assert_eq!(versions[1]["version"], 2);
    assert_eq!(versions[1]["author"], "ann");
    let got: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(got, serde_json::json!({"path": "shop/db", "version": 2, "value": "new"}));
}

#[test]
fn an_old_version_is_read_and_comes_back() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("shop/db", b"old");
    store.hold("shop/db", b"new");

    let old = ann.runs(&["secret", "get", "shop/db", "--version", "1"]);
    let none = ann.runs(&["secret", "get", "shop/db", "--version", "7"]);
    let rolled = ann.runs(&["secret", "rollback", "shop/db", "1"]);
    let got = ann.runs(&["secret", "get", "shop/db", "--output", "json"]);

    assert_eq!(old.stdout, b"old");
    assert_eq!(none.status, 1);
    assert_eq!(
        none.stderr,
        "error: cannot read version 7 of `shop/db`: there is no such secret\n\n\
         hint: `watchword secret versions shop/db` shows which are kept\n"
    );
    assert_eq!(rolled.stderr, "rolled `shop/db` back to version 1, now version 3\n");
    let got: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(got, serde_json::json!({"path": "shop/db", "version": 3, "value": "old"}));
}

#[test]
fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("shop/db", b"first");
    store.hold("shop/db", b"second");

    let stale = ann.runs(&["secret", "update", "shop/db", "-v", "mine", "--if-version", "1"]);
    let deleted = ann.runs(&["secret", "delete", "shop/db", "--if-version", "1"]);
    let fresh = ann.runs(&["secret", "update", "shop/db", "-v", "mine", "--if-version", "2"]);

    assert_eq!((stale.status, deleted.status, fresh.status), (1, 1, 0), "{fresh:?}");
    assert_eq!(
        stale.stderr,
        "error: cannot update `shop/db`: the newest version is another\n\n\
         hint: somebody was faster: look with `watchword secret versions shop/db`\n"
    );
    assert_eq!(store.value("shop/db").unwrap(), b"mine");
}

#[test]
fn a_list_for_programs_is_names_only() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    for name in ["shop/db", "shop/api/key", "other"] {
        store.hold(name, b"x");
    }

    let all = ann.runs(&["secret", "list"]);
    let shop = ann.runs(&["secret", "list", "/shop/"]);
    let json = ann.runs(&["secret", "list", "shop", "-j"]);
    let none = ann.runs(&["secret", "list", "nothing"]);

    assert_eq!(all.stdout, b"other\nshop/api/key\nshop/db\n");
    assert_eq!(shop.stdout, b"api/key\ndb\n");
    assert_eq!(json.stdout, b"[\n  \"api/key\",\n  \"db\"\n]\n");
    assert_eq!((none.status, none.stdout.as_slice()), (0, &b""[..]));
    let targets: Vec<_> = store.state().requests.iter().map(|asked| asked.target.clone()).collect();
    assert_eq!(targets[0], "/secrets/v1/secret/default/?list=true");
    assert_eq!(targets[1], "/secrets/v1/secret/default/shop?list=true");
}

#[test]
fn a_list_that_may_lack_secrets_says_so_and_fails() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let answer = r#"{"array":["db"],"unreadable":["3f1d0c9a"]}"#;
    store.state().refusal = Some((200, answer.to_owned()));

    let list = ann.runs(&["secret", "list", "shop"]);

    assert_eq!((list.status, list.stdout.as_slice()), (1, &b"db\n"[..]));
    assert_eq!(
        list.stderr,
        "error: the list may lack secrets, because records do not open: 3f1d0c9a\n\n\
         hint: `watchword store verify` says what is wrong with them\n"
    );
}

#[test]
fn what_is_deleted_is_gone() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("a", b"x");

    let deleted = ann.runs(&["secret", "delete", "a"]);
    let got = ann.runs(&["secret", "get", "a"]);

    assert_eq!((deleted.status, deleted.stderr.as_str()), (0, "deleted `a`\n"));
    assert_eq!(got.status, 1);
    assert_eq!(
        got.stderr,
        "error: cannot read `a`: there is no such secret\n\n\
         hint: `watchword secret list` shows what is there\n"
    );
}

#[test]
fn creating_twice_is_refused_with_the_way_to_change_it() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("shop/db", b"first");

    let created = ann.runs(&["secret", "create", "shop/db", "--value", "canary-2931"]);

    assert_eq!(created.status, 1);
    assert_eq!(
        created.stderr,
        "error: cannot create `shop/db`: the secret already exists\n\n\
         hint: change it with `watchword secret update shop/db`\n"
    );
    assert_eq!(store.value("shop/db").unwrap(), b"first");
}

#[test]
fn a_sealed_store_says_so() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.state().sealed = true;

    let got = ann.runs(&["secret", "get", "shop/db"]);
    let status = ann.runs(&["store", "status"]);
    let json = ann.runs(&["store", "seal-status", "-j"]);

    assert_eq!(got.status, 1);
    assert_eq!(
        got.stderr,
        "error: cannot read `shop/db`: the store is sealed\n\nhint: open it with `watchword store \
         unseal`; `watchword store status` says how many shares it takes\n"
    );
    assert_eq!(status.status, 0);
    assert!(String::from_utf8(status.stdout).unwrap().contains("sealed:    yes"));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["sealed"], true);
}

#[test]
fn a_store_that_was_never_opened_says_how_it_begins() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let body = r#"{"code":"sealed","message":"the store is not initialised"}"#;
    store.state().refusal = Some((503, body.to_owned()));

    let got = ann.runs(&["secret", "get", "shop/db"]);

    assert_eq!(
        got.stderr,
        "error: cannot read `shop/db`: the store is not initialised\n\n\
         hint: a new store is made with `watchword store init`\n"
    );
}

#[test]
fn sealing_is_one_word() {
    let store = FakeStore::start();
    let ann = Person::at(&store);

    let sealed = ann.runs(&["store", "seal"]);

    assert_eq!((sealed.status, sealed.stderr.as_str()), (0, "sealed store `default`\n"));
    assert!(store.state().sealed);
}

#[test]
fn a_refusal_names_the_right_that_is_missing() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let body = r#"{"code":"denied","message":"Not authorized to perform that action"}"#;
    store.state().refusal = Some((403, body.to_owned()));

    let got = ann.runs(&["secret", "get", "shop/db"]);

    assert_eq!(got.status, 1);
    assert_eq!(
        got.stderr,
        "error: cannot read `shop/db`: Not authorized to perform that action\n\n\
         hint: ask for the right that `kubectl auth can-i read /secrets/v1/secret/default/shop/db` \
         checks\n"
    );
}

#[test]
fn an_answer_that_is_no_json_is_a_refusal_all_the_same() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.state().refusal = Some((502, "<html>\u{1b}[2J</html>".to_owned()));

    let got = ann.runs(&["secret", "get", "shop/db"]);

    assert_eq!(got.status, 1);
    assert_eq!(got.stderr, "error: cannot read `shop/db`: the store answered 502 Bad Gateway\n");
}

#[test]
fn the_longest_value_goes_through_and_one_byte_more_is_not_sent() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let longest = vec![b'x'; LONGEST];

    let taken = ann.pipes(&longest, &["secret", "create", "a", "--file", "-"]);
    let refused = ann.pipes(&[longest, vec![b'x']].concat(), &["secret", "create", "b", "-f", "-"]);

    assert_eq!(taken.status, 0, "{taken:?}");
    assert_eq!(store.value("a").unwrap().len(), LONGEST);
    assert_eq!(refused.status, 1);
    assert_eq!(
        refused.stderr,
        "error: cannot take the value: stdin is longer than 1047552 bytes\n\n\
         hint: that is 1 MiB less 1 KiB, and all that a secret can have\n"
    );
    assert_eq!(store.state().requests.len(), 1);
}

#[test]
fn a_value_is_never_an_echo() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("held", b"x");
    let canary = "canary-7f3a";

    for words in [
        &["secret", "create", "new", "--value", canary][..],
        &["secret", "create", "held", "--value", canary],
        &["secret", "update", "held", "--value", canary],
        &["secret", "update", "missing", "--value", canary],
        &["secret", "create", "new2", canary],
        &["secret", "create", "new2", "--file", "x", canary],
    ] {
        let said = ann.runs(words);
        assert!(!said.stderr.contains(canary), "{words:?}: {said:?}");
        assert_eq!(said.stdout, b"", "{words:?}");
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    store.hold("long", &vec![b'x'; LONGEST]);

    let mut child = ann
        .command(&["secret", "get", "long"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
