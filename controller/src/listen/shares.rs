//! Places of which one host has a few only, so that it cannot take them all.
//!
//! A host is an address; of IPv6 it is the network of 64 bits, which is what one host is given. A
//! pod has an address of its own. Those who share one, as pods in the host's network and clients
//! behind a gateway do, share its places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all hosts.
#[derive(Debug)]
pub struct Shares {
    each: usize,
    hosts: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// One place of a host's, until it is dropped.
#[derive(Debug)]
pub struct Share {
    _place: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// Each host has so many places.
    pub fn new(each: usize) -> Self {
        Self { each, hosts: Mutex::default() }
    }

    /// A place of `host`'s, when one is free. Those of one host are served in their order.
    pub async fn take(&self, host: IpAddr) -> Share {
        // The semaphore is never closed.
        Share { _place: self.places(host).acquire_owned().await.ok() }
    }

    /// A place of `host`'s, if one is free now.
    pub fn try_take(&self, host: IpAddr) -> Option<Share> {
        let place = self.places(host).try_acquire_owned().ok()?;
        Some(Share { _place: Some(place) })
    }

    fn places(&self, host: IpAddr) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MANY_HOSTS {
            // Who has a place, or waits for one, holds on to them.
            hosts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = hosts.entry(self::host(host));
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// What stands for a host's addresses: of IPv6 the network of 64 bits.
pub fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// From so many on those are forgotten that have no place: more than a listener has connections.
const MANY_HOSTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_host_has_its_places_and_no_more() {
        let shares = Shares::new(2);
        let held = [shares.try_take(address(1)), shares.try_take(address(1))];

        assert!(held.iter().all(Option::is_some));
        assert!(shares.try_take(address(1)).is_none());
        assert!(shares.try_take(address(2)).is_some());
        drop(held);
        assert!(shares.try_take(address(1)).is_some());
    }

    #[test]
    fn hosts_that_are_gone_are_forgotten_and_those_that_hold_places_are_not() {
        let shares = Shares::new(1);
        let _held = shares.try_take(address(0)).unwrap();

        for number in 1..4 * u32::try_from(MANY_HOSTS).unwrap() {
            drop(shares.try_take(address(number)));
        }

        assert!(shares.hosts.lock().unwrap().len() <= MANY_HOSTS);
        assert!(shares.try_take(address(0)).is_none());
    }

    #[test]
    fn a_host_does_not_have_a_share_for_each_of_its_addresses() {
        let [a, b]: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8::ffff:1"].map(|one| one.parse().unwrap());
        let [c, d]: [IpAddr; 2] = ["::ffff:10.0.0.1", "10.0.0.1"].map(|one| one.parse().unwrap());

        assert_eq!(host(a), host(b));
        assert_eq!(host(c), host(d));
    }
}
