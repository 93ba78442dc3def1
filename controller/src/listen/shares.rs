//! Places of which one host has a few only, so that it cannot take them all.
//!
//! A host is an address: a pod has one of its own, also in IPv6, where a network of 64 bits is a whole
//! node's or more. Those who share one, as pods in the host's network and clients behind a gateway
//! do, share its places. Port-forwards of everybody come from `localhost`, which has four times
//! as many.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all hosts.
#[derive(Debug)]
pub struct Shares {
    each: usize,
    hosts: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// Places of a host's, until it is dropped.
#[derive(Debug)]
pub struct Share {
    _places: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// Each host has so many places.
    pub fn new(each: usize) -> Self {
        Self { each, hosts: Mutex::default() }
    }

    /// Each host has an eighth of `all` places.
    pub fn of(all: usize) -> Self {
        Self::new((all / 8).max(1))
    }

    /// A place of `host`'s, when one is free. Those of one host are served in their order.
    pub async fn take(&self, host: IpAddr) -> Share {
        // The semaphore is never closed.
        Share { _places: self.places(host).acquire_owned().await.ok() }
    }

    /// A place of `host`'s, if one is free now.
    pub fn try_take(&self, host: IpAddr) -> Option<Share> {
        self.try_take_many(host, 1)
    }

    /// So many places of `host`'s, if they are free now.
    pub fn try_take_many(&self, host: IpAddr, places: u32) -> Option<Share> {
        let taken = self.places(host).try_acquire_many_owned(places).ok()?;
        Some(Share { _places: Some(taken) })
    }

    fn places(&self, host: IpAddr) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MANY_HOSTS {
            // Who has a place, or waits for one, holds on to them.
            hosts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let host = host.to_canonical();
        let is_forwarded = host == Ipv4Addr::LOCALHOST || host == Ipv6Addr::LOCALHOST;
        let each = if is_forwarded { 4 * self.each } else { self.each };
        let places = hosts.entry(host);
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(each))))
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
    fn pods_of_one_network_do_not_share_and_one_host_has_one_share_however_it_is_written() {
        let shares = Shares::new(1);
        let [a, b]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|one| one.parse().unwrap());
        let [c, d]: [IpAddr; 2] = ["::ffff:10.0.0.1", "10.0.0.1"].map(|one| one.parse().unwrap());

        let _held = [a, c].map(|host| shares.try_take(host).unwrap());

        assert!(shares.try_take(b).is_some());
        assert!(shares.try_take(d).is_none());
    }

    #[test]
    fn those_who_come_through_port_forwards_have_more_together() {
        let shares = Shares::new(1);
        let taken = [(); 5].map(|()| shares.try_take(IpAddr::from([127, 0, 0, 1])));

        assert_eq!(taken.iter().filter(|place| place.is_some()).count(), 4);
    }
}
