//! `files` and `copy`: what lies on the tmpfs afterwards, and what does not.

#![allow(clippy::unwrap_used)] // tests; clippy.toml does not reach helpers of integration tests

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use watchword_protocol::{ContainerFiles, FilePlan, PlannedFile};

use crate::support::{CANARY, Container, Reply, Store, names};

#[test]
fn every_container_gets_its_files_with_its_own_token() {
    let store = Store::start(|_, seen| match seen.head.contains("Bearer of-web") {
        true => Reply::files(&[("0", CANARY.as_bytes()), ("1", b"\x00\xff\n")]),
        false => Reply::files(&[("0", b"of side")]),
    });
    let pod = Pod::new(&store, &["web", "side"]);
    let plan =
        pod.plan(&[("web", &[file("0", 0o400), file("1", 0o644)]), ("side", &[file("0", 0o440)])]);

    let output = pod.write(&plan);

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(pod.file("web/0"), (CANARY.as_bytes().to_vec(), 0o400));
    assert_eq!(pod.file("web/1"), (b"\x00\xff\n".to_vec(), 0o644));
    assert_eq!(pod.file("side/0"), (b"of side".to_vec(), 0o440));
    let bodies: Vec<_> = store.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(
        bodies,
        ["web", "side"]
            .map(|name| format!(r#"{{"version":1,"container":"{name}","want":["files"]}}"#))
    );
    assert_eq!(said(&output), "");
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    let store = Store::start(|_, _| Reply::files(&[("0", b"1")]));
    let pod = Pod::new(&store, &["web"]);
    let plan = pod.plan(&[("web", &[file("0", 0o666)])]);
    let agent = pod.agent(&plan);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"umask 077; exec "$@""#, "sh"])
        .arg(agent.get_program())
        .args(agent.get_args());
    shell.envs(agent.get_envs().map(|(name, value)| (name, value.unwrap())));

    assert!(shell.status().unwrap().success());

    assert_eq!(pod.file("web/0").1, 0o666);
}

#[test]
fn writing_twice_is_writing_once_with_the_newer_value() {
    let store = Store::start(|count, _| match count {
        0 => Reply::files(&[("0", b"a longer first value")]),
        _ => Reply::files(&[("0", b"second")]),
    });
    let pod = Pod::new(&store, &["web"]);
    let plan = pod.plan(&[("web", &[in_sandbox("0", "etc/app/key")])]);

    assert_eq!(pod.write(&plan).status.code(), Some(0));
    assert_eq!(pod.write(&plan).status.code(), Some(0));

    assert_eq!(pod.file("web/0"), (b"second".to_vec(), 0o400));
    assert_eq!(names(&pod.path("web")), ["0"]);
}

#[test]
fn a_file_that_the_store_does_not_give_stops_everything() {
    let store = Store::start(|count, _| match count {
        0 => Reply::files(&[("0", CANARY.as_bytes())]),
        _ => Reply::files(&[]),
    });
    let pod = Pod::new(&store, &["web", "side"]);
    let plan = pod.plan(&[("web", &[file("0", 0o400)]), ("side", &[file("0", 0o400)])]);

    let output = pod.write(&plan);

    assert_eq!(output.status.code(), Some(78));
    let message = "Failed to launch container: the store gave no file `0` for container `side`";
    assert_eq!(said(&output), format!("{message}\n"));
    assert_eq!(pod.container.termination_message(), message);
    assert!(names(&pod.path("web")).is_empty(), "not even the files that were there");
}

#[test]
fn a_refusal_for_one_container_leaves_nothing_for_any() {
    let store = Store::start(|count, _| match count {
        0 => Reply::files(&[("0", CANARY.as_bytes())]),
        _ => Reply::error(404, "not_found", "no secret `shop/tls`"),
    });
    let pod = Pod::new(&store, &["web", "side"]);
    let plan = pod.plan(&[("web", &[file("0", 0o400)]), ("side", &[file("0", 0o400)])]);

    let output = pod.write(&plan);

    assert_eq!(output.status.code(), Some(78));
    assert_eq!(said(&output), "Failed to launch container: no secret `shop/tls`\n");
    assert!(names(&pod.path("web")).is_empty());
}

#[test]
fn a_file_that_the_plan_does_not_have_is_not_written() {
    let store = Store::start(|_, _| Reply::files(&[("0", b"1"), ("1", b"2"), ("../x", b"3")]));
    let pod = Pod::new(&store, &["web"]);

    let output = pod.write(&pod.plan(&[("web", &[file("0", 0o400)])]));

    assert_eq!(output.status.code(), Some(0));
    assert_eq!(names(&pod.path("web")), ["0"]);
    assert!(!pod.path("x").exists());
}

#[test]
fn a_large_file_fits() {
    let value: Vec<u8> = (0..1024 * 1023).map(|number: u32| number as u8).collect();
    let answered = value.clone();
    let store = Store::start(move |_, _| Reply::files(&[("0", &answered)]));
    let pod = Pod::new(&store, &["web"]);

    pod.write(&pod.plan(&[("web", &[file("0", 0o400)])]));

    assert!(pod.file("web/0").0 == value);
}

#[test]
fn mount_points_in_the_sandbox_let_the_application_write_beside_them() {
    let store = Store::start(|_, _| Reply::files(&[("0", b"1"), ("1", b"2")]));
    let pod = Pod::new(&store, &["web"]);
    let plan = pod.plan(&[("web", &[in_sandbox("0", "key"), in_sandbox("1", "a/b/key")])]);

    let output = pod.write(&plan);

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let sandbox = pod.path("sandbox-of-web");
    for directory in ["a", "a/b"] {
        assert_eq!(fs::metadata(sandbox.join(directory)).unwrap().mode() & 0o7777, 0o777);
    }
    for mount_point in ["key", "a/b/key"] {
        assert_eq!(fs::read(sandbox.join(mount_point)).unwrap(), b"", "{mount_point}");
    }
}

#[test]
fn a_link_in_the_sandbox_leads_nowhere() {
    let store = Store::start(|_, _| Reply::files(&[("0", CANARY.as_bytes())]));
    let pod = Pod::new(&store, &["web"]);
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), pod.path("sandbox-of-web/etc")).unwrap();

    let output = pod.write(&pod.plan(&[("web", &[in_sandbox("0", "etc/key")])]));

    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("cannot make the mount point of file `0`"), "{}", said(&output));
    assert!(names(outside.path()).is_empty());
}

#[test]
fn links_in_the_volume_are_replaced_and_never_followed() {
    let store = Store::start(|_, _| Reply::files(&[("0", CANARY.as_bytes())]));
    let pod = Pod::new(&store, &["web"]);
    let victim = pod.path("victim");
    fs::write(&victim, "untouched").unwrap();
    for name in ["web/0", "web/.0.tmp"] {
        symlink(&victim, pod.path(name)).unwrap();
    }

    pod.write(&pod.plan(&[("web", &[file("0", 0o400)])]));

    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
    assert_eq!(pod.file("web/0").0, CANARY.as_bytes());
    assert!(pod.path("web/0").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_full_volume_is_said_so() {
    let store = Store::start(|_, _| Reply::files(&[("0", &[b'x'; 100_000])]));
    let pod = Pod::new(&store, &["web"]);
    let agent = pod.agent(&pod.plan(&[("web", &[file("0", 0o400)])]));
    // A tmpfs of 16 KiB, in a mount namespace that ends with the agent.
    let script = r#"mount -t tmpfs -o size=16k none "$1" && shift && exec "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    unshare.arg(pod.path("web")).arg(agent.get_program()).args(agent.get_args());
    unshare.envs(agent.get_envs().map(|(name, value)| (name, value.unwrap())));

    let output = unshare.output().unwrap();

    if output.status.code() != Some(78) && said(&output).contains("unshare") {
        // Some machines forbid user namespaces; the end-to-end tests fill a real volume.
        return;
    }
    let message = "Failed to launch container: cannot write file `0` of container `web`: no space left in its volume\n";
    assert_eq!(said(&output), message);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_plan_that_leaves_its_directory_is_refused_before_anything_is_asked() {
    let store = Store::start(|_, _| Reply::files(&[]));
    let pod = Pod::new(&store, &["web"]);

    let output = pod.write(&pod.plan(&[("web", &[in_sandbox("0", "../key")])]));

    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("`..` is no name of a file"), "{}", said(&output));
    assert!(store.seen().is_empty());
}

#[test]
fn the_agent_installs_itself_as_often_as_it_is_asked_to() {
    let container = Container::at("https://127.0.0.1:1", "");
    let directory = container.path("watchword");
    fs::create_dir(&directory).unwrap();

    for _ in 0..2 {
        let output = container.agent(&["copy", directory.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }

    let copy = directory.join("agent");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o555);
    assert!(fs::read(&copy).unwrap() == fs::read(support::binary()).unwrap());
    assert_eq!(names(&directory), ["agent"]);
    let version = Command::new(copy).arg("version").output().unwrap();
    assert!(version.stdout.starts_with(b"watchword-agent "));
}

#[test]
fn a_place_that_is_not_there_is_no_place_to_install_to() {
    let container = Container::at("https://127.0.0.1:1", "");

    let output = container.agent(&["copy", "/nowhere"]).output().unwrap();

    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("cannot copy the agent to `/nowhere`"), "{}", said(&output));
}

/// The volumes of a pod: `<container>`, `sandbox-of-<container>`, `token-of-<container>`.
struct Pod {
    container: Container,
}

impl Pod {
    fn new(store: &Store, containers: &[&str]) -> Self {
        let pod = Self { container: Container::of(store) };
        for name in containers {
            fs::create_dir(pod.path(name)).unwrap();
            fs::create_dir(pod.path(&format!("sandbox-of-{name}"))).unwrap();
            fs::write(pod.path(&format!("token-of-{name}")), format!("of-{name}")).unwrap();
        }
        pod
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.container.path(name)
    }

    fn plan(&self, containers: &[(&str, &[PlannedFile])]) -> FilePlan {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        FilePlan {
            containers: containers
                .iter()
                .map(|(name, files)| ContainerFiles {
                    container: (*name).to_owned(),
                    token: text(&self.path(&format!("token-of-{name}"))),
                    directory: text(&self.path(name)),
                    files: files.to_vec(),
                    sandbox: Some(text(&self.path(&format!("sandbox-of-{name}")))),
                })
                .collect(),
        }
    }

    fn agent(&self, plan: &FilePlan) -> Command {
        let mut agent = self.container.agent(&["files"]);
        agent.env("WATCHWORD_FILES", json!(plan).to_string());
        agent.env_remove("WATCHWORD_CONTAINER").env_remove("WATCHWORD_TOKEN");
        let present: Vec<_> = agent
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let mut clean = Command::new(agent.get_program());
        clean.args(["files"]).env_clear().envs(present);
        clean
    }

    fn write(&self, plan: &FilePlan) -> Output {
        let output = self.agent(plan).output().unwrap();
        assert!(!said(&output).contains(CANARY), "{}", said(&output));
        output
    }

    fn file(&self, name: &str) -> (Vec<u8>, u32) {
        let path = self.path(name);
        (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o7777)
    }
}

fn file(name: &str, mode: u32) -> PlannedFile {
    PlannedFile { name: name.to_owned(), mode, sandbox_path: None }
}

fn in_sandbox(name: &str, path: &str) -> PlannedFile {
    PlannedFile { sandbox_path: Some(path.to_owned()), ..file(name, 0o400) }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
