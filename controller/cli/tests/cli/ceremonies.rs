//! `watchword store …`: opening and closing a store, changing its keys, copying it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::{
    fake_store::FakeStore,
    seal::{NONCE, Seal},
    watchword::{Person, Said},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(said: &Said) -> Value {
    serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

fn sealed_store() -> FakeStore {
    let store = FakeStore::start();
    store.state().sealed = true;
    store
}

/// A new store, and Ann who initialised it with a key pair of her own making.
fn initialised() -> (FakeStore, Person) {
    let store = FakeStore::start();
    store.state().seal = Seal::none();
    let ann = Person::at(&store);
    let key = ann.path("key.asc");

    let said = ann.runs(&["store", "init", "--private-key-out", text(&key)]);

    assert_eq!(said.status, 0, "{said:?}");
    (store, ann)
}

#[test]
fn a_key_made_here_opens_the_store_and_never_travels() {
    let (store, ann) = initialised();
    let key = ann.path("key.asc");

    let sealed = store.state().sealed;
    let unsealed = ann.runs(&["store", "unseal", "--pgp-private-key", text(&key)]);

    assert!(sealed, "a new store is sealed");
    assert_eq!(unsealed.status, 0, "{unsealed:?}");
    assert_eq!(unsealed.stderr, "unsealed store `default`\n");
    assert!(!store.state().sealed);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let sent: Vec<u8> =
        store.state().requests.iter().flat_map(|asked| asked.body.clone()).collect();
    assert!(!String::from_utf8_lossy(&sent).contains("PRIVATE"));
}

#[test]
fn a_store_is_initialised_once_and_the_unused_key_is_removed() {
    let (_store, ann) = initialised();
    let key = ann.path("second.asc");

    let again = ann.runs(&["store", "init", "--private-key-out", text(&key)]);

    assert_eq!(again.status, 1);
    assert!(
        again.stderr.contains(
            "error: cannot initialise store `default`: the store is already initialised\n\n\
             hint: change its shares with `watchword store rekey`\n"
        ),
        "{again:?}"
    );
    assert!(!key.exists(), "nothing is encrypted to it");
}

#[test]
fn a_private_key_is_never_written_over() {
    let store = FakeStore::start();
    store.state().seal = Seal::none();
    let ann = Person::at(&store);
    let file = ann.file("key.asc", b"mine");

    let said = ann.runs(&["store", "init", "--private-key-out", text(&file)]);

    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("hint: name a file that is not there yet"), "{said:?}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(store.state().requests.is_empty());
}

#[test]
fn each_holder_gets_a_file_and_opens_it_with_the_key_alone() {
    let (store, ann) = initialised();
    let (key, folder) = (ann.path("key.asc"), ann.path("shares"));

    let shares = ann.runs(&["store", "shares", "--shares-out", text(&folder)]);
    let again = ann.runs(&["store", "shares", "-j"]);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    store.state().requests.clear();
    let words = ["store", "unseal", "--pgp-private-key", text(&key), "--encrypted-share"];
    let unsealed = ann.runs(&[&words[..], &[text(&files[0])]].concat());

    assert_eq!(shares.status, 0, "{shares:?}");
    assert_eq!(json(&again)["keys"].as_array().unwrap().len(), 1);
    assert_eq!(unsealed.status, 0, "{unsealed:?}");
    let targets: Vec<_> = store.state().requests.iter().map(|asked| asked.target.clone()).collect();
    assert!(!targets.iter().any(|target| target.contains("/init/")), "{targets:?}");
}

#[test]
fn numbers_that_no_store_takes_are_usage_errors_in_its_own_words() {
    let store = FakeStore::start();
    store.state().seal = Seal::none();
    let ann = Person::at(&store);
    let key = ann.path("key.asc");
    let words = ["store", "init", "--private-key-out", text(&key)];

    for (flags, expected) in [
        (&["--shares", "0", "--threshold", "1"][..], "shares must be at least one"),
        (&["--shares", "3", "--threshold", "1"], "threshold must be greater than one"),
        (&["--shares", "2", "--threshold", "3"], "threshold cannot be larger than shares"),
        (
            &["--shares", "3", "--threshold", "2"],
            "count mismatch between number of provided PGP keys",
        ),
        (&["--shares", "3"], "say with --threshold how many"),
    ] {
        let said = ann.runs(&[&words[..], flags].concat());
        assert_eq!(said.status, 2, "{said:?}");
        assert!(said.stderr.contains(expected), "{said:?}");
    }
    assert!(!key.exists());
    assert!(store.state().requests.is_empty());
}

#[test]
fn shares_are_counted_until_the_store_opens() {
    let store = sealed_store();
    let ann = Person::at(&store);
    let shares = store.state().seal.plain.clone();

    let first = ann.pipes(shares[0].as_bytes(), &["store", "unseal"]);
    let again = ann.pipes(format!("{}\n", shares[0]).as_bytes(), &["store", "unseal"]);
    let file = ann.file("share", shares[2].to_uppercase().as_bytes());
    let second = ann.runs(&["store", "unseal", "-j", "--share-file", text(&file)]);

    assert_eq!(first.stderr, "1 of 2 shares are given\n");
    assert_eq!(again.stderr, "this share was given before: 1 of 2 shares are given\n");
    assert!(String::from_utf8_lossy(&first.stdout).contains("progress:  1 of 2\n"), "{first:?}");
    assert_eq!(second.stderr, "unsealed store `default`\n");
    assert_eq!(json(&second), json!({"sealed": false, "threshold": 2, "shares": 3, "progress": 0}));
}

#[test]
fn wrong_shares_are_said_to_be_wrong() {
    let store = sealed_store();
    let ann = Person::at(&store);

    ann.pipes("44".repeat(33).as_bytes(), &["store", "unseal"]);
    let said = ann.pipes("55".repeat(33).as_bytes(), &["store", "unseal"]);

    assert_eq!(said.status, 1);
    assert_eq!(
        said.stderr,
        "error: the shares that were given do not open the store: begin again\n"
    );
}

#[test]
fn given_shares_can_be_forgotten() {
    let store = sealed_store();
    let ann = Person::at(&store);
    let share = store.state().seal.plain[0].clone();

    ann.pipes(share.as_bytes(), &["store", "unseal"]);
    let reset = ann.runs(&["store", "unseal", "--reset", "-j"]);

    assert_eq!(json(&reset)["progress"], 0);
}

#[test]
fn a_share_in_the_arguments_is_taken_with_a_warning() {
    let store = sealed_store();
    let ann = Person::at(&store);
    let share = store.state().seal.plain[0].clone();

    let said = ann.runs(&["store", "unseal", &share]);

    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.stderr.starts_with("warning: a share on the command line stands in"), "{said:?}");
}

#[test]
fn what_is_no_share_is_neither_sent_nor_repeated() {
    let store = sealed_store();
    let ann = Person::at(&store);

    let said = ann.pipes(b"canary-81f2", &["store", "unseal"]);
    let typed = ann.runs(&["store", "unseal", "canary-81f2", "canary-81f3"]);

    assert_eq!((said.status, typed.status), (1, 2));
    assert!(said.stderr.contains("that is no share of a root key"), "{said:?}");
    assert!(!said.stderr.contains("canary"), "{said:?}");
    assert!(!typed.stderr.contains("canary"), "{typed:?}");
    assert!(store.state().requests.iter().all(|asked| asked.method != http::Method::PUT));
}

#[test]
fn a_key_that_is_not_a_holders_says_whose_shares_there_are() {
    let (store, ann) = initialised();
    let key = ann.path("key.asc");
    store.state().seal.fingerprints = vec!["0123456789abcdef".to_owned()];

    let said = ann.runs(&["store", "unseal", "--pgp-private-key", text(&key)]);

    assert_eq!(said.status, 1);
    assert!(
        said.stderr.ends_with("the store's shares are encrypted to 0123456789abcdef\n"),
        "{said:?}"
    );
}

#[test]
fn the_store_may_open_itself() {
    let store = sealed_store();

    let said = Person::at(&store).runs(&["store", "unseal", "--auto", "-j"]);

    assert_eq!(json(&said)["sealed"], false);
}

#[test]
fn a_change_of_shares_is_begun_agreed_to_and_done() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let shares = store.state().seal.plain.clone();
    let key = ann.path("new.asc");

    let begun = ann.runs(&["store", "rekey", "--private-key-out", text(&key), "-j"]);
    let other = ann.pipes(shares[0].as_bytes(), &["store", "rekey", "--nonce", "another"]);
    let first = ann.pipes(shares[0].as_bytes(), &["store", "rekey", "--nonce", NONCE]);
    let status = ann.runs(&["store", "rekey", "--status", "-j"]);
    let second = ann.pipes(shares[1].as_bytes(), &["store", "rekey", "--nonce", NONCE, "-j"]);

    assert_eq!(json(&begun)["nonce"], NONCE);
    assert_eq!(other.status, 1);
    assert!(other.stderr.contains("is another one: "), "{other:?}");
    assert!(!other.stderr.contains(NONCE), "{other:?}");
    assert_eq!(first.status, 0, "{first:?}");
    assert!(first.stderr.contains("any 1 of 1 shares will open the store"), "{first:?}");
    let holder = json(&begun)["pgp_fingerprints"][0].as_str().unwrap().to_owned();
    assert!(first.stderr.contains(&format!("\n  {holder}\n")), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("progress:  1 of 2\n"), "{first:?}");
    assert_eq!(json(&status)["progress"], 1);
    let done = json(&second);
    assert_eq!(done["complete"], true);
    assert_eq!(done["keys"].as_array().unwrap().len(), 1);
    // The new share opens with the new key.
    store.state().sealed = true;
    let unsealed = ann.runs(&["store", "unseal", "--pgp-private-key", text(&key)]);
    assert_eq!(unsealed.status, 0, "{unsealed:?}");
}

#[test]
fn a_change_of_shares_can_be_given_up() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let key = ann.path("new.asc");
    ann.runs(&["store", "rekey", "--private-key-out", text(&key)]);

    let others = ann.runs(&["store", "rekey", "--cancel", "--nonce", "another"]);
    let cancelled = ann.runs(&["store", "rekey", "--cancel"]);
    let status = ann.runs(&["store", "rekey", "--status"]);

    assert_eq!(others.status, 1, "{others:?}");
    assert_eq!(cancelled.stderr, "cancelled; the shares stay as they were\n");
    assert_eq!(status.stdout, b"rekey:     none is under way\n");
}

#[test]
fn a_rotation_is_waited_for() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let state = |running, done| {
        json!({"term": 2, "terms": [{"term": 1, "created": 0}, {"term": 2, "created": 0}],
            "rewrap": {"running": running, "done": done, "total": 7}, "error": null})
    };
    store.state().seal.rotations = vec![state(true, 0), state(true, 3), state(false, 7)];

    let said = ann.runs(&["store", "rotate", "--retire", "--wait"]);

    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "term:      2\nterms:     1, 2\nrewrapped: 7 of 7\n"
    );
    let asked = store.state().requests[0].clone();
    assert_eq!(asked.body, br#"{"retire":true}"#);
}

#[test]
fn a_rotation_is_waited_for_over_one_connection_after_another() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let state = |running, done| json!({"term": 2, "terms": [], "rewrap": {"running": running, "done": done, "total": 7}});
    let mut stopped = state(true, 3);
    stopped["error"] = json!("the record does not open");
    store.state().hangs_up = true;
    store.state().seal.rotations =
        vec![state(true, 0), json!(null), stopped.clone(), stopped, state(false, 7)];

    let said = ann.runs(&["store", "rotate", "--wait"]);

    assert_eq!(said.status, 0, "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).ends_with("rewrapped: 7 of 7\n"), "{said:?}");
    let asked: Vec<_> = store.state().requests.iter().map(|one| one.method.clone()).collect();
    assert_eq!(asked, ["PUT", "GET", "GET", "GET", "GET"]);
    let told = said.stderr.matches("not done yet: the record does not open\n");
    assert_eq!(told.count(), 1, "{said:?}");
}

#[test]
fn a_rotation_that_stops_fails() {
    let store = FakeStore::start();
    let ann = Person::at(&store);
    let state = json!({"term": 2, "terms": [], "rewrap": {"running": false, "done": 1, "total": 7},
        "error": "the back end failed"});
    store.state().seal.rotations = vec![state];

    let said = ann.runs(&["store", "rotate", "--wait"]);

    assert_eq!(said.status, 1);
    assert!(
        said.stderr.ends_with("error: the rotation is not done: the back end failed\n"),
        "{said:?}"
    );
}
