//! Our own rules for one task, and what its author should know.

use watchword_crds::mesos::{ContainerInfo, Image, TaskInfo};

use super::{Invalid, Warning, WarningKind, environment, secrets, unused, volumes};
use crate::mesos::VariableType;
use crate::workload;

/// Judges one task that Mesos accepts; `at` is its field.
pub(super) fn judge(task: &TaskInfo, at: &str, is_adopted: bool) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    if let Some(command) = &task.command {
        let at = format!("{at}.command");
        if let Some(variables) = &command.environment {
            let at = format!("{at}.environment");
            warnings.extend(environment::judge(&variables.variables, &at, is_adopted)?);
        }
        judge_no_nul(command.value.as_deref(), &format!("{at}.value"))?;
        for (index, argument) in command.arguments.iter().enumerate() {
            judge_no_nul(Some(argument), &format!("{at}.arguments[{index}]"))?;
        }
    }
    if let Some(container) = &task.container {
        let at = format!("{at}.container");
        warnings.extend(volumes::judge(&container.volumes, &format!("{at}.volumes"))?);
        warnings.extend(judge_image_secret(container, &at)?);
    }
    if !is_adopted {
        judge_image(task, at)?;
        judge_entrypoint(task, at)?;
    }
    judge_numbers(task, at)?;
    warnings.extend(unused::warn_of_task(task, at, is_adopted));
    Ok(warnings)
}

/// A container needs an image, and one that Kubernetes can run.
fn judge_image(task: &TaskInfo, at: &str) -> Result<(), Invalid> {
    let container = task.container.as_ref();
    let image = container.and_then(|container| container.mesos.as_ref()?.image.as_ref());
    if image.is_some_and(|image| image.r#type.as_deref() == Some("APPC")) {
        return Err(Invalid::new(
            format!("{at}.container.mesos.image.type"),
            "Kubernetes has no Appc images; use type DOCKER",
        ));
    }
    match workload::image(task) {
        None => Err(Invalid::new(
            format!("{at}.container"),
            "no image is named; set mesos.image.docker.name (or docker.image with type DOCKER)",
        )),
        Some(name)
            if name.is_empty()
                || name.contains(|one: char| one.is_whitespace() || one.is_control()) =>
        {
            Err(Invalid::new(
                format!("{at}.container"),
                format!("{name:?} is no image's name; use one like \"example.org/web:1\""),
            ))
        }
        Some(_) => Ok(()),
    }
}

/// The agent starts the program in its place, so it must know it. Without secret variables the
/// image's own entry point will do.
fn judge_entrypoint(task: &TaskInfo, at: &str) -> Result<(), Invalid> {
    let Some(command) = &task.command else { return Ok(()) };
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    let has_secret = variables
        .into_iter()
        .any(|one| VariableType::read(one.r#type.as_deref()) == VariableType::Secret);
    if has_secret && command.value.as_deref().unwrap_or_default().is_empty() {
        return Err(Invalid::new(
            format!("{at}.command.value"),
            "the image's entry point is not known, and secret variables need it; set `value` to \
             the program",
        ));
    }
    Ok(())
}

/// `config`, and `secret` as Mesos' page calls it, are one field.
fn judge_image_secret(container: &ContainerInfo, at: &str) -> Result<Option<Warning>, Invalid> {
    let image: Option<&Image> = container.mesos.as_ref().and_then(|mesos| mesos.image.as_ref());
    let Some(docker) = image.and_then(|image| image.docker.as_ref()) else {
        return Ok(None);
    };
    let at = format!("{at}.mesos.image.docker");
    let (secret, at) = match (&docker.config, &docker.secret) {
        (Some(_), Some(_)) => {
            return Err(Invalid::new(
                format!("{at}.secret"),
                "it is another name of `config`, which is set too; leave one out",
            ));
        }
        (Some(secret), None) => (secret, format!("{at}.config")),
        (None, Some(secret)) => (secret, format!("{at}.secret")),
        (None, None) => return Ok(None),
    };
    secrets::judge(secret, &at)?;
    let message = "not used for pulling yet; use imagePullSecrets";
    Ok(Some(Warning::new(WarningKind::NoEffect, at, message)))
}

/// Numbers that Kubernetes would refuse later, when the workload is made.
fn judge_numbers(task: &TaskInfo, at: &str) -> Result<(), Invalid> {
    let resources = task.resources.iter().enumerate().filter_map(|(index, one)| {
        Some((format!("{at}.resources[{index}].scalar.value"), one.scalar.as_ref()?.value?))
    });
    let limits = task
        .limits
        .iter()
        .flatten()
        .filter_map(|(name, limit)| Some((format!("{at}.limits.{name}.value"), limit.value?)));
    if let Some((field, value)) = resources.chain(limits).find(|(_, value)| *value < 0.0) {
        return Err(Invalid::new(field, format!("{value} is negative; use zero or more")));
    }
    if let Some(user) = task.command.as_ref().and_then(|command| command.user.as_deref())
        && user.parse().is_ok_and(|user: i64| !(0..=MAX_USER).contains(&user))
    {
        return Err(Invalid::new(
            format!("{at}.command.user"),
            format!("{user:?} is no user; use 0 to {MAX_USER}"),
        ));
    }
    judge_ports(task, at)?;
    let check = task.health_check.as_ref();
    let http = check.and_then(|check| Some(("http", check.http.as_ref()?.port?)));
    let tcp = check.and_then(|check| Some(("tcp", check.tcp.as_ref()?.port?)));
    match http.or(tcp).filter(|(_, port)| !(1..=65_535).contains(port)) {
        None => Ok(()),
        Some((kind, port)) => Err(Invalid::new(
            format!("{at}.health_check.{kind}.port"),
            format!("{port} is no port; use 1 to 65535"),
        )),
    }
}

/// The ports that become a container's.
fn judge_ports(task: &TaskInfo, at: &str) -> Result<(), Invalid> {
    let Some(container) = &task.container else { return Ok(()) };
    let docker = container.docker.iter().flat_map(|docker| {
        docker.port_mappings.iter().enumerate().map(|(index, port)| {
            let field = format!("docker.port_mappings[{index}]");
            (field, port.container_port, port.protocol.as_deref())
        })
    });
    let networks = container.network_infos.iter().enumerate().flat_map(|(network, info)| {
        info.port_mappings.iter().enumerate().map(move |(index, port)| {
            let field = format!("network_infos[{network}].port_mappings[{index}]");
            (field, port.container_port, port.protocol.as_deref())
        })
    });
    for (field, port, protocol) in docker.chain(networks) {
        let field = format!("{at}.container.{field}");
        if let Some(port) = port.filter(|port| !(1..=65_535).contains(port)) {
            return Err(Invalid::new(
                format!("{field}.container_port"),
                format!("{port} is no port; use 1 to 65535"),
            ));
        }
        let is_known = |text: &&str| PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(text));
        if let Some(protocol) = protocol.filter(|text| !is_known(text)) {
            return Err(Invalid::new(
                format!("{field}.protocol"),
                format!("{protocol:?} is no protocol; use tcp, udp or sctp"),
            ));
        }
    }
    Ok(())
}

/// The kernel ends a text at a NUL byte.
pub(super) fn judge_no_nul(text: Option<&str>, field: &str) -> Result<(), Invalid> {
    if text.is_some_and(|text| text.contains('\0')) {
        return Err(Invalid::new(field, "it holds a NUL byte; no program could see what follows"));
    }
    Ok(())
}

/// The highest `runAsUser` that Kubernetes takes.
const MAX_USER: i64 = i32::MAX as i64;

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
