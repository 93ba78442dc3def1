//! What Mesos' JSON reader refuses before any rule is looked at (`stout/protobuf.hpp`).
//!
//! Only messages that mean something here are read; a deep message without effect may be
//! incomplete. The API server has refused wrong JSON kinds already. Ids that a framework gives are
//! required in Mesos and not here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use watchword_crds::mesos::{
    CommandInfo, ContainerInfo, HealthCheck, Image, Secret, TaskInfo, Volume,
};
use zeroize::Zeroizing;

use super::{ContainerType, Violation, VolumeMode};

/// Every required field is set, enums that are required are known, and bytes are base64.
///
/// # Errors
///
/// The reader's text for the first field that it would refuse.
pub fn read_task(task: &TaskInfo) -> Result<(), Violation> {
    required(task.name.is_some(), "name")?;
    if let Some(command) = &task.command {
        read_command(command).map_err(|violation| outer(violation, "command"))?;
    }
    if let Some(container) = &task.container {
        read_container(container).map_err(|violation| outer(violation, "container"))?;
    }
    if let Some(check) = &task.health_check {
        read_health_check(check).map_err(|violation| outer(violation, "health_check"))?;
    }
    base64(task.data.as_deref(), "data")
}

fn read_command(command: &CommandInfo) -> Result<(), Violation> {
    for (index, uri) in command.uris.iter().enumerate() {
        required(uri.value.is_some(), &format!("uris[{index}].value"))?;
    }
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    for (index, variable) in variables.enumerate() {
        let at = format!("environment.variables[{index}]");
        required(variable.name.is_some(), &format!("{at}.name"))?;
        read_secret(variable.secret.as_ref(), &format!("{at}.secret"))?;
    }
    Ok(())
}

fn read_container(container: &ContainerInfo) -> Result<(), Violation> {
    known(container.r#type.as_deref(), |text| ContainerType::read(Some(text)).is_some(), "type")?;
    for (index, volume) in container.volumes.iter().enumerate() {
        read_volume(volume).map_err(|violation| outer(violation, &format!("volumes[{index}]")))?;
    }
    if let Some(docker) = &container.docker {
        required(docker.image.is_some(), "docker.image")?;
    }
    match container.mesos.as_ref().and_then(|mesos| mesos.image.as_ref()) {
        None => Ok(()),
        Some(image) => read_image(image).map_err(|violation| outer(violation, "mesos.image")),
    }
}

fn read_volume(volume: &Volume) -> Result<(), Violation> {
    known(volume.mode.as_deref(), |text| VolumeMode::read(Some(text)).is_some(), "mode")?;
    required(volume.container_path.is_some(), "container_path")?;
    if let Some(image) = &volume.image {
        read_image(image).map_err(|violation| outer(violation, "image"))?;
    }
    let secret = volume.source.as_ref().and_then(|source| source.secret.as_ref());
    read_secret(secret, "source.secret")
}

fn read_image(image: &Image) -> Result<(), Violation> {
    known(image.r#type.as_deref(), |text| matches!(text, "APPC" | "DOCKER"), "type")?;
    let Some(docker) = &image.docker else { return Ok(()) };
    required(docker.name.is_some(), "docker.name")?;
    read_secret(docker.config.as_ref(), "docker.config")?;
    read_secret(docker.secret.as_ref(), "docker.secret")
}

fn read_health_check(check: &HealthCheck) -> Result<(), Violation> {
    if let Some(http) = &check.http {
        required(http.port.is_some(), "http.port")?;
    }
    if let Some(tcp) = &check.tcp {
        required(tcp.port.is_some(), "tcp.port")?;
    }
    Ok(())
}

fn read_secret(secret: Option<&Secret>, at: &str) -> Result<(), Violation> {
    let Some(secret) = secret else { return Ok(()) };
    if let Some(reference) = &secret.reference {
        required(reference.name.is_some(), &format!("{at}.reference.name"))?;
    }
    let Some(value) = &secret.value else { return Ok(()) };
    required(value.data.is_some(), &format!("{at}.value.data"))?;
    base64(value.data.as_deref(), &format!("{at}.value.data"))
}

fn required(is_set: bool, path: &str) -> Result<(), Violation> {
    if is_set { Ok(()) } else { Err(missing(path)) }
}

fn known(text: Option<&str>, is_known: fn(&str) -> bool, path: &str) -> Result<(), Violation> {
    match text {
        None => Err(missing(path)),
        Some(text) if is_known(text) => Ok(()),
        Some(text) => Err(Violation::new(format!("Failed to find enum for '{text}'")).within(path)),
    }
}

fn missing(path: &str) -> Violation {
    Violation::new(format!("{MISSING}{path}")).within(path)
}

/// The message names the decoder's fault and no byte of the data.
fn base64(text: Option<&str>, path: &str) -> Result<(), Violation> {
    let field = path.rsplit('.').next().unwrap_or(path);
    match STANDARD.decode(text.unwrap_or_default()).map(Zeroizing::new) {
        Ok(_) => Ok(()),
        Err(_) => Err(Violation::new(format!(
            "Failed to base64 decode bytes field '{field}': not standard base64 with padding"
        ))
        .within(path)),
    }
}

/// The violation seen from the outer message; a missing field is named by its whole path there.
fn outer(violation: Violation, field: &str) -> Violation {
    let violation = violation.within(field);
    match violation.message.strip_prefix(MISSING) {
        None => violation,
        Some(_) => Violation { message: format!("{MISSING}{}", violation.path), ..violation },
    }
}

const MISSING: &str = "Missing required fields: ";

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(json!({}), "name", "Missing required fields: name")]
    #[case(
        json!({"name": "a", "command": {"environment": {"variables": [{"value": "x"}]}}}),
        "command.environment.variables[0].name",
        "Missing required fields: command.environment.variables[0].name"
    )]
    #[case(
        json!({"name": "a", "container": {}}),
        "container.type",
        "Missing required fields: container.type"
    )]
    #[case(
        json!({"name": "a", "container": {"type": "MESSOS"}}),
        "container.type",
        "Failed to find enum for 'MESSOS'"
    )]
    #[case(
        json!({"name": "a", "container": {"type": "MESOS", "volumes": [{"mode": "rw", "container_path": "a"}]}}),
        "container.volumes[0].mode",
        "Failed to find enum for 'rw'"
    )]
    #[case(
        json!({"name": "a", "container": {"type": "MESOS", "volumes": [{"mode": "RW"}]}}),
        "container.volumes[0].container_path",
        "Missing required fields: container.volumes[0].container_path"
    )]
    #[case(
        json!({"name": "a", "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {}}}}}),
        "container.mesos.image.docker.name",
        "Missing required fields: container.mesos.image.docker.name"
    )]
    #[case(
        json!({"name": "a", "command": {"environment": {"variables": [
            {"name": "A", "type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "hunter2!"}}}
        ]}}}),
        "command.environment.variables[0].secret.value.data",
        "Failed to base64 decode bytes field 'data': not standard base64 with padding"
    )]
    fn what_the_reader_refuses(#[case] task: Value, #[case] path: &str, #[case] text: &str) {
        let violation = read_task(&serde_json::from_value(task).unwrap()).unwrap_err();

        assert_eq!((violation.path(), violation.message()), (path, text));
    }
}
