use rstest::rstest;

use super::*;

/// Share number `place` of one key, or whatever else `byte` makes it.
fn share(byte: u8, place: u8) -> Share {
    Share::parse(&format!("{}{place:02x}", format!("{byte:02x}").repeat(32))).unwrap()
}

fn progress(collector: &mut Collector, share: Share) -> u8 {
    match collector.give(share) {
        Given::Progress(progress) => progress,
        Given::Complete(_) => panic!("complete"),
    }
}

// Vault's checks, in its order: each case breaks a rule and all that follow it, where that can be.
#[rstest]
#[case(0, 0, 7, "shares must be at least one")]
#[case(-1, 5, 0, "shares must be at least one")]
#[case(i64::MIN, i64::MIN, 0, "shares must be at least one")]
#[case(300, 0, 7, "threshold must be at least one")]
#[case(300, 1, 7, "threshold must be greater than one for multiple shares")]
#[case(256, 300, 7, "shares must be less than 256")]
#[case(i64::MAX, i64::MAX, 7, "shares must be less than 256")]
#[case(255, 256, 7, "threshold must be less than 256")]
#[case(1, 2, 7, "threshold cannot be larger than shares")]
#[case(3, 4, 7, "threshold cannot be larger than shares")]
#[case(3, 2, 2, "count mismatch between number of provided PGP keys and number of shares")]
#[case(1, 1, 2, "count mismatch between number of provided PGP keys and number of shares")]
fn what_vault_refuses_is_refused_with_its_text(
    #[case] shares: i64,
    #[case] threshold: i64,
    #[case] keys: usize,
    #[case] text: &str,
) {
    assert_eq!(SealConfig::new(shares, threshold, keys).unwrap_err().to_string(), text);
}

#[rstest]
#[case(1, 1, 0)]
#[case(1, 1, 1)]
#[case(2, 2, 0)]
#[case(5, 3, 5)]
#[case(255, 255, 255)]
fn what_vault_accepts_is_accepted(#[case] shares: u8, #[case] threshold: u8, #[case] keys: usize) {
    let config = SealConfig::new(shares.into(), threshold.into(), keys).unwrap();

    assert_eq!((config.shares(), config.threshold()), (shares, threshold));
}

#[test]
fn the_collection_is_complete_at_the_threshold_and_empty_then() {
    let mut collector = Collector::new(3);

    assert_eq!(progress(&mut collector, share(1, 1)), 1);
    assert_eq!(progress(&mut collector, share(2, 2)), 2);
    let Given::Complete(key) = collector.give(share(3, 3)) else { panic!("incomplete") };

    assert!(key.is_ok());
    assert_eq!(collector.progress(), 0);
    assert_eq!(progress(&mut collector, share(1, 1)), 1);
}

#[test]
fn a_share_that_is_given_twice_counts_once() {
    let mut collector = Collector::new(2);

    assert_eq!(progress(&mut collector, share(1, 1)), 1);
    assert_eq!(progress(&mut collector, share(1, 1)), 1);
    assert!(matches!(collector.give(share(1, 2)), Given::Complete(Ok(_))));
}

#[test]
fn shares_that_do_not_fit_together_complete_with_an_error_and_are_forgotten() {
    let mut collector = Collector::new(2);
    collector.give(share(1, 9));

    let Given::Complete(Err(error)) = collector.give(share(2, 9)) else { panic!("no error") };

    assert_eq!(error, CombineError::Repeated);
    assert_eq!(collector.progress(), 0);
}

#[test]
fn the_only_share_of_a_key_is_complete_at_once() {
    let whole = Share::parse(&"5c".repeat(32)).unwrap();

    assert!(matches!(Collector::new(1).give(whole), Given::Complete(Ok(_))));
}

#[test]
fn a_reset_forgets_all_shares() {
    let mut collector = Collector::new(2);
    collector.give(share(1, 1));

    collector.reset();

    assert_eq!(collector.progress(), 0);
    assert_eq!(progress(&mut collector, share(2, 2)), 1);
}

/// Known answer: the stored form is this one.
const STORED: &[u8] = b"WWSR\x01\x04\0\0\0\0\0\0\0\0\0\x04seal\
    {\"intent\":\"sealed\",\"progress\":2,\"nonce\":\"n\",\"author\":\"grace\",\"changed\":1000}";

#[test]
fn a_seal_state_has_the_known_format() {
    let state = SealState {
        intent: Intent::Sealed,
        progress: 2,
        nonce: "n".to_owned(),
        author: "grace".to_owned(),
        changed: 1000,
        ..SealState::default()
    };

    assert_eq!(state.to_bytes().unwrap(), STORED);
    assert_eq!(SealState::parse(STORED).unwrap(), state);
}

#[test]
fn what_a_newer_release_wrote_into_a_seal_state_is_kept() {
    let mut bytes = STORED.to_vec();
    bytes.pop();
    bytes.extend_from_slice(b",\"later\":[1]}");

    let state = SealState::parse(&bytes).unwrap();

    assert_eq!(state.to_bytes().unwrap(), bytes);
}

#[test]
fn what_is_not_a_seal_state_is_refused() {
    for bytes in [
        &b""[..],
        b"WWSR",
        b"{}",
        &STORED[..STORED.len() - 1],
        &[STORED, b"{"].concat(),
        &[STORED, &b" ".repeat(70_000)].concat(),
        b"WWSR\x02\x04\0\0\0\0\0\0\0\0\0\x04seal{\"intent\":\"sealed\"}",
        b"WWSR\x01\x03\0\0\0\0\0\0\0\0\0\x07keyring{\"intent\":\"sealed\"}",
        b"WWSR\x01\x04\0\0\0\0\0\0\0\0\0\x04seal{\"intent\":\"ajar\"}",
    ] {
        assert!(SealState::parse(bytes).is_err(), "{bytes:?}");
    }
}
