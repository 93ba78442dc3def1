//! Sealing: it is recorded, this replica drops the key, and the answer waits until every other one
//! has dropped it too.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tracing::debug;
use watchword_protocol::ErrorCode;
use watchword_store::Intent;

use crate::chain::Chain;
use crate::serve::Service;
use crate::serve::audit::Subject;
use crate::serve::authenticate::Person;
use crate::serve::ceremony::operation::Reply;
use crate::serve::failure::Failure;
use crate::serve::peer::{Peer, PeerError, Peers};

/// `PUT /secrets/v1/seal/default`
pub(super) async fn seal(service: &Service, person: &Person) -> Result<Reply, Failure> {
    service
        .change_seal_state(|state| {
            state.intent = Intent::Sealed;
            state.progress = 0;
            state.author.clone_from(&person.user);
        })
        .await?;
    service.seal.leading.with(|term| (term.unseal, term.rekey) = (None, None))?;
    let uid = person.uid.as_deref();
    service.drop_key(Subject::User { name: &person.user, uid }).await;
    match others_drop(&service.seal.peers, Instant::now() + DEADLINE).await {
        Ok(()) => Ok(Reply::ok(&super::SealStatus::of(service).await?)),
        Err(left) => Err(Failure::new(
            ErrorCode::Unavailable,
            format!(
                "the store is being sealed, and {} has not confirmed that it has dropped the key; \
                 it does so as soon as it can read the state of the seal. Try again to hear when",
                left.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

/// Has every other replica drop the key. One that cannot be reached is asked again until its pod is
/// gone. One that comes meanwhile reads the record first.
///
/// # Errors
///
/// Those that have not confirmed it by the deadline.
async fn others_drop(peers: &Peers, deadline: Instant) -> Result<(), BTreeSet<String>> {
    let mut confirmed = BTreeSet::new();
    loop {
        let open = match peers.replicas().await {
            Ok(replicas) => replicas.others,
            Err(error) => {
                debug!(error = %Chain(&error), "cannot list the replicas");
                if Instant::now() > deadline {
                    return Err(BTreeSet::from(["a replica that cannot be listed".to_owned()]));
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        let open: Vec<Peer> =
            open.into_iter().filter(|peer| !confirmed.contains(&peer.name)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let asked: Vec<Result<(), PeerError>> =
            join_all(open.iter().map(|peer| peers.seal(peer))).await;
        let mut left = BTreeSet::new();
        for (peer, outcome) in open.into_iter().zip(asked) {
            match outcome {
                Ok(()) => {
                    confirmed.insert(peer.name);
                }
                Err(error) => {
                    debug!(error = %Chain(&error), "a replica has not dropped the key yet");
                    left.insert(peer.name);
                }
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(left);
        }
        sleep(PAUSE).await;
    }
}

/// When to answer that it is not done yet: the last round may take three seconds more, and a request
/// as a whole ten.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
