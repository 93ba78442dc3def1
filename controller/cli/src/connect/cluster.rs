//! The way to the store through a cluster: as kubectl goes there, with nothing exposed.
//!
//! ```text
//! kubeconfig ─► ConfigMap watchword-ca: the authority to know the store by
//!            ─► Service watchword-store ─► its pods ─► one that is ready, or runs at least
//!            ─► port-forward to it ─► TLS inside, with the Service's name
//! ```
//!
//! The API server and the node pass bytes that they cannot read. The person needs `get` on the
//! ConfigMap and the Service, `list` on pods, and `get` and `create` on `pods/portforward`, all in
//! Watchword's namespace.

use std::{path::Path, time::Duration};

use http::StatusCode;
use k8s_openapi::{
    api::core::v1::{ConfigMap, ContainerState, Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;
use watchword_crds::names;

use super::{Connection, Error, Pods, identity, open, roots, tls};
use crate::output::chain;

/// Connects to a pod of the store that runs in `namespace`.
pub(super) async fn connect(
    context: Option<String>,
    kubeconfig: Option<&Path>,
    namespace: &str,
    which: Pods,
) -> Result<Connection, Error> {
    let mut config = configure(context, kubeconfig).await?;
    let identity = identity::identify(&mut config).await?;
    let client = client_of(config)?;

    let authority = timeout(CALL_TIME, read_authority(&client, namespace))
        .await
        .map_err(|_| ClusterError::TimedOut)??;
    let Chosen { pod, port, is_ready } = timeout(CALL_TIME, find_pod(&client, namespace, which))
        .await
        .map_err(|_| ClusterError::TimedOut)??;

    let pods = Api::<Pod>::namespaced(client, namespace);
    let mut forward = timeout(CALL_TIME, pods.portforward(&pod, &[port]))
        .await
        .map_err(|_| ClusterError::TimedOut)?
        .map_err(|error| refused(&format!("forward a port to pod `{pod}`"), namespace, &error))?;
    let broken = || ClusterError::Forward { pod: pod.clone(), reason: "it has no stream".into() };
    let stream = forward.take_stream(port).ok_or_else(broken)?;
    let failure = forward.take_error(port).ok_or_else(broken)?;

    let roots = roots(authority.as_bytes(), &format!("ConfigMap `{}`", names::CA))?;
    let tls = tls(roots, identity.certificate);
    let name = format!("{}.{namespace}.svc", names::STORE);
    let opened = open(stream, tls, &name, name.clone(), identity.authorization).await;
    match opened {
        Ok(connection) if is_ready => Ok(connection),
        Ok(connection) => Ok(Connection { note: Some(unready(namespace, &pod)), ..connection }),
        // The stream only ends; why, is said beside it, a moment later at most.
        Err(error) => match timeout(Duration::from_millis(500), failure).await {
            Ok(Some(reason)) => Err(ClusterError::Forward { pod, reason }.into()),
            _ => Err(error),
        },
    }
}

/// A client of the cluster's API server, as kubectl is one.
pub(super) async fn client(
    context: Option<String>,
    kubeconfig: Option<&Path>,
) -> Result<Client, Error> {
    Ok(client_of(configure(context, kubeconfig).await?)?)
}

fn client_of(mut config: Config) -> Result<Client, ClusterError> {
    // A person waits: kube's retries, of up to minutes, are for programs.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ClusterError::Client { reason: said(&error) })
}

/// The configuration that kubectl would use; without any, that of the pod this runs in.
async fn configure(
    context: Option<String>,
    kubeconfig: Option<&Path>,
) -> Result<Config, ClusterError> {
    let anywhere = context.is_none() && kubeconfig.is_none();
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let loaded = match kubeconfig {
        None => Config::from_kubeconfig(&options).await,
        Some(path) => match Kubeconfig::read_from(path) {
            Err(error) => Err(error),
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
        },
    };
    loaded.or_else(|error| match Config::incluster() {
        Ok(config) if anywhere => Ok(config),
        _ => Err(ClusterError::Kubeconfig { reason: explain(&error) }),
    })
}

/// What is wrong with a kubeconfig, without lines of it: they may hold a token.
fn explain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => format!("it is not valid: {}", error.without_snippet()),
        error => chain(error),
    }
}

async fn read_authority(client: &Client, namespace: &str) -> Result<String, ClusterError> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let action = format!("read ConfigMap `{}`", names::CA);
    let map = maps.get(names::CA).await.map_err(|error| refused(&action, namespace, &error))?;
    map.data
        .and_then(|mut data| data.remove(names::CA_CERTIFICATE_KEY))
        .ok_or(ClusterError::NoAuthority)
}

/// What is said of a pod that answers and is not ready, and where it says what it lacks.
fn unready(namespace: &str, pod: &str) -> String {
    format!(
        "no pod of the store is ready: `{pod}` answers, which only runs\n\
         see why with `kubectl -n {namespace} logs {pod}`, or with `kubectl -n {namespace} \
         port-forward {pod} {HEALTH_PORT}` and `curl localhost:{HEALTH_PORT}/readyz`"
    )
}

async fn find_pod(client: &Client, namespace: &str, which: Pods) -> Result<Chosen, ClusterError> {
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let action = format!("read Service `{}`", names::STORE);
    let service =
        services.get(names::STORE).await.map_err(|error| refused(&action, namespace, &error))?;
    let selector = selector(&service).ok_or(ClusterError::NoSelector)?;
    let pods = Api::<Pod>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(|error| refused("list the pods of the store", namespace, &error))?
        .items;
    choose(&service, &pods, which).ok_or_else(|| ClusterError::NotReady {
        namespace: namespace.to_owned(),
        pods: pods.len(),
        selector,
    })
}

/// The Service's selector as kubectl writes it: `a=b,c=d`.
fn selector(service: &Service) -> Option<String> {
    let labels = service.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(pairs.join(","))
}

/// A pod, and the port of it that the Service leads to.
#[derive(Debug, Eq, PartialEq)]
struct Chosen {
    pod: String,
    port: u16,
    is_ready: bool,
}

fn choose(service: &Service, pods: &[Pod], which: Pods) -> Option<Chosen> {
    let ready = pods.iter().find(|pod| is_ready(pod));
    let running = || pods.iter().find(|pod| which == Pods::Running && is_running(pod));
    let pod = ready.or_else(running)?;
    Some(Chosen {
        pod: pod.metadata.name.clone()?,
        port: target_port(service, pod),
        is_ready: ready.is_some(),
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether all its containers run at this moment, as those of a pod that crashes do not for long.
fn is_running(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && containers.is_some_and(|containers| {
            let runs = |state: &ContainerState| state.running.is_some();
            containers.iter().all(|container| container.state.as_ref().is_some_and(runs))
        })
}

fn target_port(service: &Service, pod: &Pod) -> u16 {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let target = ports
        .iter()
        .find(|port| port.port == i32::from(names::SERVICE_PORT))
        .and_then(|port| port.target_port.as_ref());
    let number = match target {
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named_port(pod, name),
        None => None,
    };
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(names::TLS_PORT)
}

fn named_port(pod: &Pod, name: &str) -> Option<i32> {
    let containers = pod.spec.as_ref()?.containers.iter();
    containers
        .flat_map(|container| container.ports.as_deref().unwrap_or_default())
        .find(|port| port.name.as_deref() == Some(name))
        .map(|port| port.container_port)
}

/// A failed call to the API server.
fn refused(action: &str, namespace: &str, error: &kube::Error) -> ClusterError {
    let status = match error {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    };
    ClusterError::Refused {
        action: action.to_owned(),
        namespace: namespace.to_owned(),
        reason: said(error),
        status,
    }
}

/// What kube has to say, less the debugging output that it adds to an answer of the API server.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        // `service error: …` names kube's own machinery; what is inside names the server.
        kube::Error::Service(cause) => chain(cause.as_ref()),
        error => chain(error),
    }
}

/// Why the store of a cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("cannot make a client of the kubeconfig: {reason}")]
    Client { reason: String },
    #[error("cannot forward a port to pod `{pod}`: {reason}")]
    Forward { pod: String, reason: String },
    #[error("cannot use the kubeconfig: {reason}")]
    Kubeconfig { reason: String },
    #[error("ConfigMap `{}` has no `{}`", names::CA, names::CA_CERTIFICATE_KEY)]
    NoAuthority,
    #[error("Service `{}` selects no pods", names::STORE)]
    NoSelector,
    #[error("none of the store's {pods} pods in namespace `{namespace}` is ready")]
    NotReady { namespace: String, pods: usize, selector: String },
    #[error("cannot {action} in namespace `{namespace}`: {reason}")]
    Refused { action: String, namespace: String, reason: String, status: Option<StatusCode> },
    #[error("the API server does not answer in time")]
    TimedOut,
}

impl ClusterError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig { .. } => Some(
                "set KUBECONFIG or give --kubeconfig; --address needs no kubeconfig".to_owned(),
            ),
            Self::NotReady { namespace, selector, .. } => Some(format!(
                "see why with `kubectl -n {namespace} describe pods -l {selector}` and \
                     `kubectl -n {namespace} logs -l {selector}`; `watchword store status` asks a \
                     pod that only runs"
            )),
            Self::Refused { status: Some(StatusCode::NOT_FOUND), .. } => {
                Some("if Watchword runs elsewhere, say where with --system-namespace".to_owned())
            }
            Self::Refused { status: Some(StatusCode::UNAUTHORIZED), .. } => {
                Some("`kubectl auth whoami` shows whether kubectl knows you".to_owned())
            }
            Self::Refused { status: None, .. } | Self::TimedOut => {
                Some("`kubectl cluster-info` shows whether kubectl reaches the cluster".to_owned())
            }
            Self::Refused { status: Some(StatusCode::FORBIDDEN), .. } => Some(
                "the way leads through a port-forward; who may not have one can use --address"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Where a pod says why it is not ready, to who is let in: see the manifests.
const HEALTH_PORT: u16 = 8080;

/// How long one call to the API server may take.
const CALL_TIME: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
