//! `ContainerInfo` and `Volume`, by `src/common/validation.cpp`.

use watchword_crds::mesos::{ContainerInfo, Volume, VolumeSource};

use super::{ContainerType, SourceType, Violation};

/// Every volume is valid, and a container of type DOCKER has what it needs.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_container(container: &ContainerInfo) -> Result<(), Violation> {
    for (index, volume) in container.volumes.iter().enumerate() {
        validate_volume(volume).map_err(|violation| {
            violation.within(&format!("volumes[{index}]")).told("Invalid volume: ")
        })?;
    }
    if ContainerType::read(container.r#type.as_deref()) != Some(ContainerType::Docker) {
        return Ok(());
    }
    let Some(docker) = &container.docker else {
        return Err(Violation::new(
            "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo",
        ));
    };
    match docker.parameters.iter().position(|one| one.key.as_deref() == Some("name")) {
        None => Ok(()),
        Some(index) => Err(Violation::new("Parameter in DockerInfo must not be 'name'")
            .within(&format!("docker.parameters[{index}]"))),
    }
}

/// A volume comes from exactly one place, and its source has what its type needs. The secret in it
/// is not looked at, as in Mesos.
///
/// # Errors
///
/// Mesos' text for the first rule that is broken.
pub fn validate_volume(volume: &Volume) -> Result<(), Violation> {
    let places = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if places.iter().filter(|set| **set).count() != 1 {
        return Err(Violation::new(
            "Only one of them should be set: 'host_path', 'image' and 'source'",
        ));
    }
    match &volume.source {
        None => Ok(()),
        Some(source) => validate_source(source).map_err(|violation| violation.within("source")),
    }
}

fn validate_source(source: &VolumeSource) -> Result<(), Violation> {
    let (set, message) = match SourceType::read(source.r#type.as_deref()) {
        SourceType::CsiVolume => match &source.csi_volume {
            None => (false, "'source.csi_volume' is not set for CSI volume"),
            Some(csi) => (
                csi.static_provisioning.is_some(),
                "'source.csi_volume.static_provisioning' is not set for CSI volume",
            ),
        },
        SourceType::DockerVolume => (
            source.docker_volume.is_some(),
            "'source.docker_volume' is not set for DOCKER_VOLUME volume",
        ),
        SourceType::HostPath => {
            (source.host_path.is_some(), "'source.host_path' is not set for HOST_PATH volume")
        }
        SourceType::SandboxPath => (
            source.sandbox_path.is_some(),
            "'source.sandbox_path' is not set for SANDBOX_PATH volume",
        ),
        SourceType::Secret => {
            (source.secret.is_some(), "'source.secret' is not set for SECRET volume")
        }
        SourceType::Unknown => (false, "'source.type' is unknown"),
    };
    if set { Ok(()) } else { Err(Violation::new(message)) }
}
