//! Taking out of a pod what Watchword puts into pods.

use std::fmt::Display;

use watchword_crds::names;

use super::is_ours;
use super::patch::Patch;
use super::view::{ContainerView, PodView};
use crate::pod;

/// Removes our volumes, mounts, init containers and variables, from the view too. Commands are
/// unwrapped where they are read, by [`unwrap_command`]. A pod that has nothing of ours stays as it
/// is.
pub(super) fn strip(pod: &mut PodView<'_>, patch: &mut Patch) {
    let Some(spec) = &mut pod.spec else { return };
    remove(&mut spec.volumes, "/spec/volumes", patch, |volume| is_ours(&volume.name));
    let init_containers = &mut spec.init_containers;
    remove(init_containers, "/spec/initContainers", patch, |container| is_ours(&container.name));
    for (list, containers) in [
        ("initContainers", &mut spec.init_containers),
        ("containers", &mut spec.containers),
        ("ephemeralContainers", &mut spec.ephemeral_containers),
    ] {
        for (index, container) in containers.iter_mut().flatten().enumerate() {
            strip_container(container, &format_args!("/spec/{list}/{index}"), patch);
        }
    }
}

/// The command behind `[/watchword/agent, exec, …, --]`; the same list when it is not wrapped.
pub fn unwrap_command<S: AsRef<str>>(command: &[S]) -> &[S] {
    match command {
        [agent, exec, rest @ ..] if agent.as_ref() == pod::AGENT && exec.as_ref() == "exec" => {
            let end = rest.iter().position(|word| word.as_ref() == "--");
            end.map_or(&[], |end| &rest[end + 1..])
        }
        _ => command,
    }
}

fn strip_container(container: &mut ContainerView<'_>, at: &impl Display, patch: &mut Patch) {
    let ContainerView { env, volume_mounts, .. } = container;
    remove(volume_mounts, format_args!("{at}/volumeMounts"), patch, |mount| is_ours(&mount.name));
    remove(env, format_args!("{at}/env"), patch, |variable| {
        variable.name.starts_with(names::ENVIRONMENT_PREFIX)
    });
}

/// Removes what is ours from a list at `at`.
fn remove<T>(
    list: &mut Option<Vec<T>>,
    at: impl Display,
    patch: &mut Patch,
    is_ours: impl Fn(&T) -> bool,
) {
    let Some(list) = list else { return };
    // From the end, so that a removal moves nothing that is still to be removed.
    for (index, item) in list.iter().enumerate().rev() {
        if is_ours(item) {
            patch.remove(format!("{at}/{index}"));
        }
    }
    list.retain(|item| !is_ours(item));
}
