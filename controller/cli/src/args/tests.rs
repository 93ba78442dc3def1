//! What is taken, what is refused, and what `--help` says about it.

use rstest::rstest;

use super::*;
use crate::{connect::Target, value::ValueSource};

fn parse(line: &str) -> Result<Command, clap::Error> {
    read(line.split(' ').map(OsString::from))
}

fn refused(line: &str) -> clap::Error {
    parse(line).err().unwrap_or_else(|| panic!("`{line}` was taken"))
}

fn reach_of(line: &str) -> ReachArgs {
    match parse(line) {
        Ok(Command::Secret(args)) => args.reach,
        Ok(_) => panic!("`{line}` is another command"),
        Err(error) => panic!("{error}"),
    }
}

#[rstest]
#[case("watchword secret create shop/db --value x")]
#[case("watchword secret create -v x shop/db")]
#[case("watchword secret create /shop/db -t file")]
#[case("watchword secret create shop/db --value-file file")]
#[case("watchword secret create shop/db --text-file -")]
#[case("watchword secret update -s default shop/db -f -")]
#[case("watchword secret update shop/db -f - --if-version 3")]
#[case("watchword secret update shop/db --file file --store-id=default")]
#[case("watchword secret get -j -s default shop/db")]
#[case("watchword secret get shop/db --version 2 --output json")]
#[case("watchword secret rollback shop/db 2 --if-version 3")]
#[case("watchword secret list")]
#[case("watchword secret list /")]
#[case("watchword secret list shop/ --json")]
#[case("watchword secret delete shop/db")]
#[case("watchword secret delete shop/db --if-version=3")]
#[case("watchword secret versions shop/db -j")]
#[case("watchword secrets get shop/db")]
#[case("watchword secret get shop/db --namespace apps")]
#[case("watchword store status")]
#[case("watchword store seal-status -j")]
#[case("watchword store seal")]
#[case("watchword store init --threshold 2 --pgp-key a --pgp-key b --pgp-key c")]
#[case("watchword store init --threshold 2 --pgp-key a b c --shares-out dir -j")]
#[case("watchword store init --private-key-out key --shares 1 --threshold 1")]
#[case("watchword store shares --shares-out dir")]
#[case("watchword store unseal")]
#[case("watchword store unseal 0123")]
#[case("watchword store unseal --share-file -")]
#[case("watchword store unseal --gpg --encrypted-share share.pgp")]
#[case("watchword store unseal --pgp-private-key key --passphrase-file file -j")]
#[case("watchword store unseal --reset")]
#[case("watchword store unseal --auto")]
#[case("watchword store rekey --private-key-out key --share-file -")]
#[case("watchword store rekey --nonce n --gpg")]
#[case("watchword store rekey --status --output json")]
#[case("watchword store rekey --cancel")]
#[case("watchword store rotate --retire --wait")]
#[case("watchword store rotate --status")]
#[case("watchword store backup -f -")]
#[case("watchword store restore --file store.backup")]
#[case("watchword store migrate --from kubernetes --to file:a")]
#[case("watchword store migrate --from file:a --to zookeeper://zk:2181/ww --force")]
#[case("watchword store show -s default --output json")]
#[case("watchword validate a.yaml b.yaml -n apps")]
#[case("watchword completions zsh")]
#[case("watchword version -o json")]
#[case("/usr/local/bin/kubectl-watchword secret get shop/db")]
fn these_are_taken(#[case] line: &str) {
    if let Err(error) = parse(line) {
        panic!("{error}");
    }
}

#[rstest]
#[case("watchword")]
#[case("watchword secret")]
#[case("watchword secret create shop/db")]
#[case("watchword secret create shop/db -v x -f y")]
#[case("watchword secret create shop/db -t x -f y")]
#[case("watchword secret create --value x")]
#[case("watchword secret get shop//db")]
#[case("watchword secret get shop/../db")]
#[case("watchword secret get shop/db/")]
#[case("watchword secret get shop%2Fdb")]
#[case("watchword secret get shop/db -s a/b")]
#[case("watchword secret get shop/db -n apps")]
#[case("watchword secret get shop/db --version x")]
#[case("watchword secret get shop/db --output yaml")]
#[case("watchword secret rollback shop/db")]
#[case("watchword secret get shop/db --address http://store")]
#[case("watchword store init --pgp-key a --private-key-out b")]
#[case("watchword store unseal 0123 --gpg")]
#[case("watchword store unseal --reset --gpg")]
#[case("watchword store unseal --gpg --pgp-private-key key")]
#[case("watchword store unseal --passphrase-file file")]
#[case("watchword store rekey --cancel --status")]
#[case("watchword store rekey --nonce n --pgp-key a")]
#[case("watchword store rotate --status --retire")]
#[case("watchword store backup")]
#[case("watchword store migrate --from nowhere --to file:a")]
#[case("watchword validate")]
#[case("watchword version -o yaml")]
#[case("watchword completions tcl")]
fn these_are_usage_errors(#[case] line: &str) {
    assert_eq!(refused(line).exit_code(), 2, "{line}");
}

#[test]
fn clap_finds_nothing_wrong() {
    command().debug_assert();
}

#[test]
fn a_value_may_begin_with_a_dash() {
    let Ok(Command::Secret(args)) = parse("watchword secret create shop/db -v -x") else {
        panic!()
    };
    let SecretCommand::Create { value, .. } = args.command else { panic!() };

    assert!(matches!(value.source(), ValueSource::Argument(text) if text == "-x"));
}

#[rstest]
#[case("watchword secret create shop/db hunter2")]
#[case("watchword secret create shop/db -v x hunter2")]
#[case("watchword secret update shop/db --hunter2")]
#[case("kubectl-watchword secret update shop/db -f x -- hunter2")]
#[case("watchword store unseal 00 hunter2")]
#[case("watchword store rekey hunter2")]
fn a_value_in_the_wrong_place_is_not_repeated(#[case] line: &str) {
    let said = refused(line).to_string();

    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("--text-file"), "{said}");
}

#[test]
fn a_misspelt_flag_is_repeated() {
    let said = refused("watchword secret create shop/db --valeu=hunter2").to_string();

    assert!(said.contains("--valeu") && said.contains("--value"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[rstest]
#[case("watchword secret --context test --system-namespace ns get a")]
#[case("watchword secret get a --context test --system-namespace ns")]
#[case("watchword secret --context test get a --system-namespace ns")]
fn flags_of_the_way_stand_anywhere(#[case] line: &str) {
    let expected = Target::Cluster {
        context: Some("test".to_owned()),
        kubeconfig: None,
        system_namespace: "ns".to_owned(),
    };

    assert_eq!(reach_of(line).target().unwrap(), expected);
}

#[rstest]
#[case("watchword secret --address https://store --ca-file ca get a")]
#[case("watchword secret --address https://store get a --ca-file ca")]
fn an_address_comes_with_an_authority(#[case] line: &str) {
    let expected = Target::Address {
        address: "https://store:443".parse().unwrap(),
        ca_file: "ca".into(),
        token_file: None,
    };

    assert_eq!(reach_of(line).target().unwrap(), expected);
}

#[rstest]
#[case("--address https://store", "--address needs --ca-file")]
#[case("--ca-file ca", "--ca-file goes with --address")]
#[case("--token-file token", "--token-file goes with --address")]
#[case("--address https://store --ca-file ca --context c", "uses no kubeconfig")]
fn flags_that_do_not_go_together_are_usage_errors(#[case] flags: &str, #[case] expected: &str) {
    let Err(error) = reach_of(&format!("watchword secret get a {flags}")).target() else {
        panic!("`{flags}` was taken")
    };

    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[rstest]
#[case("watchword", "watchword secret get <PATH>")]
#[case("/opt/bin/kubectl-watchword", "kubectl watchword secret get")]
fn usage_says_the_name_that_was_called(#[case] program: &str, #[case] expected: &str) {
    let said = refused(&format!("{program} secret get a b")).to_string();

    assert!(said.contains(expected.trim_end_matches(" <PATH>")), "{said}");
}

#[rstest]
#[case("watchword", &[])]
#[case("audit", &["audit"])]
#[case("audit_public_key", &["audit", "public-key"])]
#[case("audit_verify", &["audit", "verify"])]
#[case("secret", &["secret"])]
#[case("secret_create", &["secret", "create"])]
#[case("secret_delete", &["secret", "delete"])]
#[case("secret_get", &["secret", "get"])]
#[case("secret_list", &["secret", "list"])]
#[case("secret_rollback", &["secret", "rollback"])]
#[case("secret_update", &["secret", "update"])]
#[case("secret_versions", &["secret", "versions"])]
#[case("store", &["store"])]
#[case("store_backup", &["store", "backup"])]
#[case("store_init", &["store", "init"])]
#[case("store_migrate", &["store", "migrate"])]
#[case("store_rekey", &["store", "rekey"])]
#[case("store_restore", &["store", "restore"])]
#[case("store_rotate", &["store", "rotate"])]
#[case("store_seal", &["store", "seal"])]
#[case("store_shares", &["store", "shares"])]
#[case("store_unseal", &["store", "unseal"])]
#[case("store_show", &["store", "show"])]
#[case("store_status", &["store", "status"])]
#[case("store_verify", &["store", "verify"])]
#[case("validate", &["validate"])]
#[case("completions", &["completions"])]
#[case("version", &["version"])]
fn help_is_as_it_was_reviewed(#[case] name: &str, #[case] words: &[&str]) {
    let mut command = command().bin_name("watchword").term_width(100);
    let words = ["watchword"].iter().chain(words).chain(&["--help"]);

    let error = command.try_get_matches_from_mut(words).unwrap_err();

    insta::assert_snapshot!(format!("help_{name}"), error.to_string());
}
