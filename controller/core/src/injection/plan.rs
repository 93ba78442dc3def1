//! Deciding what a pod gets. The plan is data; making it has no effect.

use watchword_crds::task_revision::TaskRevisionSpec;
use watchword_protocol::PlannedFile;

use super::Denial;
use super::strip::unwrap_command;
use super::view::{ContainerView, PodView, SpecView};
use crate::container_name::container_names;
use crate::wanted::{FileWant, Wanted, secrets_of};

/// What the webhook does to one pod.
#[derive(Clone, Debug)]
pub struct InjectionPlan {
    /// One entry for each container that gets secrets: init containers first, in pod order. The
    /// position in this list numbers the container's volumes.
    pub containers: Vec<ContainerInjection>,
    /// The init containers that write files, one for each identity that owns some.
    pub writers: Vec<FilesContainer>,
    /// The user that the init container with the agent runs as; `None` for the image's own.
    pub install_user: Option<i64>,
    /// The revision that containers name in their spec.
    pub revision: String,
    /// Admission warnings.
    pub warnings: Vec<String>,
}

/// What one container gets.
#[derive(Clone, Debug)]
pub struct ContainerInjection {
    /// The container's name.
    pub container: String,
    /// Whether it starts through the agent, because it wants variables.
    pub wraps: bool,
    /// Whether it has exec probes or hooks, which find the variables in a file.
    pub caches_env: bool,
    /// One mount per secret file, in the order of the task definition.
    pub files: Vec<FileMount>,
    /// The volume below which relative paths lie.
    pub sandbox: Option<Sandbox>,
}

/// The sandbox of a container that has secret files in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sandbox {
    /// The pod has this volume at `/mnt/mesos/sandbox` already.
    Existing(String),
    /// The pod has none: it is given one.
    New,
}

/// One secret file of a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileMount {
    /// Its flat name in the volume, its permissions and the place in the sandbox to prepare.
    pub planned: PlannedFile,
    /// Absolute path in the container.
    pub path: String,
    /// Whether the mount refuses writing.
    pub read_only: bool,
}

/// An init container that writes the files of some containers.
#[derive(Clone, Debug)]
pub struct FilesContainer {
    /// Whom the files belong to.
    pub identity: FilesIdentity,
    /// Positions in `InjectionPlan::containers`.
    pub of: Vec<usize>,
}

/// User and group that a container runs as, so far as the pod's spec says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilesIdentity {
    /// `runAsUser`; `None` when only the image knows.
    pub user: Option<i64>,
    /// `runAsGroup`.
    pub group: Option<i64>,
}

/// Decides what the pod gets from `revision`, called `name`, where the store is at `store_url`. The pod
/// has been stripped before.
///
/// # Errors
///
/// A denial when a container has no command to wrap, is missing, or has a mount in the way of a
/// file, and when the pod would not find the store.
pub fn plan(
    pod: &PodView<'_>,
    name: &str,
    revision: &TaskRevisionSpec,
    store_url: &str,
) -> Result<InjectionPlan, Denial> {
    let spec = pod.spec.as_ref().ok_or_else(|| Denial::new("spec: a pod needs one"))?;
    if spec.os.as_ref().is_some_and(|os| &*os.name == "windows") {
        return Err(Denial::new("spec.os: Watchword has no agent for Windows"));
    }
    finds_the_store(spec, store_url)?;
    let wants = wants(spec, revision)?;
    let mut planned = Vec::new();
    for container in spec.all_containers() {
        let Some((_, wanted)) = wants.iter().find(|(wanted, _)| *wanted == *container.name) else {
            continue;
        };
        planned.push(plan_container(spec, container, wanted)?);
    }
    let mut warnings = Vec::new();
    if spec.share_process_namespace == Some(true) {
        warnings.push(
            "spec.shareProcessNamespace: any container of this pod with the same uid can read \
             its secrets"
                .to_owned(),
        );
    }
    Ok(InjectionPlan {
        writers: writers(spec, &planned),
        containers: planned,
        install_user: install_user(spec),
        revision: name.to_owned(),
        warnings,
    })
}

/// In the network of its node a pod asks the node's resolver, which knows no Service: the agent would
/// wait for ever. Only the default is refused; who says `Default` or `None` has chosen a resolver. Where
/// the store has another name than a Service's, that resolver may well know it.
fn finds_the_store(spec: &SpecView<'_>, store_url: &str) -> Result<(), Denial> {
    let host = store_url.strip_prefix("https://").unwrap_or(store_url);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    if !host.split('.').any(|label| label == "svc") {
        return Ok(());
    }
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    if spec.host_network == Some(true) && policy == "ClusterFirst" {
        return Err(Denial::new(
            "spec.dnsPolicy: with `hostNetwork` the pod would ask its node's resolver, which does \
             not know Watchword's store; set `dnsPolicy: ClusterFirstWithHostNet`",
        ));
    }
    Ok(())
}

/// A container of ours never runs as root, and the kubelet does not start one that says so and
/// inherits root from its pod. Whom else a pod names is as good as the image's own user.
fn install_user(spec: &SpecView<'_>) -> Option<i64> {
    let of_pod = spec.security_context.as_ref()?.run_as_user?;
    (of_pod == 0).then_some(AGENT_USER)
}

/// The tasks that want something, by container name; each must be in the pod.
fn wants(
    spec: &SpecView<'_>,
    revision: &TaskRevisionSpec,
) -> Result<Vec<(String, Wanted)>, Denial> {
    let names = container_names(&revision.tasks);
    let wants: Vec<_> = names
        .into_iter()
        .zip(revision.tasks.iter().map(secrets_of))
        .filter(|(_, wanted)| !wanted.is_empty())
        .collect();
    let is_there = |name: &str| spec.all_containers().any(|one| &*one.name == name);
    match wants.iter().find(|(name, _)| !is_there(name)) {
        None => Ok(wants),
        Some((missing, _)) => Err(Denial::new(format!(
            "spec.containers: the task definition `{}` has secrets for a container `{missing}`, \
             which this pod lacks; name a task like the container that it stands for",
            revision.definition
        ))),
    }
}

fn plan_container(
    spec: &SpecView<'_>,
    container: &ContainerView<'_>,
    wanted: &Wanted,
) -> Result<ContainerInjection, Denial> {
    let name = &*container.name;
    let wraps = !wanted.env.is_empty();
    let command = container.command.as_deref().unwrap_or_default();
    if wraps && unwrap_command(command).is_empty() {
        return Err(Denial::new(format!(
            "spec.containers[{name}].command: the agent starts the program in its place, so it \
             must know it; set `command`"
        )));
    }
    let identity = identity(spec, container);
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let files: Vec<FileMount> = wanted
        .files
        .iter()
        .enumerate()
        .map(|(index, file)| FileMount {
            planned: PlannedFile {
                name: index.to_string(),
                mode: mode(identity, group.is_some(), file.read_only),
                sandbox_path: file.path.in_sandbox().map(str::to_owned),
            },
            path: file.path.absolute(),
            read_only: file.read_only,
        })
        .collect();
    free_of_mounts(container, &files)?;
    Ok(ContainerInjection {
        container: name.to_owned(),
        wraps,
        caches_env: wraps && container.execs().next().is_some(),
        sandbox: sandbox(container, &wanted.files),
        files,
    })
}

/// Two mounts on one path are refused by the API server only when they are equal to the letter
/// (`/x` and `/x/` pass, and one hides the other), so compare them normalised.
fn free_of_mounts(container: &ContainerView<'_>, files: &[FileMount]) -> Result<(), Denial> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    for file in files {
        let path = normal(&file.path);
        if let Some(mount) = mounts.iter().find(|mount| normal(&mount.mount_path) == path) {
            return Err(Denial::new(format!(
                "spec.containers[{}].volumeMounts: `{}` hides the secret file of that path; mount \
                 the volume elsewhere",
                &*container.name, &*mount.mount_path
            )));
        }
    }
    Ok(())
}

fn normal(path: &str) -> Vec<&str> {
    path.split('/').filter(|component| !component.is_empty() && *component != ".").collect()
}

fn sandbox(container: &ContainerView<'_>, files: &[FileWant]) -> Option<Sandbox> {
    files.iter().find_map(|file| file.path.in_sandbox())?;
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let existing =
        mounts.iter().find(|mount| normal(&mount.mount_path) == normal(crate::pod::SANDBOX));
    Some(existing.map_or(Sandbox::New, |mount| Sandbox::Existing(mount.name.to_string())))
}

/// Permissions that let the container read, and no more people than need be.
///
/// The writer runs as the container's user where the spec names it: 0400. Else an `fsGroup` that
/// is there anyway lets the group read; else everybody may, which in a volume that no other
/// container mounts means this container.
fn mode(identity: FilesIdentity, has_group: bool, read_only: bool) -> u32 {
    match (identity.user.is_some(), has_group, read_only) {
        (true, _, true) => 0o400,
        (true, _, false) => 0o600,
        (false, true, true) => 0o440,
        (false, true, false) => 0o660,
        (false, false, true) => 0o444,
        (false, false, false) => 0o666,
    }
}

fn identity(spec: &SpecView<'_>, container: &ContainerView<'_>) -> FilesIdentity {
    let own = container.security_context.as_deref();
    let pod = spec.security_context.as_ref();
    FilesIdentity {
        user: own.and_then(|own| own.run_as_user).or(pod.and_then(|pod| pod.run_as_user)),
        group: own.and_then(|own| own.run_as_group).or(pod.and_then(|pod| pod.run_as_group)),
    }
}

/// One writer for each distinct identity, in order of first use.
fn writers(spec: &SpecView<'_>, planned: &[ContainerInjection]) -> Vec<FilesContainer> {
    let mut writers: Vec<FilesContainer> = Vec::new();
    for (index, injection) in planned.iter().enumerate().filter(|(_, one)| !one.files.is_empty()) {
        let container = spec.all_containers().find(|one| *one.name == *injection.container);
        let Some(container) = container else { continue };
        let identity = identity(spec, container);
        match writers.iter_mut().find(|writer| writer.identity == identity) {
            Some(writer) => writer.of.push(index),
            None => writers.push(FilesContainer { identity, of: vec![index] }),
        }
    }
    writers
}

/// The user of our own image, as its Dockerfile has it.
const AGENT_USER: i64 = 65532;
