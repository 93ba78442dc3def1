//! A model of several replicas that come, go, take the key from each other and are sealed, in every
//! order: what one replica does is decided by the code under test, and what lies between two of its
//! steps may be anything that the others do.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const REPLICAS: usize = 3;

/// One replica, as the rules of [`crate::serve::seal`] have it: the key changes hands only while it
/// holds its gate, and it reads the record after it has taken it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Replica {
    #[default]
    Down,
    /// It runs and holds the gate for nothing; whether it has the key.
    Idle { key: bool },
    /// It has taken the gate and read that the store should be open; a peer was asked for the key.
    Fetching,
}

#[derive(Debug, Default)]
struct World {
    replicas: [Replica; REPLICAS],
    sealed: bool,
    /// Who has confirmed since the record was written; `None` when no seal is under way.
    sealing: Option<[bool; REPLICAS]>,
    /// A seal was answered, and nobody has unsealed since.
    answered: bool,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Start(usize),
    Kill(usize),
    /// A replica looks around, and begins or carries out what it decides.
    Look(usize),
    /// A fetch ends: with the key, if a peer still has it and hands it out.
    Arrive(usize),
    SealIsRecorded,
    /// The leader asks one replica to drop the key.
    AskToDrop(usize),
    /// Enough shares came together at a replica.
    Unseal(usize),
}

impl World {
    fn is_held(&self, by: impl Fn(usize) -> bool) -> bool {
        (0..REPLICAS).any(|one| by(one) && self.replicas[one] == Replica::Idle { key: true })
    }

    fn look(&mut self, one: usize) {
        let Replica::Idle { key } = self.replicas[one] else { return };
        let view = View {
            initialized: true,
            intent: if self.sealed { Intent::Sealed } else { Intent::Unsealed },
            key: if key { Key::Current } else { Key::Absent },
            peer_holds: self.is_held(|other| other != one),
            initializes_itself: false,
            opens_itself: false,
        };
        self.replicas[one] = match view.step() {
            Step::Drop => Replica::Idle { key: false },
            Step::Fetch => Replica::Fetching,
            Step::Initialize | Step::Open => unreachable!("the settings do not say so"),
            Step::Rest => Replica::Idle { key },
        };
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start(one) if self.replicas[one] == Replica::Down => {
                self.replicas[one] = Replica::Idle { key: false };
                // A pod that came after the record was written reads it first of all.
                if let Some(confirmed) = &mut self.sealing {
                    confirmed[one] = true;
                }
            }
            Happening::Kill(one) => self.replicas[one] = Replica::Down,
            Happening::Look(one) => self.look(one),
            Happening::Arrive(one) if self.replicas[one] == Replica::Fetching => {
                // Who hands out reads the record, too.
                let given = !self.sealed && self.is_held(|other| other != one);
                self.replicas[one] = Replica::Idle { key: given };
            }
            Happening::SealIsRecorded => {
                self.sealed = true;
                self.sealing = Some([false; REPLICAS]);
            }
            Happening::AskToDrop(one) => {
                let Some(confirmed) = &mut self.sealing else { return };
                match self.replicas[one] {
                    // The request waits at the gate.
                    Replica::Fetching => return,
                    Replica::Idle { .. } => self.replicas[one] = Replica::Idle { key: false },
                    Replica::Down => {}
                }
                confirmed[one] = true;
                if *confirmed == [true; REPLICAS] {
                    (self.sealing, self.answered) = (None, true);
                }
            }
            Happening::Unseal(one) if matches!(self.replicas[one], Replica::Idle { .. }) => {
                // One ceremony at a time: never while a seal is under way.
                if self.sealing.is_none() {
                    self.replicas[one] = Replica::Idle { key: true };
                    (self.sealed, self.answered) = (false, false);
                }
            }
            Happening::Arrive(_) | Happening::Start(_) | Happening::Unseal(_) => {}
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..REPLICAS).prop_map(Happening::Start),
        (0..REPLICAS).prop_map(Happening::Kill),
        (0..REPLICAS).prop_map(Happening::Look),
        (0..REPLICAS).prop_map(Happening::Look),
        (0..REPLICAS).prop_map(Happening::Arrive),
        Just(Happening::SealIsRecorded),
        (0..REPLICAS).prop_map(Happening::AskToDrop),
        (0..REPLICAS).prop_map(Happening::AskToDrop),
        (0..REPLICAS).prop_map(Happening::Unseal),
    ]
}

proptest! {
    #[test]
    fn after_a_seal_was_answered_nobody_holds_the_key(
        happenings in proptest::collection::vec(happening(), 0..200),
    ) {
        let mut world = World::default();
        for happening in happenings {
            world.happen(happening);

            let held = world.is_held(|_| true);
            prop_assert!(!(world.answered && held), "{happening:?}: {world:?}");
        }
    }

    #[test]
    fn as_long_as_one_holds_the_key_all_come_to_hold_it(
        happenings in proptest::collection::vec(happening(), 0..200),
    ) {
        let mut world = World::default();
        for happening in happenings {
            world.happen(happening);
        }
        for one in 0..REPLICAS {
            world.happen(Happening::Start(one));
            world.happen(Happening::Arrive(one));
        }
        let held = !world.sealed && world.is_held(|_| true);

        for one in 0..REPLICAS {
            world.happen(Happening::Look(one));
            world.happen(Happening::Arrive(one));
        }

        for replica in world.replicas {
            prop_assert_eq!(replica, Replica::Idle { key: held });
        }
    }

    #[test]
    fn what_is_sealed_by_hand_is_opened_by_nothing_but_people(
        initialized: bool,
        peer_holds: bool,
        initializes_itself: bool,
        opens_itself: bool,
    ) {
        for key in [Key::Absent, Key::Current, Key::Outdated] {
            let intent = Intent::Sealed;
            let view =
                View { initialized, intent, key, peer_holds, initializes_itself, opens_itself };

            prop_assert!(matches!(view.step(), Step::Drop | Step::Rest));
        }
    }
}

#[rstest]
#[case::new_and_by_hand(false, Key::Absent, false, [false, false], Step::Rest)]
#[case::new_and_by_itself(false, Key::Absent, false, [true, true], Step::Initialize)]
#[case::new_for_given_keys(false, Key::Absent, false, [true, false], Step::Initialize)]
#[case::started(true, Key::Absent, false, [false, false], Step::Rest)]
#[case::started_for_given_keys(true, Key::Absent, false, [true, false], Step::Rest)]
#[case::started_with_a_kept_key(true, Key::Absent, false, [true, true], Step::Open)]
#[case::started_beside_a_peer(true, Key::Absent, true, [true, true], Step::Fetch)]
#[case::open(true, Key::Current, true, [true, true], Step::Rest)]
#[case::rekeyed(true, Key::Outdated, true, [false, false], Step::Fetch)]
#[case::rekeyed_and_alone(true, Key::Outdated, false, [false, false], Step::Rest)]
fn a_store_that_should_be_open_is_opened_in_the_least_costly_way(
    #[case] initialized: bool,
    #[case] key: Key,
    #[case] peer_holds: bool,
    #[case] by_itself: [bool; 2],
    #[case] step: Step,
) {
    let [initializes_itself, opens_itself] = by_itself;
    let intent = Intent::Unsealed;
    let view = View { initialized, intent, key, peer_holds, initializes_itself, opens_itself };

    assert_eq!(view.step(), step);
}
