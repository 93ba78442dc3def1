//! Whom the program trusts: one authority and one name, and nothing is said before.

use crate::{fake_store::FakeStore, watchword::Person};

#[test]
fn a_store_of_another_authority_hears_nothing() {
    let (store, other) = (FakeStore::start(), FakeStore::start());
    let address = format!("https://localhost:{}", store.address.port());
    let ann = Person::who_trusts(&other.authority, &address);

    let said = ann.runs(&["secret", "create", "a", "--value", "x"]);

    assert_eq!(said.status, 1);
    assert!(
        said.stderr.starts_with("error: cannot trust what answers as `localhost`: "),
        "{said:?}"
    );
    assert!(store.state().requests.is_empty());
}

#[test]
fn a_store_of_another_name_hears_nothing() {
    let store = FakeStore::start_as("elsewhere");
    let ann = Person::at(&store);

    let said = ann.runs(&["secret", "get", "a"]);

    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("cannot trust what answers as `localhost`"), "{said:?}");
    assert!(store.state().requests.is_empty());
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let store = FakeStore::start();
    let ann = Person::who_trusts(&store.authority, "https://localhost:1");

    let said = ann.runs(&["store", "status"]);

    assert_eq!(said.status, 1);
    assert!(said.stderr.starts_with("error: cannot connect to localhost:1: "), "{said:?}");
}

#[test]
fn no_token_is_said_before_anything_is_connected() {
    let store = FakeStore::start();
    let ann = Person::without_a_store();
    let authority = ann.file("ca.crt", store.authority.as_bytes());
    let address = format!("https://localhost:{}", store.address.port());
    let words =
        ["store", "status", "--address", &address, "--ca-file", authority.to_str().unwrap()];

    let said = ann.runs(&words);

    assert_eq!(said.status, 1);
    assert_eq!(
        said.stderr,
        "error: there is no token to show at this address\n\n\
         hint: set WATCHWORD_TOKEN or give --token-file\n"
    );
}

#[test]
fn what_speaks_no_tls_is_told_from_what_is_not_trusted() {
    let store = FakeStore::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || listener.accept().map(drop));
    let ann = Person::who_trusts(&store.authority, &address);

    let said = ann.runs(&["store", "status"]);

    assert_eq!(said.status, 1);
    let expected = "error: cannot begin TLS 1.3 with what answers as `localhost`: ";
    assert!(said.stderr.starts_with(expected), "{said:?}");
}
