//! Caches: what the controller watches, kept as small as its decisions need.
//!
//! Each cache is a watch whose events also trigger a reconcile of the definition that they belong
//! to. Objects lose what nobody here reads: managed fields, annotations, pod specs but for the
//! revision that they name and the authorities that they know.

use std::fmt::Debug;
use std::future;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt as _, controller, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::warn;
use watchword_core::claim::{adopts, controller_of};
use watchword_crds::{Space, TaskDefinition, TaskRevision, names};
use watchword_protocol::env_names;

use crate::chain::Chain;
use crate::follow::filled;

/// A definition, or what is left of one that cannot be read: one broken object must not stall the
/// watch of all others.
pub(super) type Guarded = DeserializeGuard<TaskDefinition>;

/// The caches; empty until [`Caches::ready`].
pub(super) struct Caches {
    /// Injected pods without our definition label: adopted ones.
    adopted: Store<Pod>,
    pub(super) cron_jobs: Store<CronJob>,
    pub(super) definitions: Store<Guarded>,
    pub(super) deployments: Store<Deployment>,
    pub(super) jobs: Store<Job>,
    /// Pods with our definition label.
    labelled: Store<Pod>,
    pub(super) revisions: Store<TaskRevision>,
    pub(super) spaces: Store<Space>,
}

/// The caches and the controller that fills them while it runs. `again` names definitions that are
/// to be reconciled although none of their objects changed.
pub(super) fn caches(
    client: &Client,
    again: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
) -> (Caches, Controller<Guarded>) {
    let all = watcher::Config::default();
    let labelled = all.clone().labels(names::TASK_DEFINITION_LABEL);
    let adopted = all.clone().labels(&format!(
        "{}={},!{}",
        names::INJECT_LABEL,
        names::INJECT_VALUE,
        names::TASK_DEFINITION_LABEL
    ));

    let (definitions, definition_events) = cached(Api::all(client.clone()), all.clone(), |one| {
        slim_metadata(Guarded::meta_mut(one));
    });
    let (revisions, revision_events) =
        cached(Api::<TaskRevision>::all(client.clone()), all.clone(), slim);
    let (deployments, deployment_events) =
        cached(Api::<Deployment>::all(client.clone()), labelled.clone(), |one| {
            slim(one);
            if let Some(spec) = &mut one.spec {
                spec.template.spec = None;
            }
        });
    let (jobs, job_events) = cached(Api::<Job>::all(client.clone()), labelled.clone(), |one| {
        slim(one);
        if let Some(spec) = &mut one.spec {
            spec.template.spec = None;
        }
    });
    let (cron_jobs, cron_job_events) =
        cached(Api::<CronJob>::all(client.clone()), labelled.clone(), |one| {
            slim(one);
            one.spec = None;
        });
    let (labelled, labelled_events) = cached(Api::<Pod>::all(client.clone()), labelled, slim_pod);
    let (adopted, adopted_events) = cached(Api::<Pod>::all(client.clone()), adopted, slim_pod);
    let (spaces, space_events) = cached(Api::<Space>::all(client.clone()), all, slim);

    let of_pod = definitions.clone();
    let of_adopted = definitions.clone();
    let of_space = definitions.clone();
    let config = controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    let controller = Controller::for_stream(definition_events, definitions.clone())
        .with_config(config)
        .watches_stream(revision_events, |one| owner_of(one.meta()))
        .watches_stream(deployment_events, |one| owner_of(one.meta()))
        .watches_stream(job_events, |one| owner_of(one.meta()).or_else(|| labelled_of(one.meta())))
        .watches_stream(cron_job_events, |one| owner_of(one.meta()))
        .watches_stream(labelled_events, move |pod| {
            adopting(&of_pod, &pod).into_iter().chain(labelled_of(pod.meta())).collect::<Vec<_>>()
        })
        .watches_stream(adopted_events, move |pod| adopting(&of_adopted, &pod))
        .watches_stream(space_events, move |_| {
            // A Space says who owns ids: any definition may have won or lost its own.
            of_space.state().iter().map(|one| reference(one.meta())).collect::<Vec<_>>()
        })
        .reconcile_on(futures::stream::unfold(again, async |mut again| {
            again.recv().await.map(|reference| (reference, again))
        }));
    let caches =
        Caches { adopted, cron_jobs, definitions, deployments, jobs, labelled, revisions, spaces };
    (caches, controller)
}

impl Caches {
    /// Returns when every cache holds what the API server has; until then nothing may be decided.
    pub(super) async fn ready(&self) {
        let Self {
            adopted,
            cron_jobs,
            definitions,
            deployments,
            jobs,
            labelled,
            revisions,
            spaces,
        } = self;
        // An error means that the writers are gone, and with them the controller.
        _ = tokio::join!(
            filled(adopted),
            filled(cron_jobs),
            filled(definitions),
            filled(deployments),
            filled(jobs),
            filled(labelled),
            filled(revisions),
            filled(spaces),
        );
    }

    /// Caches that hold these objects and are filled by nobody.
    #[cfg(test)]
    pub(super) fn holding(objects: Held) -> Self {
        use crate::follow::holding as store;
        let Held { definitions, deployments, jobs, pods, revisions } = objects;
        Self {
            adopted: store(Vec::new()),
            cron_jobs: store(Vec::new()),
            definitions: store(definitions.into_iter().map(|one| DeserializeGuard(Ok(one)))),
            deployments: store(deployments),
            jobs: store(jobs),
            labelled: store(pods),
            revisions: store(revisions),
            spaces: store(Vec::new()),
        }
    }

    /// The pods of a namespace that are or may be Watchword's concern.
    pub(super) fn pods(&self, namespace: &str) -> Vec<std::sync::Arc<Pod>> {
        let within = |pod: &Pod| pod.metadata.namespace.as_deref() == Some(namespace);
        let mut pods = self.labelled.state_filter(within);
        pods.extend(self.adopted.state_filter(within));
        pods
    }
}

/// What caches hold in a test.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Held {
    pub(super) definitions: Vec<TaskDefinition>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) jobs: Vec<Job>,
    pub(super) pods: Vec<Pod>,
    pub(super) revisions: Vec<TaskRevision>,
}

/// The names of the definitions that adopt this pod: of its namespace, and no others than its label
/// says, if it has one.
pub(super) fn adopters(definitions: &Store<Guarded>, pod: &Pod) -> Vec<String> {
    let labels = pod.labels();
    if labels.get(names::INJECT_LABEL).map(String::as_str) != Some(names::INJECT_VALUE) {
        return Vec::new();
    }
    let named = labels.get(names::TASK_DEFINITION_LABEL);
    definitions
        .state()
        .iter()
        .filter_map(|one| one.0.as_ref().ok())
        .filter(|one| one.metadata.namespace == pod.metadata.namespace)
        .filter(|one| named.is_none_or(|named| Some(named) == one.metadata.name.as_ref()))
        .filter(|one| adopts(one, labels))
        .map(|one| one.name_any())
        .collect()
}

fn adopting(definitions: &Store<Guarded>, pod: &Pod) -> Vec<ObjectRef<Guarded>> {
    let namespace = pod.namespace().unwrap_or_default();
    let names = adopters(definitions, pod).into_iter();
    names.map(|name| ObjectRef::new(&name).within(&namespace)).collect()
}

/// The key of a definition with this metadata.
pub(super) fn reference(metadata: &ObjectMeta) -> ObjectRef<Guarded> {
    let name = metadata.name.as_deref().unwrap_or_default();
    ObjectRef::new(name).within(metadata.namespace.as_deref().unwrap_or_default())
}

fn owner_of(metadata: &ObjectMeta) -> Option<ObjectRef<Guarded>> {
    let owner = controller_of(metadata).filter(|owner| {
        owner.kind == "TaskDefinition" && owner.api_version.starts_with(names::GROUP)
    })?;
    Some(ObjectRef::new(&owner.name).within(metadata.namespace.as_deref()?))
}

fn labelled_of(metadata: &ObjectMeta) -> Option<ObjectRef<Guarded>> {
    let name = metadata.labels.as_ref()?.get(names::TASK_DEFINITION_LABEL)?;
    Some(ObjectRef::new(name).within(metadata.namespace.as_deref()?))
}

/// A watch as a cache and the events that it was filled from, deletions among them.
fn cached<K>(
    api: Api<K>,
    config: watcher::Config,
    slim: impl FnMut(&mut K) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Clone + Debug + DeserializeOwned + Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config)
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .touched_objects()
        // The watch goes on by itself; passed on, an error would make the controller hold back the
        // events of all other watches too.
        .filter_map(|event| {
            future::ready(match event {
                Err(error) => {
                    let kind = K::kind(&());
                    warn!(%kind, error = %Chain(&error), "cannot watch, trying again");
                    None
                }
                Ok(object) => Some(Ok(object)),
            })
        });
    (store, events)
}

fn slim<K: Resource>(object: &mut K) {
    slim_metadata(object.meta_mut());
}

fn slim_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
}

/// Leaves of a pod what says whose it is, how it fares, which revision it names and which
/// authorities it knows.
fn slim_pod(pod: &mut Pod) {
    slim(pod);
    let slim_containers = |containers: Vec<Container>| -> Vec<Container> {
        containers
            .into_iter()
            .map(|container| Container {
                env: container.env.map(|mut env| {
                    env.retain(|one| READ_VARIABLES.contains(&one.name.as_str()));
                    env
                }),
                name: container.name,
                ..Container::default()
            })
            .collect()
    };
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        containers: slim_containers(spec.containers),
        init_containers: spec.init_containers.map(slim_containers),
        ..PodSpec::default()
    });
}

/// The variables of containers that are read here.
const READ_VARIABLES: [&str; 2] = [env_names::WATCHWORD_CA, env_names::WATCHWORD_REVISION];

/// How many definitions are reconciled at once.
const CONCURRENCY: u16 = 8;

/// Events of one definition within this time are one: a rollout comes in bursts.
const DEBOUNCE: Duration = Duration::from_millis(200);
