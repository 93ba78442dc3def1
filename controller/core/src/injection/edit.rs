//! Carrying a plan out: the steps of the patch.

use serde_json::{Value, json};
use watchword_protocol::{ContainerFiles, FilePlan, audience, env_names};

use super::patch::Patch;
use super::plan::{ContainerInjection, FilesContainer, InjectionPlan, Sandbox};
use super::strip::unwrap_command;
use super::view::{ContainerView, PodView};
use super::{Delivery, Settings};
use crate::pod;

impl InjectionPlan {
    /// Puts into a stripped pod what this plan says, and unwraps what it does not wrap.
    pub(super) fn edit(&self, pod: &PodView<'_>, settings: &Settings, patch: &mut Patch) {
        let Some(spec) = &pod.spec else { return };
        for (list, containers) in [
            ("initContainers", &spec.init_containers),
            ("containers", &spec.containers),
            ("ephemeralContainers", &spec.ephemeral_containers),
        ] {
            for (place, container) in containers.iter().flatten().enumerate() {
                let at = format!("/spec/{list}/{place}");
                let index = self.containers.iter().position(|one| one.container == *container.name);
                match index.filter(|_| list != "ephemeralContainers") {
                    Some(index) => self.edit_container(container, &at, index, settings, patch),
                    None => wrap_container(container, &at, (&[], &[]), patch),
                }
            }
        }
        let volumes = self.volumes(settings);
        patch.surround("/spec/volumes", spec.volumes.is_some(), Vec::new(), volumes);
        let ours = self.init_containers(settings);
        let is_there = spec.init_containers.is_some();
        patch.surround("/spec/initContainers", is_there, ours, Vec::new());
    }

    fn edit_container(
        &self,
        container: &ContainerView<'_>,
        at: &str,
        index: usize,
        settings: &Settings,
        patch: &mut Patch,
    ) {
        let injection = &self.containers[index];
        // The revision stands in every container that has secrets, wrapped or not: the store
        // reads it from there.
        let mut variables = vec![
            variable(env_names::WATCHWORD_CONTAINER, &injection.container),
            variable(env_names::WATCHWORD_REVISION, &self.revision),
        ];
        let mut mounts = Vec::new();
        // In front of the pod's own, which may say `$(MESOS_SANDBOX)`. Stripping leaves it: a second
        // mutation finds it where it stands.
        let mut first = Vec::new();
        if injection.sandbox == Some(Sandbox::New) {
            mounts.push(json!({"name": sandbox_volume(index), "mountPath": pod::SANDBOX}));
            if !container.has_variable(pod::SANDBOX_VARIABLE) {
                first.push(variable(pod::SANDBOX_VARIABLE, pod::SANDBOX));
            }
        }
        mounts.extend(injection.files.iter().map(|file| {
            json!({
                "name": files_volume(index),
                "mountPath": file.path,
                "subPath": file.planned.name,
                "readOnly": file.read_only,
            })
        }));
        let mut wrapping: (&[&str], &[&str]) = (&[], &[]);
        if injection.wraps {
            variables.extend([
                variable(env_names::WATCHWORD_STORE, &settings.store_url),
                variable(env_names::WATCHWORD_CA, &settings.ca_bundle),
                variable(env_names::WATCHWORD_TOKEN, &format!("{TOKENS}/token")),
            ]);
            mounts.extend([
                json!({"name": pod::AGENT_VOLUME, "mountPath": pod::AGENT_DIRECTORY, "readOnly": true}),
                json!({"name": token_volume(index), "mountPath": TOKENS, "readOnly": true}),
            ]);
            // Set in any case, else a ConfigMap of the pod's own, by `envFrom`, could say where.
            let log = container.termination_message_path.as_deref();
            let log = log.unwrap_or(DEFAULT_TERMINATION_LOG);
            variables.push(variable(env_names::WATCHWORD_TERMINATION_LOG, log));
            let cache = if injection.caches_env { ENV_CACHE_FILE } else { "" };
            variables.push(variable(env_names::WATCHWORD_ENV_CACHE, cache));
            wrapping.0 = &[pod::AGENT, "exec", "--"];
        }
        if injection.caches_env {
            mounts.push(json!({"name": env_volume(index), "mountPath": ENV_CACHE}));
            wrapping.1 = &[pod::AGENT, "exec", "--cached", "--"];
        }
        wrap_container(container, at, wrapping, patch);
        // Behind the pod's own: the kubelet expands `$(NAME)` in a value from what stands in front of
        // it, so those cannot refer to ours.
        patch.surround(&format!("{at}/env"), container.env.is_some(), first, variables);
        let is_there = container.volume_mounts.is_some();
        patch.surround(&format!("{at}/volumeMounts"), is_there, Vec::new(), mounts);
    }

    fn volumes(&self, settings: &Settings) -> Vec<Value> {
        let mut volumes = Vec::new();
        if self.containers.iter().any(|injection| injection.wraps) {
            volumes.push(agent_volume(settings));
        }
        for (index, injection) in self.containers.iter().enumerate() {
            volumes.push(json!({"name": token_volume(index), "projected": {"sources": [{
                "serviceAccountToken": {
                    "audience": audience(&injection.container),
                    "expirationSeconds": TOKEN_SECONDS,
                    "path": "token",
                },
            }]}}));
            if injection.caches_env {
                volumes.push(memory_volume(&env_volume(index), ENV_CACHE_MEBIBYTES));
            }
            if !injection.files.is_empty() {
                // One more than there are files: each is written beside its old self, then renamed.
                volumes.push(memory_volume(&files_volume(index), injection.files.len() + 1));
            }
            if injection.sandbox == Some(Sandbox::New) {
                volumes.push(json!({"name": sandbox_volume(index), "emptyDir": {}}));
            }
        }
        volumes
    }

    fn init_containers(&self, settings: &Settings) -> Vec<Value> {
        let wraps = self.containers.iter().any(|injection| injection.wraps);
        let copies = wraps && settings.agent.delivery == Delivery::InitContainer;
        let install = copies.then(|| install_container(self.install_user, settings));
        let writers = self.writers.iter().enumerate().map(|(number, writer)| {
            let name = match (number, self.writers.len()) {
                (_, 1) => pod::FILES_CONTAINER.to_owned(),
                (number, _) => format!("{}-{number}", pod::FILES_CONTAINER),
            };
            self.files_container(&name, writer, settings)
        });
        install.into_iter().chain(writers).collect()
    }

    fn files_container(&self, name: &str, writer: &FilesContainer, settings: &Settings) -> Value {
        let injections = || writer.of.iter().map(|&index| (index, &self.containers[index]));
        let plan = FilePlan { containers: injections().map(|(i, one)| planned(i, one)).collect() };
        let mut mounts = Vec::new();
        for (index, injection) in injections() {
            mounts.extend([
                json!({"name": token_volume(index), "mountPath": format!("{TOKENS}/{index}"), "readOnly": true}),
                json!({"name": files_volume(index), "mountPath": format!("{FILES}/{index}")}),
            ]);
            let sandbox = match &injection.sandbox {
                None => continue,
                Some(Sandbox::Existing(volume)) => volume.clone(),
                Some(Sandbox::New) => sandbox_volume(index),
            };
            mounts.push(json!({"name": sandbox, "mountPath": format!("{SANDBOXES}/{index}")}));
        }
        // What is written to tmpfs counts against the memory of the container that writes it, and
        // before that the answer stands there too, in base64 and decoded.
        let mebibytes = 4 * injections().map(|(_, one)| one.files.len()).sum::<usize>();
        let mut container = our_container(name, &["/agent", "files"], mebibytes, settings);
        container["env"] = json!([
            variable(env_names::WATCHWORD_STORE, &settings.store_url),
            variable(env_names::WATCHWORD_CA, &settings.ca_bundle),
            variable(env_names::WATCHWORD_REVISION, &self.revision),
            // A plan is made of strings and numbers: it always serialises.
            variable(env_names::WATCHWORD_FILES, &serde_json::to_string(&plan).unwrap_or_default()),
        ]);
        container["volumeMounts"] = mounts.into();
        let context = &mut container["securityContext"];
        if let Some(user) = writer.identity.user {
            context["runAsUser"] = user.into();
            context["runAsNonRoot"] = (user != 0).into();
        }
        if let Some(group) = writer.identity.group {
            context["runAsGroup"] = group.into();
        }
        container
    }
}

fn planned(index: usize, injection: &ContainerInjection) -> ContainerFiles {
    ContainerFiles {
        container: injection.container.clone(),
        token: format!("{TOKENS}/{index}/token"),
        directory: format!("{FILES}/{index}"),
        files: injection.files.iter().map(|file| file.planned.clone()).collect(),
        sandbox: injection.sandbox.as_ref().map(|_| format!("{SANDBOXES}/{index}")),
    }
}

fn install_container(user: Option<i64>, settings: &Settings) -> Value {
    let command = ["/agent", "copy", INSTALL];
    let mut container = our_container(pod::INSTALL_CONTAINER, &command, AGENT_MEBIBYTES, settings);
    container["volumeMounts"] = json!([{"name": pod::AGENT_VOLUME, "mountPath": INSTALL}]);
    if let Some(user) = user {
        container["securityContext"]["runAsUser"] = user.into();
    }
    container
}

/// A container of ours: passes `restricted`, has requests equal to limits (else a Guaranteed pod
/// would turn Burstable and a quota would refuse it), `mebibytes` of tmpfs included.
fn our_container(name: &str, command: &[&str], mebibytes: usize, settings: &Settings) -> Value {
    let resources =
        json!({"cpu": AGENT_CPU, "memory": format!("{}Mi", AGENT_MEMORY_MEBIBYTES + mebibytes)});
    let mut container = json!({
        "name": name,
        "image": settings.agent.image,
        "command": command,
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "File",
    });
    if let Some(policy) = &settings.agent.pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

fn agent_volume(settings: &Settings) -> Value {
    match settings.agent.delivery {
        Delivery::ImageVolume => {
            let mut image = json!({"reference": settings.agent.image});
            if let Some(policy) = &settings.agent.pull_policy {
                image["pullPolicy"] = policy.as_str().into();
            }
            json!({"name": pod::AGENT_VOLUME, "image": image})
        }
        Delivery::InitContainer => memory_volume(pod::AGENT_VOLUME, AGENT_MEBIBYTES),
    }
}

fn memory_volume(name: &str, mebibytes: usize) -> Value {
    json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": format!("{mebibytes}Mi")}})
}

fn variable(name: &str, value: &str) -> Value {
    // The kubelet rewrites `$$` and `$(NAME)` in values, ours included.
    json!({"name": name, "value": crate::workload::escape(value)})
}

/// Puts words in front of a container's command, and in front of those of its exec probes and hooks,
/// in the place of whatever of ours stands there already.
fn wrap_container(
    container: &ContainerView<'_>,
    at: &str,
    (command, execs): (&[&str], &[&str]),
    patch: &mut Patch,
) {
    let own = container.command.as_deref().map(|own| ("command", own, command));
    let of_execs = container
        .execs()
        .filter_map(|(place, exec)| Some((place, exec.command.as_deref()?, execs)));
    for (place, present, with) in own.into_iter().chain(of_execs) {
        let present_words = present.iter().map(|word| &**word);
        let own_words = unwrap_command(present).iter().map(|word| &**word);
        let words = with.iter().copied().chain(own_words);
        if !words.clone().eq(present_words) {
            patch.replace(format!("{at}/{place}"), words.collect());
        }
    }
}

fn token_volume(index: usize) -> String {
    format!("watchword-token-{index}")
}

fn env_volume(index: usize) -> String {
    format!("watchword-env-{index}")
}

fn files_volume(index: usize) -> String {
    format!("watchword-files-{index}")
}

fn sandbox_volume(index: usize) -> String {
    format!("watchword-sandbox-{index}")
}

/// Where the init container sees the agent's volume. Not where others do: in our own image
/// `/watchword` is a program.
const INSTALL: &str = "/watchword-install";

const TOKENS: &str = "/var/run/watchword";
const ENV_CACHE: &str = "/var/run/watchword-env";
const ENV_CACHE_FILE: &str = "/var/run/watchword-env/environment";
/// Where the kubelet reads unless the container says otherwise.
const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";
const FILES: &str = "/watchword-files";
const SANDBOXES: &str = "/watchword-sandbox";

/// The shortest life of a projected token that Kubernetes allows; the kubelet renews it.
const TOKEN_SECONDS: u32 = 600;

/// All arguments and variables of a program together take at most about 2 MiB (`execve`), so a
/// file with the variables takes no more; doubled for the temporary file beside it.
const ENV_CACHE_MEBIBYTES: usize = 4;

/// Room for the agent's binary, which is at most 5 MB by test.
const AGENT_MEBIBYTES: usize = 8;

/// What the agent takes while it runs: some 6 MiB resident, plus one answer of files in memory.
const AGENT_MEMORY_MEBIBYTES: usize = 32;

/// Enough for one TLS handshake in a few milliseconds; throttled beyond.
const AGENT_CPU: &str = "100m";
