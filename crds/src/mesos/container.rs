//! The container of a task: image, volumes and what the kernel gives it.

use std::collections::BTreeMap;
use std::fmt;

use super::{Labels, Secret};
use crate::Opaque;

super::messages! {
    /// The container of a task.
    #[derive(Debug)]
    pub struct ContainerInfo {
        /// `MESOS` or `DOCKER`.
        pub r#type: Option<String>,
        /// What is mounted; a volume with a secret source is one file on tmpfs.
        pub volumes: Vec<Volume>,
        /// The host name. Pods have one of their own: no effect here.
        pub hostname: Option<String>,
        /// The image and its options; for type `DOCKER`.
        pub docker: Option<DockerInfo>,
        /// The image; for type `MESOS`.
        pub mesos: Option<MesosInfo>,
        /// Networks to join. Pods are on the cluster's network: no effect here.
        pub network_infos: Vec<NetworkInfo>,
        /// Capabilities, namespaces and the like. No effect here: use `template`.
        pub linux_info: Option<LinuxInfo>,
        /// Limits of the processes. No effect here.
        pub rlimit_info: Option<RLimitInfo>,
        /// Whether a terminal is attached. No effect here.
        pub tty_info: Option<TtyInfo>,
    }

    /// What the container type `MESOS` needs.
    #[derive(Debug)]
    pub struct MesosInfo {
        /// The image.
        pub image: Option<Image>,
    }

    /// What the container type `DOCKER` needs.
    #[derive(Debug)]
    pub struct DockerInfo {
        /// The image's name.
        pub image: Option<String>,
        /// `HOST`, `BRIDGE`, `NONE` or `USER`. No effect here.
        pub network: Option<String>,
        /// Ports; only the container's count here.
        pub port_mappings: Vec<DockerPortMapping>,
        /// Whether to run privileged. No effect here.
        pub privileged: Option<bool>,
        /// Options for `docker run`. No effect here.
        pub parameters: Vec<Parameter>,
        /// Whether to pull the image at every start.
        pub force_pull_image: Option<bool>,
        /// The volume driver. No effect here.
        pub volume_driver: Option<String>,
    }

    /// A port of the host that leads to one of the container.
    #[derive(Debug)]
    pub struct DockerPortMapping {
        /// The host's port.
        pub host_port: Option<i64>,
        /// The container's port.
        pub container_port: Option<i64>,
        /// `tcp` or `udp`.
        pub protocol: Option<String>,
    }

    /// A key and its value.
    #[derive(Debug)]
    pub struct Parameter {
        /// The key.
        pub key: Option<String>,
        /// The value.
        pub value: Option<String>,
    }

    /// Keys and their values.
    #[derive(Debug)]
    pub struct Parameters {
        /// The list.
        pub parameter: Vec<Parameter>,
    }

    /// A container image.
    #[derive(Debug)]
    pub struct Image {
        /// `DOCKER`; `APPC` has no meaning here.
        pub r#type: Option<String>,
        /// An Appc image. No meaning here.
        pub appc: Option<Appc>,
        /// A Docker or OCI image.
        pub docker: Option<ImageDocker>,
        /// Whether a cached copy will do (the default); false pulls at every start.
        pub cached: Option<bool>,
    }

    /// An Appc image.
    #[derive(Debug)]
    pub struct Appc {
        /// Its name.
        pub name: Option<String>,
        /// Its id.
        pub id: Option<String>,
        /// Its labels.
        pub labels: Option<Labels>,
    }

    /// A Docker or OCI image.
    #[derive(Debug)]
    pub struct ImageDocker {
        /// The image's name, with tag or digest.
        pub name: Option<String>,
        /// A user and a password in plain text; long deprecated. Use `config`.
        pub credential: Option<Credential>,
        /// The secret with the Docker config to pull with.
        pub config: Option<Secret>,
        /// The same as `config`, as Mesos' secrets page spells it.
        pub secret: Option<Secret>,
    }

    /// A user and a password. It has no `Debug` of the password, so that no log shows it.
    pub struct Credential {
        /// The user.
        pub principal: Option<String>,
        /// The password.
        pub secret: Option<String>,
    }

    /// Something that is mounted into the container.
    #[derive(Debug)]
    pub struct Volume {
        /// `RW` or `RO`.
        pub mode: Option<String>,
        /// Where: relative paths are below the sandbox. For a secret, the path of a file.
        pub container_path: Option<String>,
        /// A path of the host. Not mounted here.
        pub host_path: Option<String>,
        /// An image to mount. Not mounted here.
        pub image: Option<Image>,
        /// Where the volume comes from.
        pub source: Option<VolumeSource>,
    }

    /// Where a volume comes from.
    #[derive(Debug)]
    pub struct VolumeSource {
        /// `SECRET`; the others (`DOCKER_VOLUME`, `SANDBOX_PATH`, `HOST_PATH`, `CSI_VOLUME`) are not mounted here.
        pub r#type: Option<String>,
        /// A volume of a Docker volume driver. Not mounted here.
        pub docker_volume: Option<DockerVolume>,
        /// A directory of a sandbox. Not mounted here.
        pub sandbox_path: Option<SandboxPath>,
        /// The secret that becomes a file.
        pub secret: Option<Secret>,
        /// A path of the host. Not mounted here.
        pub host_path: Option<HostPath>,
        /// A CSI volume. Not mounted here.
        pub csi_volume: Option<CsiVolume>,
    }

    /// A volume of a Docker volume driver.
    #[derive(Debug)]
    pub struct DockerVolume {
        /// The driver.
        pub driver: Option<String>,
        /// The volume's name.
        pub name: Option<String>,
        /// Options for the driver.
        pub driver_options: Option<Parameters>,
    }

    /// A directory of a sandbox.
    #[derive(Debug)]
    pub struct SandboxPath {
        /// `SELF` or `PARENT`.
        pub r#type: Option<String>,
        /// The directory.
        pub path: Option<String>,
    }

    /// A path of the host.
    #[derive(Debug)]
    pub struct HostPath {
        /// The path.
        pub path: Option<String>,
        /// How mounts below it propagate.
        pub mount_propagation: Option<Opaque>,
    }

    /// A CSI volume.
    #[derive(Debug)]
    pub struct CsiVolume {
        /// The driver.
        pub plugin_name: Option<String>,
        /// The volume, made beforehand.
        pub static_provisioning: Option<StaticProvisioning>,
    }

    /// A CSI volume that exists already.
    #[derive(Debug)]
    pub struct StaticProvisioning {
        /// The volume's id.
        pub volume_id: Option<String>,
        /// How it is used.
        pub volume_capability: Option<Opaque>,
        /// Whether it is read-only.
        pub readonly: Option<bool>,
        /// Secrets for staging the volume, by name.
        pub node_stage_secrets: Option<BTreeMap<String, Secret>>,
        /// Secrets for publishing the volume, by name.
        pub node_publish_secrets: Option<BTreeMap<String, Secret>>,
        /// What the driver wants to know.
        pub volume_context: Option<BTreeMap<String, String>>,
    }

    /// A network to join.
    #[derive(Debug)]
    pub struct NetworkInfo {
        /// Addresses asked for.
        pub ip_addresses: Vec<IpAddress>,
        /// The network's name.
        pub name: Option<String>,
        /// Groups for isolation.
        pub groups: Vec<String>,
        /// Labels for the network plugin.
        pub labels: Option<Labels>,
        /// Ports of the host.
        pub port_mappings: Vec<NetworkPortMapping>,
    }

    /// An address asked for.
    #[derive(Debug)]
    pub struct IpAddress {
        /// `IPv4` or `IPv6`.
        pub protocol: Option<String>,
        /// The address.
        pub ip_address: Option<String>,
    }

    /// A port of the host that leads to one of the container.
    #[derive(Debug)]
    pub struct NetworkPortMapping {
        /// The host's port.
        pub host_port: Option<i64>,
        /// The container's port.
        pub container_port: Option<i64>,
        /// `tcp` or `udp`.
        pub protocol: Option<String>,
    }

    /// Capabilities, namespaces and the like.
    #[derive(Debug)]
    pub struct LinuxInfo {
        /// Deprecated name of `effective_capabilities`.
        pub capability_info: Option<Opaque>,
        /// Capabilities in force.
        pub effective_capabilities: Option<Opaque>,
        /// Capabilities that can be gained.
        pub bounding_capabilities: Option<Opaque>,
        /// Whether to share the agent's process ids.
        pub share_pid_namespace: Option<bool>,
        /// The seccomp profile.
        pub seccomp: Option<Opaque>,
        /// `PRIVATE` or `SHARE_PARENT`.
        pub ipc_mode: Option<String>,
        /// The size of `/dev/shm` in megabytes.
        pub shm_size: Option<i64>,
        /// Whether to share the parent's cgroups.
        pub share_cgroups: Option<bool>,
    }

    /// Limits of the processes.
    #[derive(Debug)]
    pub struct RLimitInfo {
        /// The limits.
        pub rlimits: Vec<RLimit>,
    }

    /// One limit of the processes.
    #[derive(Debug)]
    pub struct RLimit {
        /// Which, such as `RLMT_NOFILE`.
        pub r#type: Option<String>,
        /// The hard limit; unlimited when neither is set.
        pub hard: Option<i64>,
        /// The soft limit.
        pub soft: Option<i64>,
    }

    /// Whether a terminal is attached.
    #[derive(Debug)]
    pub struct TtyInfo {
        /// Its size.
        pub window_size: Option<WindowSize>,
    }

    /// The size of a terminal.
    #[derive(Debug)]
    pub struct WindowSize {
        /// Rows.
        pub rows: Option<i64>,
        /// Columns.
        pub columns: Option<i64>,
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("principal", &self.principal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_by_debug() {
        let credential =
            Credential { principal: Some("shop".into()), secret: Some("canary".into()) };

        let shown = format!("{credential:?}");

        assert!(shown.contains("shop") && !shown.contains("canary"), "{shown}");
    }
}
