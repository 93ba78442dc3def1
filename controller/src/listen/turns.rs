//! Turns: so many things at once, of which one host has a few only.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shares::{Share, Shares};

/// The turns that there are at a time; whoever comes later waits.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    hosts: Shares,
}

/// A turn, of a host's and of all. It is free again when the last that holds it is dropped.
///
/// That of a request is an extension of it.
#[derive(Clone, Debug)]
pub struct Turn {
    _held: Arc<(Share, Option<OwnedSemaphorePermit>)>,
}

impl Turns {
    /// So many turns, of which each host has what `hosts` gives it.
    pub fn new(all: usize, hosts: Shares) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), hosts }
    }

    /// A turn of `host`'s, when there is one.
    pub async fn take(&self, host: IpAddr) -> Turn {
        // The host's own comes first: who waits for that is in nobody's way.
        let own = self.hosts.take(host).await;
        // The semaphore is never closed.
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _held: Arc::new((own, of_all)) }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[test]
    fn who_waits_for_a_turn_of_its_host_is_in_nobodys_way() {
        let turns = Turns::new(2, Shares::new(1));
        let first = turns.take(host(1)).now_or_never().unwrap();
        let mut second = Box::pin(turns.take(host(1)));
        assert!(second.as_mut().now_or_never().is_none());

        let others = turns.take(host(2)).now_or_never();

        assert!(others.is_some());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn there_are_no_more_turns_than_all_and_one_that_is_held_twice_is_free_when_both_are_dropped() {
        let turns = Turns::new(1, Shares::new(1));
        let turn = turns.take(host(1)).now_or_never().unwrap();
        let longer = turn.clone();
        drop(turn);
        let mut waiting = Box::pin(turns.take(host(2)));
        assert!(waiting.as_mut().now_or_never().is_none());

        drop(longer);

        assert!(waiting.now_or_never().is_some());
    }
}
