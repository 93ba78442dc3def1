//! What this replica answers its peers, and nobody else.
//!
//! It is served on a port of its own, which a NetworkPolicy opens to the store's pods only. That is
//! the first wall. The second, which does not hang on the network: every request, also one for a
//! path that there is not, is refused unless its token is of a live pod of the store
//! ([`super::admit`]). A refusal says no more than that, and is an audit line. Of the tokens that come
//! from one address only so many are looked at in vain, as on the public port.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Extensions;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use watchword_core::claim::controller_of;
use watchword_crds::names;
use watchword_protocol::ErrorCode;
use watchword_store::SealConfig;

use super::admit::{Admitted, Evidence, PeerClaim, Runs, judge};
use super::handover::{Asked, Given, give};
use super::{FORWARD_PATH, Forwarded, KEY_PATH, LOOK_PATH, PeerState, SEAL_PATH, STATE_PATH};
use crate::listen::Peer as Remote;
use crate::serve::audit::{Decision, Entry, Event, Subject, cause, decision};
use crate::serve::authenticate;
use crate::serve::ceremony::lead;
use crate::serve::ceremony::operation::{Reply, WireReply};
use crate::serve::evidence;
use crate::serve::failure::{self, Failure};
use crate::serve::throttle::Source;
use crate::serve::{Service, detached, unseal};

/// The routes.
pub(in crate::serve) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(STATE_PATH, get(state))
        .route(KEY_PATH, post(key))
        .route(LOOK_PATH, post(look))
        .route(SEAL_PATH, post(seal))
        .route(FORWARD_PATH, post(forward))
        .fallback(failure::not_found)
        .layer(DefaultBodyLimit::max(MAX_FORWARDED_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), admitted))
        .with_state(service)
}

/// Lets only peers pass.
async fn admitted(
    State(service): State<Arc<Service>>,
    Extension(Remote(remote)): Extension<Remote>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let headers = request.headers();
    let peer = async {
        let token = authenticate::token(headers)?;
        let claim = authenticate::peer(&service.client, token).await?;
        admit(&service, claim, remote.ip()).await
    };
    match service.throttle.review(Some(Source::address(remote.ip())), peer).await {
        Ok(peer) => {
            request.extensions_mut().insert(peer);
            Ok(next.run(request).await)
        }
        Err(failure) => {
            service.record_stranger(Event::Handover, None, &failure)?;
            Err(failure)
        }
    }
}

/// Looks up what a claim is judged by, and judges it.
async fn admit(
    service: &Service,
    claim: PeerClaim,
    address: std::net::IpAddr,
) -> Result<Admitted, Failure> {
    let peers = &service.seal.peers;
    let (client, namespace) = (&service.client, peers.namespace());
    // Before anything is looked up in the name of whoever it is.
    if claim.namespace != namespace || claim.service_account != names::STORE {
        return Err(refused());
    }
    let pod: Option<Pod> = evidence::get(client, namespace, &claim.pod).await?;
    let owner = pod.as_ref().and_then(|pod| controller_of(&pod.metadata));
    let replica_set: Option<ReplicaSet> = match owner {
        None => None,
        Some(owner) => evidence::get(client, namespace, &owner.name).await?,
    };
    let deployment: Option<Deployment> = evidence::get(client, namespace, names::STORE).await?;
    let own: Option<Pod> = evidence::get(client, namespace, peers.own()).await?;
    let evidence = Evidence {
        address,
        deployment: deployment.as_ref(),
        namespace,
        own: own.as_ref(),
        pod: pod.as_ref(),
        replica_set: replica_set.as_ref(),
    };
    let name = claim.pod.clone();
    judge(claim, &evidence).map_err(|reason| {
        tracing::warn!(pod = name, reason, "refused a pod as another replica");
        refused()
    })
}

/// `GET /peer/v1/state`
async fn state(State(service): State<Arc<Service>>) -> Result<Json<PeerState>, Failure> {
    let holds = match service.demand_key().await {
        Ok(()) => true,
        Err(failure) if failure.code == ErrorCode::Sealed => false,
        Err(failure) => return Err(failure),
    };
    Ok(Json(PeerState { holds }))
}

/// `POST /peer/v1/key`: hands the root key over.
async fn key(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Admitted>,
    Json(asked): Json<Asked>,
) -> Result<Json<Given>, Failure> {
    let given = hand_over(&service, &peer, &asked).await;
    let failed = given.as_ref().err();
    service.record(&Entry {
        event: Event::Handover,
        decision: failed.map_or(Decision::Allowed, decision),
        subject: Subject::Replica { pod: &peer.claim.pod, uid: &peer.claim.uid },
        path: None,
        version: None,
        cause: failed.map(cause),
        unwritten: 0,
    })?;
    given.map(Json)
}

async fn hand_over(service: &Service, peer: &Admitted, asked: &Asked) -> Result<Given, Failure> {
    if peer.is_ending {
        return Err(Failure::new(ErrorCode::Denied, "a pod that is being deleted gets no key"));
    }
    trusted(peer)?;
    // What is recorded counts, not what this replica has heard of it so far.
    if !service.should_be_open().await? {
        return Err(Failure::new(ErrorCode::Sealed, "the store is sealed"));
    }
    let failed = |error: &dyn std::error::Error| Failure::unavailable("cannot hand over", error);
    service.demand_key().await?;
    let key = service.store.root_key();
    let key = key.ok_or_else(|| Failure::new(ErrorCode::Sealed, "this replica has no key"))?;
    let whole = SealConfig::new(1, 1, 0).map_err(|error| failed(&error))?;
    let shares = key.split(whole).map_err(|error| failed(&error))?;
    let [share] = shares.as_slice() else { return Err(refused()) };
    give(asked, &peer.claim.uid, share.to_hex().as_bytes()).map_err(|error| failed(&error))
}

/// `POST /peer/v1/look`: takes or drops the key now, if that is what there is to do.
async fn look(
    State(service): State<Arc<Service>>,
    extensions: Extensions,
) -> Result<Json<PeerState>, Failure> {
    detached(&extensions, async move {
        unseal::look_now(&service).await?;
        state(State(service)).await
    })
    .await
}

/// `POST /peer/v1/seal`: drops the key, and answers when it is gone.
async fn seal(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Admitted>,
    extensions: Extensions,
) -> Result<Json<PeerState>, Failure> {
    detached(&extensions, async move {
        // Without looking at the record: to drop a key is always allowed, and whoever should be
        // open comes by it again.
        service.drop_key(Subject::Replica { pod: &peer.claim.pod, uid: &peer.claim.uid }).await;
        Ok(Json(PeerState { holds: false }))
    })
    .await
}

/// `POST /peer/v1/forward`: does something for somebody whom another replica has authenticated.
async fn forward(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Admitted>,
    extensions: Extensions,
    Json(Forwarded { person, operation }): Json<Forwarded>,
) -> Result<Json<WireReply>, Failure> {
    // It is taken at its word on who asks.
    trusted(&peer)?;
    detached(&extensions, async move {
        if !service.seal.leads() {
            return Err(Failure::new(
                ErrorCode::Unavailable,
                "this replica does not run the ceremonies (any more); try again",
            ));
        }
        let reply = lead::perform(&service, &person, operation).await;
        Ok(Json(reply.unwrap_or_else(Reply::from).to_wire()))
    })
    .await
}

/// Refuses a peer of which nobody knows that it runs our program.
fn trusted(peer: &Admitted) -> Result<(), Failure> {
    match peer.runs {
        Runs::Ours => Ok(()),
        Runs::Another => Err(Failure::new(
            ErrorCode::Denied,
            "the Deployment names the image by a tag, and this pod runs another one under it: name \
             the image by its digest",
        )),
        Runs::Unknown => Err(Failure::new(
            ErrorCode::Unavailable,
            "the kubelet has yet to say which image this pod runs",
        )),
    }
}

fn refused() -> Failure {
    Failure::new(ErrorCode::Denied, "only the store's own replicas may ask this")
}

/// 255 OpenPGP keys of some kilobytes.
const MAX_FORWARDED_BYTES: usize = 2 << 20;
