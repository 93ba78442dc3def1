//! What a store's id may be.

use rstest::rstest;

use super::*;

#[rstest]
#[case("default", true)]
#[case("a-B_1", true)]
#[case("", false)]
#[case("a/b", false)]
#[case("a?b", false)]
#[case("ä", false)]
fn a_store_id_means_nothing_to_a_url(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(text.parse::<StoreId>().is_ok(), expected);
}
