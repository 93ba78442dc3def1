//! Exit statuses and streams that need no store.

use std::fs;

use rstest::rstest;

use crate::watchword::Person;

#[rstest]
#[case(&["--help"], 0)]
#[case(&["--version"], 0)]
#[case(&["version"], 0)]
#[case(&["completions", "bash"], 0)]
#[case(&["secret", "get", "--help"], 0)]
#[case(&["secret", "get", "shop/db"], 1)]
#[case(&["secret", "create", "a", "--file", "no/such/file"], 1)]
#[case(&["validate", "no/such/file"], 1)]
#[case(&[], 2)]
#[case(&["secret"], 2)]
#[case(&["secret", "get"], 2)]
#[case(&["secret", "get", "a", "--ca-file", "x"], 2)]
#[case(&["secret", "create", "a"], 2)]
#[case(&["nothing"], 2)]
fn the_exit_status_says_what_became_of_it(#[case] words: &[&str], #[case] expected: i32) {
    let said = Person::without_a_store().runs(words);

    assert_eq!(said.status, expected, "{said:?}");
    // Data is on stdout, everything else on stderr, and never both.
    assert_eq!(said.stdout.is_empty(), expected != 0, "{said:?}");
    assert_eq!(said.stderr.is_empty(), expected == 0, "{said:?}");
}

#[test]
fn without_a_kubeconfig_it_says_what_to_set() {
    let said = Person::without_a_store().runs(&["secret", "get", "shop/db"]);

    assert!(said.stderr.starts_with("error: cannot use the kubeconfig: "), "{said:?}");
    assert!(said.stderr.contains("\n\nhint: set KUBECONFIG or give --kubeconfig"), "{said:?}");
}

#[test]
fn a_broken_kubeconfig_is_not_shown() {
    let ann = Person::without_a_store();
    let file =
        ann.file("config", b"users:\n- name: ann\n  user:\n    token: canary-55\n   bad: [\n");

    let said = ann.runs(&["secret", "get", "shop/db", "--kubeconfig", file.to_str().unwrap()]);

    assert_eq!(said.status, 1);
    assert!(
        said.stderr.starts_with("error: cannot use the kubeconfig: it is not valid: "),
        "{said:?}"
    );
    assert!(!said.stderr.contains("canary-55"), "{said:?}");
}

#[test]
fn called_as_a_plugin_it_says_so() {
    let ann = Person::without_a_store();
    let plugin = ann.file("kubectl-watchword", b"");
    fs::remove_file(&plugin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_watchword"), &plugin).unwrap();

    let output = std::process::Command::new(plugin).args(["secret", "get"]).output().unwrap();

    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Usage: kubectl watchword secret get"), "{said}");
}
