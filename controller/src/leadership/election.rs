//! The rules of the election, without clock and network.
//!
//! A candidate trusts its own monotonic clock only. It counts another's lease as expired when it
//! has seen it unchanged for the lease's whole duration, whatever times stand in it; and its own
//! as lost a third earlier, counted from before it asked for the renewal. Hence nobody leads while
//! another may, however far the nodes' wall clocks are apart.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::time::Instant;

/// How long leadership lasts.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others leave an unrenewed lease alone. Whole seconds.
    pub duration: Duration,
    /// How long the holder leads after its last renewal; shorter than `duration`.
    pub renew: Duration,
    /// The pause between two attempts to take or renew.
    pub retry: Duration,
}

impl Default for Timing {
    /// The times that Kubernetes' own components use.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What one candidate knows.
#[derive(Debug)]
pub struct Election {
    identity: String,
    in_doubt: bool,
    renewed: Option<Instant>,
    seen: Option<Seen>,
    timing: Timing,
}

/// A state of the lease, and since when it has been seen like this.
#[derive(Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

/// What a candidate may write. Both fail at the server if the lease is not as it was seen.
#[derive(Debug)]
pub enum Proposal {
    /// The lease, which does not exist.
    Create(Lease),
    /// The lease, with the resourceVersion that was seen.
    Replace(Lease),
    /// Nothing: another holds it.
    Wait,
}

impl Election {
    /// A candidate that knows nothing yet.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, in_doubt: true, renewed: None, seen: None, timing }
    }

    /// Whether the lease must be read before a proposal.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The lease may have changed: a write failed, or its answer was lost, or another holds it.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// The lease was read.
    pub fn saw(&mut self, lease: Option<Lease>, now: Instant) {
        self.in_doubt = false;
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if lease.as_ref().and_then(holder) != Some(&self.identity) {
            self.renewed = None;
        }
        self.seen = lease.map(|lease| {
            let since = match &self.seen {
                Some(seen) if version(&seen.lease) == version(&lease) => seen.since,
                _ => now,
            };
            Seen { lease, since }
        });
    }

    /// What to write now. `wall` is only for people to read.
    pub fn proposal(&self, name: &str, now: Instant, wall: Timestamp) -> Proposal {
        let Some(Seen { lease, since }) = &self.seen else {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let spec = self.spec(None, wall);
            return Proposal::Create(Lease { metadata, spec: Some(spec) });
        };
        let duration = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = duration
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.timing.duration, Duration::from_secs);
        match holder(lease) {
            Some(holder) if *holder != self.identity && now < *since + duration => Proposal::Wait,
            _ => {
                let spec = self.spec(lease.spec.as_ref(), wall);
                Proposal::Replace(Lease { metadata: lease.metadata.clone(), spec: Some(spec) })
            }
        }
    }

    /// The server took our proposal, which was asked at `asked`, and returned `lease`.
    pub fn wrote(&mut self, lease: Lease, asked: Instant) {
        self.in_doubt = false;
        self.renewed = Some(asked);
        self.seen = Some(Seen { lease, since: asked });
    }

    /// Whether this candidate leads.
    pub fn leads(&self, now: Instant) -> bool {
        self.leads_until(now).is_some()
    }

    /// When leadership ends unless it is renewed; `None` if there is none now.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.renew).filter(|end| now < *end)
    }

    /// Ends leadership at once. What to write so that others need not wait, if it is ours.
    pub fn resignation(&mut self, now: Instant, wall: Timestamp) -> Option<Lease> {
        let led = self.leads(now);
        self.renewed = None;
        let lease = &self.seen.as_ref().filter(|_| led)?.lease;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..self.spec(lease.spec.as_ref(), wall)
        };
        Some(Lease { metadata: lease.metadata.clone(), spec: Some(spec) })
    }

    /// The lease as ours.
    fn spec(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let before = before.cloned().unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            acquire_time: before.acquire_time.filter(|_| ours).or(Some(MicroTime(wall))),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            renew_time: Some(MicroTime(wall)),
            ..before
        }
    }
}

/// Who holds the lease, if anybody does.
fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What can happen to a group of candidates.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Nothing, for so many milliseconds.
        Pass(u64),
        /// A candidate gives up.
        Resign(usize),
        /// A candidate reads, and its answer arrives only later if at all.
        Read(usize),
        /// A candidate writes what it may; the answer may be lost.
        Write(usize, bool),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (0_u64..6_000).prop_map(Event::Pass),
            1 => (0_usize..3).prop_map(Event::Resign),
            4 => (0_usize..3).prop_map(Event::Read),
            6 => (0_usize..3, prop::bool::weighted(0.8)).prop_map(|(i, heard)| Event::Write(i, heard)),
        ];
        prop::collection::vec(event, 1..200)
    }

    /// The server's side: one object, compare-and-swap on its version.
    #[derive(Default)]
    struct Server {
        lease: Option<Lease>,
        version: u64,
    }

    impl Server {
        fn write(&mut self, lease: Lease) -> Option<Lease> {
            let current =
                self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            if lease.metadata.resource_version != current {
                return None;
            }
            self.version += 1;
            let mut lease = lease;
            lease.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(lease.clone());
            Some(lease)
        }
    }

    proptest! {
        #[test]
        fn there_are_never_two_leaders(events in events()) {
            let mut now = Instant::now();
            let mut server = Server::default();
            let mut candidates: Vec<_> = (0..3)
                .map(|index| Election::new(format!("replica-{index}"), Timing::default()))
                .collect();

            for event in &events {
                match *event {
                    Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                    Event::Resign(index) => {
                        if let Some(lease) = candidates[index].resignation(now, Timestamp::UNIX_EPOCH) {
                            server.write(lease);
                        }
                        candidates[index].doubt();
                    }
                    Event::Read(index) => candidates[index].saw(server.lease.clone(), now),
                    Event::Write(index, heard) => {
                        let candidate = &mut candidates[index];
                        let asked = now;
                        if candidate.in_doubt() {
                            continue;
                        }
                        let lease = match candidate.proposal("l", now, Timestamp::UNIX_EPOCH) {
                            Proposal::Create(lease) | Proposal::Replace(lease) => lease,
                            Proposal::Wait => continue,
                        };
                        // The write takes a while to arrive.
                        now += Duration::from_millis(300);
                        match server.write(lease).filter(|_| heard) {
                            None => candidate.doubt(),
                            Some(lease) => candidate.wrote(lease, asked),
                        }
                    }
                }

                let leaders = candidates.iter().filter(|candidate| candidate.leads(now)).count();
                prop_assert!(leaders <= 1, "{leaders} leaders after {event:?}");
            }
        }
    }

    #[test]
    fn a_lease_is_taken_over_once_it_has_been_seen_unchanged_for_its_duration() {
        let start = Instant::now();
        let mut server = Server::default();
        let [mut first, mut second] =
            ["a", "b"].map(|name| Election::new(name.to_owned(), Timing::default()));
        first.saw(None, start);
        let Proposal::Create(lease) = first.proposal("l", start, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        first.wrote(server.write(lease).unwrap(), start);
        assert!(first.leads(start));
        second.saw(server.lease.clone(), start);

        let early = start + Duration::from_secs(14);
        let late = start + Duration::from_secs(15);

        assert!(matches!(second.proposal("l", early, Timestamp::UNIX_EPOCH), Proposal::Wait));
        let Proposal::Replace(lease) = second.proposal("l", late, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(2));
        assert!(!first.leads(early));
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        let start = Instant::now();
        let mut server = Server::default();
        let [mut first, mut second] =
            ["a", "b"].map(|name| Election::new(name.to_owned(), Timing::default()));
        first.saw(None, start);
        let Proposal::Create(lease) = first.proposal("l", start, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        first.wrote(server.write(lease).unwrap(), start);

        server.write(first.resignation(start, Timestamp::UNIX_EPOCH).unwrap()).unwrap();

        assert!(!first.leads(start));
        second.saw(server.lease.clone(), start);
        assert!(matches!(second.proposal("l", start, Timestamp::UNIX_EPOCH), Proposal::Replace(_)));
    }
}
