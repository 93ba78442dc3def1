//! The seal of the whole store, as decisions: what a replica does about the key, given what is
//! recorded, what it holds and what its peers say.
//!
//! Whether the store should be open is recorded in the back end. A replica that holds no key asks a
//! peer for it, so that one unsealing serves all; one that holds a key drops it as soon as the
//! record says *sealed*. Nothing here asks or writes: [`super::unseal`] carries the steps out, and
//! [`lead`] the ceremonies, on the replica that holds the lease.

use watchword_store::Intent;

pub(super) mod api;
pub(super) mod lead;
pub(super) mod operation;
pub(super) mod rekey;
pub(super) mod rotation;

/// What a replica knows when it decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct View {
    /// Whether there is a keyring.
    pub initialized: bool,
    /// What is recorded.
    pub intent: Intent,
    /// What it holds.
    pub key: Key,
    /// Whether a peer holds the present key; asked only if [`View::asks_peers`].
    pub peer_holds: bool,
    /// Whether the settings let it initialise the store without people.
    pub initializes_itself: bool,
    /// Whether the settings let it open the store without people.
    pub opens_itself: bool,
}

/// The root key, as far as a replica holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    /// It does not.
    Absent,
    /// It holds the one that opens the keyring.
    Current,
    /// It holds one from before a rekeying. What it has opened with it stays good.
    Outdated,
}

/// What a replica does next about the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Forget the key.
    Drop,
    /// Take it from a peer.
    Fetch,
    /// Initialise the store as the settings say.
    Initialize,
    /// Open it with the key that the settings name.
    Open,
    /// Nothing. Sealed or not, clients may come: a sealed store says so.
    Rest,
}

impl View {
    /// Whether what peers hold makes a difference.
    pub(super) fn asks_peers(&self) -> bool {
        self.initialized && self.intent == Intent::Unsealed && self.key != Key::Current
    }

    /// What to do.
    pub(super) fn step(&self) -> Step {
        match (self.intent, self.key) {
            (Intent::Sealed, Key::Current | Key::Outdated) => Step::Drop,
            (Intent::Sealed, Key::Absent) | (Intent::Unsealed, Key::Current) => Step::Rest,
            (Intent::Unsealed, Key::Absent | Key::Outdated) => {
                // A peer first: it has what people, perhaps, had to come together for.
                match (self.initialized, self.peer_holds) {
                    (true, true) => Step::Fetch,
                    (true, false) if self.opens_itself => Step::Open,
                    (false, _) if self.initializes_itself => Step::Initialize,
                    _ => Step::Rest,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
