//! `local-cluster` itself, as a person uses it: what comes up, what goes, and what a crash leaves.
//!
//! It starts a cluster of its own, so it needs what local clusters need; it is skipped where the
//! stories run on another kind of cluster.

// Its helper functions are test code, which clippy cannot know.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use rustix::process::{Pid, Signal, kill_process};
use watchword_e2e::cache::Cache;
use watchword_e2e::node::{self, Layout, Record, UpOptions};
use watchword_e2e::progress::Progress;
use watchword_e2e::watchword::LIMIT;
use watchword_e2e::{images, skip};

#[test]
fn a_cluster_comes_once_survives_its_starter_and_a_crash_leaves_only_empty_groups() {
    if env::var_os("WATCHWORD_E2E_CLUSTER").is_none() {
        skip("the stories do not run on a local cluster");
        return;
    }
    let name = format!("test-{}", process::id());
    let layout = Layout::new(&Cache::from_env().unwrap(), &name.parse().unwrap());
    let _down = Down(&name);

    // A second `up` changes nothing.
    assert!(success(&name, &["up"]).contains("is up"));
    let first = Record::of(&layout).unwrap();
    assert!(success(&name, &["up"]).contains("is up already"));
    assert_eq!(Record::of(&layout).unwrap().init, first.init);
    assert!(success(&name, &["kubectl", "get", "nodes"]).contains("node-1"));
    assert!(success(&name, &["exec", "--", "sh", "-c", "echo $KUBECONFIG"]).contains(&name));
    let kubeconfig = success(&name, &["kubeconfig"]);
    assert!(Path::new(kubeconfig.trim()).starts_with(layout.state()), "{kubeconfig}");
    for archive in images::build_basic(&Cache::from_env().unwrap()).unwrap() {
        success(&name, &["load-image", archive.to_str().unwrap()]);
    }
    let run = ["kubectl", "run", "loaded", "--image", images::PAUSE, "--image-pull-policy=Never"];
    wait_until("a pod of the loaded image is made", || {
        // The namespace's account may not be there yet.
        local_cluster(&name, &run).status.success()
    });
    success(&name, &["kubectl", "wait", "pod/loaded", "--for=condition=Ready", "--timeout=300s"]);

    // The end of the supervisor is the end of everything but empty control groups.
    kill(first.holder.pid);
    wait_until("PID 1 is gone", || !first.is_alive());
    assert!(!Path::new(&format!("/proc/{}/ns/net", first.init.pid)).exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    for group in groups(&first.cgroup) {
        wait_until("its groups are empty", || processes_below(&group).is_empty());
    }

    // The next `up` sweeps them, and takes up where the crash was.
    success(&name, &["up"]);
    assert_eq!(groups(&first.cgroup), Vec::<String>::new());

    // The end of a daemon is said, with its name and its log.
    let second = Record::of(&layout).unwrap();
    let scheduler = daemon(&second, "kube-scheduler");
    kill(scheduler);
    wait_until("the node has ended", || !second.is_alive());
    let status = local_cluster(&name, &["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!status.status.success());
    assert!(said.contains("kube-scheduler ended"), "{said}");
    let log = fs::read_to_string(layout.logs().join("kube-scheduler.log")).unwrap();
    assert!(!log.is_empty(), "what it said is kept");

    success(&name, &["down"]);
    assert!(!layout.state().exists());
    assert_eq!(groups(&second.cgroup), Vec::<String>::new());
    assert!(success(&name, &["down"]).contains("there is no cluster"));
}

#[test]
fn a_cluster_that_a_test_holds_ends_with_the_value() {
    if env::var_os("WATCHWORD_E2E_CLUSTER").is_none() {
        skip("the stories do not run on a local cluster");
        return;
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let name = format!("held-{}", process::id());
    let cache = Cache::from_env().unwrap();
    let layout = Layout::new(&cache, &name.parse().unwrap());
    let _down = Down(&name);
    let options = UpOptions {
        audit: true,
        detach: false,
        program: env!("CARGO_BIN_EXE_local-cluster").into(),
        timeout: LIMIT,
    };

    let node = node::up_owned(&cache, &layout, &options, &Progress::new()).unwrap();
    let record = node.record().clone();
    assert!(success(&name, &["kubectl", "get", "--raw", "/readyz"]).contains("ok"));
    assert!(layout.logs().join("audit.log").exists());
    drop(node);

    assert!(!record.is_alive());
    assert_eq!(groups(&record.cgroup), Vec::<String>::new());
}

/// Ends the cluster also when the test fails.
struct Down<'a>(&'a str);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        local_cluster(self.0, &["down"]);
    }
}

fn local_cluster(name: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_local-cluster"))
        .args(["--name", name])
        .args(arguments)
        .output()
        .unwrap()
}

/// Both outputs, if the exit code is 0.
fn success(name: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = local_cluster(name, arguments);
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(status.success(), "{arguments:?}: {said}");
    said
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The host's id of a daemon: a child of PID 1.
fn daemon(record: &Record, program: &str) -> i32 {
    let pid = record.init.pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .find(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(program)
        })
        .unwrap()
}

/// The control groups of a name, in every hierarchy.
fn groups(name: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    hierarchies
        .chain([root.to_owned()])
        .map(|hierarchy| hierarchy.join(name))
        .filter(|group| group.is_dir())
        .map(|group| group.display().to_string())
        .collect()
}

fn processes_below(group: &str) -> String {
    let output = Command::new("find")
        .args([group, "-name", "cgroup.procs", "-exec", "cat", "{}", "+"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
