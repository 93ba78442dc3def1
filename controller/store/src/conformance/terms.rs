//! The end of terms, beside writers who have not heard of the new one.

use futures::TryStreamExt;
use futures::future::{join, join_all};

use super::{read, root_key, write};
use crate::backend::Backend;
use crate::path::SecretPath;
use crate::store::{Config, Precondition, RetireError, Store, Verified};

/// While one replica rotates, rewraps and retires again and again, another writes new secrets and
/// changes old ones: every acknowledged write opens afterwards, everywhere.
pub(super) async fn terms<B: Backend>(replica: &impl Fn() -> B) {
    let stores = [(); 2].map(|()| Store::new(replica(), Config::default()));
    for store in &stores {
        store.unseal(root_key()).await.unwrap();
    }
    let [keeper, writer] = &stores;
    let before = keeper.terms().unwrap().last().unwrap().term;

    let ending = async {
        for round in 0..ROUNDS {
            keeper.rotate(10 + round).await.unwrap();
            // A writer may be faster than the look that follows; then there is more to move.
            loop {
                keeper.rewrap(|_| {}).await.unwrap();
                match keeper.retire().await {
                    Ok(retired) => break assert!(!retired.is_empty(), "older terms end"),
                    Err(RetireError::Needed { .. }) => {}
                    Err(error) => panic!("cannot retire: {error:?}"),
                }
            }
        }
    };
    let writing = join_all((0..WRITERS).map(|number| async move {
        let path: SecretPath = format!("conformance/terms/{number}").parse().unwrap();
        for change in 0..CHANGES {
            write(writer, &path, &[number, change], Precondition::Any).await.unwrap();
            assert_eq!(read(writer, &path).await, [number, change], "a writer reads its write");
        }
        path
    }));
    let ((), paths) = join(ending, writing).await;

    let fresh = Store::new(replica(), Config::default());
    fresh.unseal(root_key()).await.unwrap();
    let terms = fresh.terms().unwrap();
    let newest = before + u32::try_from(ROUNDS).unwrap();
    assert_eq!(terms.iter().map(|term| term.term).collect::<Vec<_>>(), [newest]);
    for (number, path) in (0..WRITERS).zip(&paths) {
        for store in [&fresh, keeper, writer] {
            assert_eq!(read(store, path).await, [number, CHANGES - 1], "the last write is there");
        }
    }
    let lines: Vec<Verified> = fresh.verify().await.unwrap().try_collect().await.unwrap();
    let damaged: Vec<_> = lines.iter().filter(|line| line.damage.is_some()).collect();
    assert!(damaged.is_empty(), "{damaged:?}");
    for path in &paths {
        writer.delete(path).await.unwrap();
    }
}

const ROUNDS: i64 = 3;

const WRITERS: u8 = 6;

const CHANGES: u8 = 5;
