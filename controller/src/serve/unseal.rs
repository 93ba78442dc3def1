//! The loop by which a replica comes to hold the key that it should hold, or to drop it.
//!
//! Every two seconds, and whenever the bell rings, it looks at what is recorded, at its own key and,
//! where that matters, at its peers, and does what [`super::ceremony`] decides. A replica is Ready
//! when it holds the key, or when no peer does: then it answers `sealed`, so that clients hear why
//! and someone can unseal. Not Ready is one that a peer could give the key to and has not yet.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};
use watchword_store::{AccessError, BackendError};

use super::Service;
use super::audit::{Event, Subject};
use super::auto_unseal::{self, AutoUnsealError};
use super::ceremony::{Key, Step, View};
use super::failure::Failure;
use super::peer::{Peer, PeerError, Replicas};
use super::seal::{Gate, TakeKeyError, about};
use crate::chain::Chain;
use crate::readiness::Condition;
use crate::shared::Shared;
use crate::shutdown::Shutdown;

/// Follows what is recorded until the shutdown; begins when `known` is over, by which time the
/// settings are.
pub(super) async fn follow(service: Arc<Service>, shared: Shared, known: impl Future<Output = ()>) {
    let condition = shared.readiness.condition("seal");
    // Not yet knowing the settings is not the same as settings that leave the store sealed.
    known.await;
    loop {
        let looked = look(&service).await;
        // What has been done may have been the first of two things.
        let again = matches!(&looked, Ok(step) if *step != Step::Rest);
        report(&service, looked, &condition);
        if again && !shared.shutdown.is_requested() {
            continue;
        }
        tokio::select! {
            () = shared.shutdown.requested() => return,
            () = service.seal.bell.notified() => {}
            () = sleep(INTERVAL) => {}
        }
    }
}

/// Looks around once because another replica says that something has changed.
///
/// # Errors
///
/// What has to be done could not be done; it is tried again.
pub(super) async fn look_now(service: &Service) -> Result<(), Failure> {
    let looked = look(service).await.map(drop);
    looked.map_err(|error| Failure::unavailable("cannot follow the state of the seal", &error))
}

fn report(service: &Service, looked: Result<Step, LookError>, condition: &Condition) {
    let error = match looked {
        Ok(Step::Rest) => {
            service.seal.complain(None);
            return condition.met();
        }
        Ok(_) => return,
        Err(error) => error,
    };
    let text = Chain(&error).to_string();
    if error.leaves_it_sealed() {
        // Nobody else holds the key either, and people can still bring their shares.
        condition.met();
        if service.seal.complain(Some(text.clone())) {
            warn!(error = text, "the store stays sealed");
        }
    } else {
        condition.unmet(text);
    }
}

/// Why a look around did not end well. No variant holds anything of a key.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot read the keyring")]
    Access(#[from] AccessError),
    #[error("cannot read the keyring")]
    Backend(#[from] BackendError),
    #[error("{}", .0.message)]
    Failure(Failure),
    #[error("cannot take the key over from `{peer}`")]
    Fetch {
        peer: String,
        #[source]
        source: PeerError,
    },
    #[error("this replica runs in no pod, so that no other gives it the key")]
    NoPod,
    #[error("cannot open the store as its settings say")]
    Settings(#[from] AutoUnsealError),
    #[error("cannot open the store with the key that `{peer}` gave")]
    WrongKey {
        peer: String,
        #[source]
        source: TakeKeyError,
    },
}

impl LookError {
    /// Whether it is only about opening without people.
    fn leaves_it_sealed(&self) -> bool {
        matches!(self, Self::Settings(_))
    }
}

impl From<Failure> for LookError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Looks around once and does what is to be done.
async fn look(service: &Service) -> Result<Step, LookError> {
    // Peers are asked before the gate, because they may take their time; what they say is only a
    // hint, as it may not be true any more.
    let (holder, own_uid) = match view(service).await?.asks_peers() {
        true => holder(service).await,
        false => (None, None),
    };
    let gate = service.seal.gate().await;
    let view = View { peer_holds: holder.is_some(), ..view(service).await? };
    let step = view.step();
    match (step, holder) {
        (Step::Fetch, Some(peer)) => match fetch(service, &gate, &peer, own_uid).await {
            // Who may open the store alone need not be given the key, as after a rollout of another
            // image under the same tag. If it cannot, what the peer said is the reason.
            Err(refused @ LookError::Fetch { .. }) if view.opens_itself => {
                auto_unseal::open(service, &gate).await.map_err(|_| refused)?;
            }
            fetched => fetched?,
        },
        (Step::Drop, _) => service.drop_key_at(&gate, Subject::Store {}),
        (Step::Initialize, _) => auto_unseal::initialize(service, &gate).await?,
        (Step::Open, _) => auto_unseal::open(service, &gate).await?,
        (Step::Fetch | Step::Rest, _) => {}
    }
    Ok(step)
}

/// What this replica knows without its peers.
async fn view(service: &Service) -> Result<View, LookError> {
    let key = service.key().await?;
    let settings = service.settings();
    let opens_itself = settings.as_deref().is_some_and(auto_unseal::opens_itself);
    let initializes_itself = settings.as_deref().is_some_and(auto_unseal::initializes_itself);
    Ok(View {
        initialized: key != Key::Absent || service.store.is_initialized().await?,
        intent: service.seal_state().await?.intent,
        key,
        peer_holds: false,
        initializes_itself,
        opens_itself,
    })
}

/// A peer that says that it holds the present key, and the uid of our own pod.
async fn holder(service: &Service) -> (Option<Peer>, Option<String>) {
    let peers = &service.seal.peers;
    let Replicas { others, own_uid } = match peers.replicas().await {
        Ok(replicas) => replicas,
        Err(error) => {
            warn!(error = %Chain(&error), "cannot look for other replicas");
            return (None, None);
        }
    };
    let asked = join_all(others.iter().map(|peer| peers.state(peer))).await;
    let mut holder = None;
    for (peer, state) in others.into_iter().zip(asked) {
        match state {
            Ok(state) if state.holds => holder = holder.or(Some(peer)),
            Ok(_) => {}
            // One that starts or has just ended, mostly.
            Err(error) => debug!(error = %Chain(&error), "cannot ask another replica"),
        }
    }
    (holder, own_uid)
}

async fn fetch(
    service: &Service,
    gate: &Gate<'_>,
    peer: &Peer,
    own_uid: Option<String>,
) -> Result<(), LookError> {
    let own_uid = own_uid.ok_or(LookError::NoPod)?;
    let name = || peer.name.clone();
    let key = service.seal.peers.fetch(peer, &own_uid).await;
    let key = key.map_err(|source| LookError::Fetch { peer: name(), source })?;
    let taken = service.take_key(gate, key).await;
    taken.map_err(|source| LookError::WrongKey { peer: name(), source })?;
    info!(peer = peer.name, "another replica gave the key");
    said_to_be_open(service, gate)
}

/// Writes the audit line; what the log does not know of is undone.
fn said_to_be_open(service: &Service, gate: &Gate<'_>) -> Result<(), LookError> {
    let written = service.record(&about(Event::Unseal, Subject::Store {}));
    if written.is_err() {
        service.drop_key_at(gate, Subject::Store {});
    }
    Ok(written?)
}

/// Waits, once the shutdown is requested, until a peer holds the key that would otherwise be gone
/// with this replica: as long as there is a peer that could come to hold it, and time.
pub(super) async fn leave_key_behind(service: &Service, shutdown: &Shutdown) {
    shutdown.requested().await;
    let deadline = Instant::now() + LAST_WAIT;
    let waited = timeout_at(deadline, async {
        while matters(service).await {
            sleep(LAST_INTERVAL).await;
        }
    });
    if waited.await.is_err() {
        warn!("no other replica has taken the key; if this was the last one, the store is sealed");
    }
}

/// Whether this replica holds a key that a peer should have and none has.
async fn matters(service: &Service) -> bool {
    // Without an answer there is nobody to wait for.
    if service.store.is_sealed() || !service.should_be_open().await.unwrap_or(false) {
        return false;
    }
    let Ok(Replicas { others, .. }) = service.seal.peers.replicas().await else { return false };
    let heirs: Vec<Peer> = others.into_iter().filter(|peer| !peer.is_ending).collect();
    let states = join_all(heirs.iter().map(|peer| service.seal.peers.state(peer))).await;
    !heirs.is_empty() && !states.into_iter().flatten().any(|state| state.holds)
}

/// How long to wait between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often peers are asked while this replica is ending.
const LAST_INTERVAL: Duration = Duration::from_millis(500);

/// How long a peer has to take the key: what is left of the time to end, less the time that the
/// peers' own connections take to end.
const LAST_WAIT: Duration = Duration::from_secs(18);
