//! Where the store keeps its records, and that this is one place for all replicas.
//!
//! The SecretStore says where (`spec.backend`). People change that object, perhaps by a commit,
//! while thousands of records lie somewhere else; a store that followed would come up empty, or as
//! it was months ago. So the place of a store that has records is written down, as the holder of a
//! Lease of its own, and then:
//!
//! - A replica serves the place that is written down and no other. If the settings name another one
//!   when it starts, it waits, not Ready, and says why.
//! - One that runs goes on where it is, and a condition of the SecretStore says what there is to do.
//! - The place changes when the settings name the former one too (`movedFrom`): that says that the
//!   records were moved. Replicas that still serve the former place end, and begin at the new one.
//! - A store does not move back into the cluster while an older state of it lies there: only the
//!   store can write there, so what is there before it comes is what it left behind.
//! - What has no records yet is written down nowhere, and follows the settings.
//!
//! The Lease also remembers which store it is that lies there, by the key of its audit log, from when it
//! was opened for the first time. Whoever can write to a back end can put another keyring there, made for the
//! OpenPGP keys of the same people; their shares would open that, and what is written from then on
//! would be no secret to whoever made it. Such a keyring is not opened.
//!
//! The Lease can only hold a store back. Addresses come from the SecretStore alone, which is
//! cluster-scoped; passwords come from a file that the Deployment mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use watchword_audit::PublicKey;
use watchword_crds::{SecretStore, names};
use watchword_protocol::ErrorCode;
use watchword_store::backend::kubernetes::KubernetesBackend;
use watchword_store::backend::zookeeper::Digest;
use watchword_store::{
    Access, AnyBackend, Backend, BackendError, Location, ObjectName, OpenLocationError,
    ParseLocationError,
};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{Service, WATCHED_BYTES, report};
use crate::chain::Chain;
use crate::shared::Shared;
use crate::shutdown::Shutdown;

/// The place that this replica serves, for as long as it runs.
pub(super) struct Place {
    location: Location,
    leases: Api<Lease>,
    namespace: String,
}

/// How an empty place gets its first records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Filling {
    /// With those of another place, or of a backup.
    Copy,
    /// With a new keyring.
    New,
}

/// Why records cannot be kept where the settings say.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("cannot ask the API server where the records lie")]
    Api(#[from] kube::Error),
    #[error("`{place}` does not answer")]
    Backend {
        place: Location,
        #[source]
        source: BackendError,
    },
    #[error("the file `{}` does not hold NAME:PASSWORD", .0.display())]
    Digest(PathBuf),
    #[error(
        "the records lie in `{recorded}` and the SecretStore names `{wanted}`: move them with \
         `watchword store migrate` and set spec.backend.movedFrom to `{recorded}`; or set \
         spec.backend back"
    )]
    Elsewhere { recorded: Location, wanted: Location },
    #[error("Lease `{}` holds what is no place", names::STORE_BACKEND)]
    Lease(#[source] ParseLocationError),
    #[error(
        "`{place}` still holds an older state of the store that lies in `{from}`: remove the \
         SealedRecords there first (docs/store.md, \"Another place\")"
    )]
    Older { place: Location, from: Location },
    #[error("cannot open the back end")]
    Open(#[from] OpenLocationError),
    #[error("cannot read the file `{}`", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "spec.backend.file is for a single replica that ends before the next one begins: set \
         `replicas: 1` and `strategy: {{type: Recreate}}` in Deployment `{}`",
        names::STORE
    )]
    Several,
    #[error("spec.backend of the SecretStore names no place")]
    Settings(#[source] ParseLocationError),
    #[error(
        "the store in `{place}` is not the one that was there: the key of its audit log is {found}, \
         and annotation `{AUDIT_KEY}` of Lease `{lease}` says {known}. Somebody has put it there past \
         the store, and may know its keys; if it was you, take the annotation away",
        lease = names::STORE_BACKEND
    )]
    Stranger { place: Location, known: String, found: String },
    #[error(
        "spec.backend.movedFrom says that records are to come from `{from}`: bring them with \
         `watchword store migrate` or `restore`, or take it away for a new store"
    )]
    ToBeFilled { from: Location },
}

impl PlaceError {
    /// A word for programs.
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) | Self::Backend { .. } => "OutOfReach",
            Self::Elsewhere { .. } | Self::Older { .. } | Self::ToBeFilled { .. } => "NotMoved",
            Self::Several => "SeveralReplicas",
            Self::Stranger { .. } => "AnotherStore",
            _ => "Invalid",
        }
    }

    /// What a client hears.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Api(_) | Self::Backend { .. } => {
                Failure::unavailable("cannot tell where the records are to lie", self)
            }
            _ => Failure::new(ErrorCode::Conflict, Chain(self).to_string()),
        }
    }
}

impl Place {
    /// Waits until records may be kept where the settings say, and opens that place; `None` at a
    /// shutdown. `digest` is a file with name and password of the owner of a ZooKeeper's nodes.
    pub(super) async fn settle(
        shared: &Shared,
        digest: Option<&Path>,
    ) -> Option<(Self, AnyBackend)> {
        let condition = shared.readiness.condition("backend");
        loop {
            match settle_now(shared, digest).await {
                Ok(settled) => {
                    info!(place = %settled.0.location, "the records lie here");
                    condition.met();
                    return Some(settled);
                }
                // It says so in the log, too, whenever the reason changes.
                Err(error) => condition.unmet(Chain(&error).to_string()),
            }
            tokio::select! {
                () = shared.shutdown.requested() => return None,
                () = sleep(SETTLE_INTERVAL) => {}
            }
        }
    }

    /// Writes the place down because it is about to get its first records.
    ///
    /// # Errors
    ///
    /// The settings name another place by now, or say that this one is filled in another way.
    pub(super) async fn claim(
        &self,
        settings: Option<&SecretStore>,
        filling: Filling,
    ) -> Result<(), PlaceError> {
        let Wanted { location, moved_from } = Wanted::of(settings, &self.namespace)?;
        if !location.is_same_place(&self.location) {
            return Err(PlaceError::Elsewhere {
                recorded: self.location.clone(),
                wanted: location,
            });
        }
        match moved_from {
            Some(from) if filling == Filling::New => Err(PlaceError::ToBeFilled { from }),
            _ => self.record().await,
        }
    }

    /// Writes down that the store here is the one with this key of its audit log: it was made just
    /// now, whatever was here before.
    pub(super) async fn belongs_to(&self, audit_key: PublicKey) -> Result<(), PlaceError> {
        self.write_audit_key(|_| audit_key.to_string()).await.map(drop)
    }

    /// Makes sure that the store here, with this key of its audit log, is the one that has been here
    /// all along; the first one that is opened is.
    ///
    /// # Errors
    ///
    /// `Stranger` if it is another one.
    pub(super) async fn vouch_for(&self, audit_key: PublicKey) -> Result<(), PlaceError> {
        let found = audit_key.to_string();
        let known = self
            .write_audit_key(|known| known.map_or_else(|| found.clone(), str::to_owned))
            .await?;
        match known == found {
            true => Ok(()),
            false => Err(PlaceError::Stranger { place: self.location.clone(), known, found }),
        }
    }

    /// Writes down which store is in this place, given the one that is written down already, and
    /// returns it; however often others are faster.
    async fn write_audit_key(
        &self,
        choose: impl Fn(Option<&str>) -> String,
    ) -> Result<String, PlaceError> {
        loop {
            self.record().await?;
            // Somebody may remove it in between.
            let Some((_, mut lease)) = recorded(&self.leases).await? else { continue };
            let annotations = lease.metadata.annotations.get_or_insert_default();
            let before = annotations.get(AUDIT_KEY);
            let chosen = choose(before.map(String::as_str));
            if before == Some(&chosen) {
                return Ok(chosen);
            }
            annotations.insert(AUDIT_KEY.to_owned(), chosen.clone());
            let parameters = PostParams::default();
            match self.leases.replace(names::STORE_BACKEND, &parameters, &lease).await {
                Ok(_) => return Ok(chosen),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes this place down, unless it is; `Elsewhere` if another one is.
    async fn record(&self) -> Result<(), PlaceError> {
        match recorded(&self.leases).await? {
            None => write(&self.leases, None, &self.location).await,
            Some((recorded, _)) if recorded.is_same_place(&self.location) => Ok(()),
            Some((recorded, _)) => {
                Err(PlaceError::Elsewhere { recorded, wanted: self.location.clone() })
            }
        }
    }
}

/// Looks after the place until the shutdown.
///
/// # Errors
///
/// The place to begin again at: this replica must not go on where it is.
pub(super) async fn keep(service: &Service, shutdown: &Shutdown) -> Result<(), Moved> {
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(INTERVAL) => {}
        }
        let Ok(looked) = timeout(LIMIT, look(service)).await else {
            warn!("it takes too long to look after the place of the records");
            continue;
        };
        match looked {
            Ok(None) => {}
            Ok(Some(to)) => {
                let from = service.place.location.clone();
                return Err(Moved { from, to });
            }
            Err(error) => {
                warn!(error = %Chain(&error), "cannot look after the place of the records");
            }
        }
    }
}

/// Where this replica has to begin again.
#[derive(Debug, thiserror::Error)]
#[error("the records lie in `{to}` and not in `{from}` any more: this replica begins again there")]
pub struct Moved {
    from: Location,
    to: Location,
}

/// The place to go to, if not this one.
async fn look(service: &Service) -> Result<Option<Location>, PlaceError> {
    let place = &service.place;
    let own = &place.location;
    // Without settings nobody says anything; they may not be known yet.
    let Some(settings) = service.settings() else { return Ok(None) };
    let wanted = Wanted::of(Some(&settings), &place.namespace);
    match recorded(&place.leases).await? {
        Some((recorded, _)) if !recorded.is_same_place(own) => return Ok(Some(recorded)),
        // Somebody has removed the Lease since the store was opened.
        Some((_, lease)) if !lease.annotations().contains_key(AUDIT_KEY) => {
            // Sealed, it is not known any more which store lies here.
            let audit_key = service.audit.public_key().filter(|_| !service.store.is_sealed());
            if let Some(audit_key) = audit_key {
                place.vouch_for(audit_key).await?;
            }
        }
        Some(_) => {}
        None if is_filled(own, service.store.backend()).await? => place.record().await?,
        None => match &wanted {
            Ok(wanted) if wanted.location != *own => return Ok(Some(wanted.location.clone())),
            _ => {}
        },
    }
    if service.seal.leads() {
        let held = match wanted {
            Ok(wanted) if !wanted.location.is_same_place(own) => {
                Err(PlaceError::Elsewhere { recorded: own.clone(), wanted: wanted.location })
            }
            Ok(wanted) => alone(&service.client, &place.namespace, &wanted.location).await,
            Err(error) => Err(error),
        };
        tell(&service.client, &settings, held.as_ref().map(|()| own)).await?;
    }
    Ok(None)
}

/// What the settings say.
#[derive(Debug, Eq, PartialEq)]
struct Wanted {
    location: Location,
    moved_from: Option<Location>,
}

impl Wanted {
    fn of(settings: Option<&SecretStore>, namespace: &str) -> Result<Self, PlaceError> {
        let here = || Location::Kubernetes { namespace: namespace.to_owned() };
        let backend = settings.and_then(|settings| settings.spec.backend.clone());
        let backend = backend.unwrap_or_default();
        let location = match (backend.file, backend.zookeeper) {
            (Some(file), _) => Location::File(file.path.into()),
            (None, Some(zookeeper)) => zookeeper.address.parse().map_err(PlaceError::Settings)?,
            (None, None) => here(),
        };
        let moved_from = match backend.moved_from.as_deref() {
            None => None,
            Some("kubernetes") => Some(here()),
            Some(text) => Some(text.parse().map_err(PlaceError::Settings)?),
        };
        Ok(Self { location, moved_from })
    }

    /// Whether records may be kept there, while they are known to lie in `recorded`.
    fn follows(&self, recorded: &Location) -> bool {
        self.location.is_same_place(recorded)
            || self.moved_from.as_ref().is_some_and(|from| from.is_same_place(recorded))
    }
}

async fn settle_now(
    shared: &Shared,
    digest: Option<&Path>,
) -> Result<(Place, AnyBackend), PlaceError> {
    let stores: Api<SecretStore> = Api::all(shared.client.clone());
    // The right to `list` is there for the watch.
    let stores = stores.list(&ListParams::default()).await?.items;
    let settings = stores.into_iter().find(|store| store.name_any() == names::DEFAULT_STORE);
    let settled = settle_as(shared, settings.as_ref(), digest).await;
    if let (Some(settings), Err(error)) = (&settings, &settled)
        && let Err(untold) = tell(&shared.client, settings, Err(error)).await
    {
        warn!(error = %Chain(&untold), "cannot write the status of the SecretStore");
    }
    settled
}

async fn settle_as(
    shared: &Shared,
    settings: Option<&SecretStore>,
    digest: Option<&Path>,
) -> Result<(Place, AnyBackend), PlaceError> {
    let namespace = &shared.namespace;
    let wanted = Wanted::of(settings, namespace)?;
    alone(&shared.client, namespace, &wanted.location).await?;
    let leases: Api<Lease> = Api::namespaced(shared.client.clone(), namespace);
    let (known, lease) = match recorded(&leases).await? {
        Some((known, lease)) => (Some(known), Some(lease)),
        None => (before_leases(shared).await?, None),
    };
    if let Some(recorded) = known.as_ref().filter(|recorded| !wanted.follows(recorded)) {
        return Err(PlaceError::Elsewhere { recorded: recorded.clone(), wanted: wanted.location });
    }
    let backend = open(&wanted.location, shared, digest)?;
    if let (Some(from), place @ Location::Kubernetes { .. }) = (&known, &wanted.location)
        && !place.is_same_place(from)
        && is_filled(place, &backend).await?
    {
        return Err(PlaceError::Older { place: place.clone(), from: from.clone() });
    }
    let is_written = lease.is_some() && known.as_ref() == Some(&wanted.location);
    // A place without records is written down when it gets some, unless it follows another one.
    if !is_written && (known.is_some() || is_filled(&wanted.location, &backend).await?) {
        write(&leases, lease, &wanted.location).await?;
    }
    let place = Place { location: wanted.location, leases, namespace: namespace.clone() };
    Ok((place, backend))
}

/// The place of a store that was there before places were written down.
async fn before_leases(shared: &Shared) -> Result<Option<Location>, PlaceError> {
    let here = Location::Kubernetes { namespace: shared.namespace.clone() };
    let records = KubernetesBackend::new(shared.client.clone(), &shared.namespace);
    Ok(is_filled(&here, &records).await?.then_some(here))
}

/// Whether there is a store at this place.
async fn is_filled(place: &Location, backend: &impl Backend) -> Result<bool, PlaceError> {
    let keyring = backend.get(&ObjectName::keyring()).await;
    let keyring = keyring.map_err(|source| PlaceError::Backend { place: place.clone(), source })?;
    Ok(keyring.is_some())
}

fn open(
    location: &Location,
    shared: &Shared,
    digest: Option<&Path>,
) -> Result<AnyBackend, PlaceError> {
    if let Location::Kubernetes { namespace } = location {
        let client = shared.client.clone();
        let backend = KubernetesBackend::watching(client, namespace, WATCHED_BYTES);
        return Ok(AnyBackend::Kubernetes(backend));
    }
    let zookeeper = match (location, digest) {
        (Location::ZooKeeper { .. }, Some(file)) => Some(read_digest(file)?),
        _ => None,
    };
    Ok(location.open(Access { kubernetes: None, zookeeper })?)
}

fn read_digest(file: &Path) -> Result<Digest, PlaceError> {
    let text = fs::read_to_string(file)
        .map_err(|source| PlaceError::Read { file: file.to_owned(), source })?;
    let text = Zeroizing::new(text);
    Digest::parse(text.trim_end()).ok_or_else(|| PlaceError::Digest(file.to_owned()))
}

/// Refuses a file where the Deployment could have two replicas at it, if only during a rollout.
/// Without a Deployment, as in development, there is one.
async fn alone(client: &Client, namespace: &str, location: &Location) -> Result<(), PlaceError> {
    if !matches!(location, Location::File(_)) {
        return Ok(());
    }
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let Some(deployment) = deployments.get_opt(names::STORE).await? else { return Ok(()) };
    match deployment.spec.is_some_and(|spec| {
        let strategy = spec.strategy.and_then(|strategy| strategy.type_);
        spec.replicas.unwrap_or(1) <= 1 && strategy.as_deref() == Some("Recreate")
    }) {
        true => Ok(()),
        false => Err(PlaceError::Several),
    }
}

/// The place that is written down, and the Lease that says so.
async fn recorded(leases: &Api<Lease>) -> Result<Option<(Location, Lease)>, PlaceError> {
    let Some(lease) = leases.get_opt(names::STORE_BACKEND).await? else { return Ok(None) };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    match holder.unwrap_or_default().parse() {
        Ok(location) => Ok(Some((location, lease))),
        Err(error) => Err(PlaceError::Lease(error)),
    }
}

/// Writes a place down where `before` was; fails if somebody else was faster.
async fn write(
    leases: &Api<Lease>,
    before: Option<Lease>,
    place: &Location,
) -> Result<(), PlaceError> {
    let spec = LeaseSpec { holder_identity: Some(place.to_string()), ..LeaseSpec::default() };
    let parameters = PostParams::default();
    match before {
        Some(before) => {
            let lease = Lease { spec: Some(spec), ..before };
            leases.replace(names::STORE_BACKEND, &parameters, &lease).await?;
        }
        None => {
            let metadata =
                ObjectMeta { name: Some(names::STORE_BACKEND.to_owned()), ..ObjectMeta::default() };
            leases.create(&parameters, &Lease { metadata, spec: Some(spec) }).await?;
        }
    }
    info!(%place, "wrote down where the records lie");
    Ok(())
}

/// Says in the SecretStore's status whether, and where, records are kept as it asks.
async fn tell(
    client: &Client,
    settings: &SecretStore,
    held: Result<&Location, &PlaceError>,
) -> Result<(), kube::Error> {
    let (status, message) = match held {
        Ok(place) => (("True", "InUse"), format!("the records lie in `{place}`")),
        Err(error) => (("False", error.reason()), Chain(error).to_string()),
    };
    let condition = report::condition(settings, CONDITION, status, message);
    report::write_condition(client, settings, condition).await
}

const CONDITION: &str = "BackendInUse";

/// The annotation of the Lease with the key of the audit log.
const AUDIT_KEY: &str = "watchword.dev/audit-key";

/// How often a replica that serves looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long one look may take: what hangs must not keep this replica where the records are no more.
const LIMIT: Duration = Duration::from_secs(30);

/// How often one that waits does.
const SETTLE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn wanted(backend: &Value) -> Result<Wanted, PlaceError> {
        let spec = serde_json::from_value(json!({"backend": backend})).unwrap();
        Wanted::of(Some(&SecretStore::new(names::DEFAULT_STORE, spec)), "watchword-system")
    }

    #[rstest]
    #[case(json!(null), "kubernetes:watchword-system")]
    #[case(json!({"kubernetes": {}}), "kubernetes:watchword-system")]
    #[case(json!({"file": {"path": "/data/store"}}), "file:/data/store")]
    #[case(json!({"zookeeper": {"address": "zookeeper://zk:2181/w"}}), "zookeeper://zk:2181/w")]
    fn the_settings_name_a_place(#[case] backend: Value, #[case] place: &str) {
        assert_eq!(wanted(&backend).unwrap().location.to_string(), place);
    }

    #[test]
    fn without_settings_records_are_in_the_namespace_of_the_store() {
        let wanted = Wanted::of(None, "elsewhere").unwrap();

        assert_eq!(wanted.location, Location::Kubernetes { namespace: "elsewhere".to_owned() });
    }

    #[rstest]
    #[case::the_same(json!({"kubernetes": {}}), true)]
    #[case::another(json!({"file": {"path": "/data/store"}}), false)]
    #[case::moved(json!({"file": {"path": "/data/store"}, "movedFrom": "kubernetes"}), true)]
    #[case::moved_from_elsewhere(
        json!({"file": {"path": "/data/store"}, "movedFrom": "zookeeper://zk:2181/w"}),
        false
    )]
    fn records_are_followed_only_if_the_settings_say_where_they_come_from(
        #[case] backend: Value,
        #[case] follows: bool,
    ) {
        let recorded = Location::Kubernetes { namespace: "watchword-system".to_owned() };

        assert_eq!(wanted(&backend).unwrap().follows(&recorded), follows);
    }

    #[rstest]
    #[case(json!({"zookeeper": {"address": "zookeeper://zk:2181"}}))]
    #[case(json!({"kubernetes": {}, "movedFrom": "somewhere"}))]
    fn what_is_no_place_is_refused(#[case] backend: Value) {
        assert!(matches!(wanted(&backend), Err(PlaceError::Settings(_))));
    }

    #[test]
    fn the_password_is_read_from_a_file_with_or_without_a_newline() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("digest");
        for (text, is_good) in [("me:secret\n", true), ("me:secret", true), ("me\n", false)] {
            fs::write(&file, text).unwrap();

            assert_eq!(read_digest(&file).is_ok(), is_good, "{text:?}");
        }
        let missing = read_digest(&folder.path().join("none")).err().unwrap();
        assert!(missing.to_string().contains("none"));
    }
}
