//! Carrying a plan out on the raw pod.

use serde_json::{Value, json};
use watchword_protocol::{ContainerFiles, FilePlan, audience, env_names};

use super::plan::{ContainerInjection, FilesContainer, InjectionPlan, Sandbox};
use super::{Delivery, Settings};
use crate::pod;

impl InjectionPlan {
    /// Puts into a stripped pod what this plan says. A plan without containers leaves it alone.
    pub fn edit(&self, raw: &mut Value, settings: &Settings) {
        if self.containers.is_empty() {
            return;
        }
        let spec = &mut raw["spec"];
        let volumes = self.volumes(settings);
        append(spec, "volumes", volumes);
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let index = self
                    .containers
                    .iter()
                    .position(|injection| container["name"] == injection.container.as_str());
                if let Some(index) = index {
                    self.edit_container(container, index, settings);
                }
            }
        }
        prepend(spec, "initContainers", self.init_containers(settings));
    }

    fn edit_container(&self, container: &mut Value, index: usize, settings: &Settings) {
        let injection = &self.containers[index];
        // The revision stands in every container that has secrets, wrapped or not: the store
        // reads it from there.
        let mut variables = vec![
            variable(env_names::WATCHWORD_CONTAINER, &injection.container),
            variable(env_names::WATCHWORD_REVISION, &self.revision),
        ];
        let mut mounts: Vec<Value> = injection
            .files
            .iter()
            .map(|file| {
                json!({
                    "name": files_volume(index),
                    "mountPath": file.path,
                    "subPath": file.planned.name,
                    "readOnly": file.read_only,
                })
            })
            .collect();
        if injection.sandbox == Some(Sandbox::New) {
            mounts.insert(0, json!({"name": sandbox_volume(index), "mountPath": pod::SANDBOX}));
        }
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
            if let Some(path) = container.get("terminationMessagePath").and_then(Value::as_str) {
                variables.push(variable(env_names::WATCHWORD_TERMINATION_LOG, path));
            }
            wrap(&mut container["command"], &[pod::AGENT, "exec", "--"]);
        }
        if injection.caches_env {
            variables.push(variable(
                env_names::WATCHWORD_ENV_CACHE,
                &format!("{ENV_CACHE}/environment"),
            ));
            mounts.push(json!({"name": env_volume(index), "mountPath": ENV_CACHE}));
            for path in EXEC_PATHS {
                if let Some(command) = container.pointer_mut(path) {
                    wrap(command, &[pod::AGENT, "exec", "--cached", "--"]);
                }
            }
        }
        // Behind ours: stripping leaves it, and a second mutation must find it where it stands.
        if injection.sandbox == Some(Sandbox::New)
            && !has_variable(container, pod::SANDBOX_VARIABLE)
        {
            variables.push(variable(pod::SANDBOX_VARIABLE, pod::SANDBOX));
        }
        prepend(container, "env", variables);
        append(container, "volumeMounts", mounts);
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
        let install = copies.then(|| install_container(settings));
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

fn install_container(settings: &Settings) -> Value {
    let command = ["/agent", "copy", INSTALL];
    let mut container = our_container(pod::INSTALL_CONTAINER, &command, AGENT_MEBIBYTES, settings);
    container["volumeMounts"] = json!([{"name": pod::AGENT_VOLUME, "mountPath": INSTALL}]);
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

fn has_variable(container: &Value, name: &str) -> bool {
    container["env"].as_array().is_some_and(|list| list.iter().any(|one| one["name"] == name))
}

fn wrap(command: &mut Value, with: &[&str]) {
    if let Some(list) = command.as_array_mut() {
        list.splice(0..0, with.iter().map(|word| Value::from(*word)));
    }
}

fn append(object: &mut Value, key: &str, items: Vec<Value>) {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.extend(items),
        None if items.is_empty() => {}
        None => object[key] = items.into(),
    }
}

fn prepend(object: &mut Value, key: &str, items: Vec<Value>) {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => drop(list.splice(0..0, items)),
        None if items.is_empty() => {}
        None => object[key] = items.into(),
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

/// Where a container has exec probes and exec hooks, as JSON pointers to their commands.
pub(super) const EXEC_PATHS: [&str; 5] = [
    "/livenessProbe/exec/command",
    "/readinessProbe/exec/command",
    "/startupProbe/exec/command",
    "/lifecycle/postStart/exec/command",
    "/lifecycle/preStop/exec/command",
];

/// Where the init container sees the agent's volume. Not where others do: in our own image
/// `/watchword` is a program.
const INSTALL: &str = "/watchword-install";

const TOKENS: &str = "/var/run/watchword";
const ENV_CACHE: &str = "/var/run/watchword-env";
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
