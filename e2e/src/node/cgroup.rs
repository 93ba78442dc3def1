//! The control group that holds a cluster's pods.
//!
//! It becomes the kubelet's `cgroupRoot`. Never the root itself: a kubelet takes every pod group
//! below its root that it does not know for an orphan, kills what runs in it and removes it. So
//! each cluster has a group named `ww-<pid of its holder>-<number>`, in every hierarchy of version 1
//! or in the one of version 2. The number is for a holder of several clusters, such as a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::process::ProcessIdentity;

/// Which control groups the host has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// One hierarchy per controller, and perhaps an empty one of version 2 beside them.
    V1,
    /// One unified hierarchy.
    V2,
}

impl Version {
    pub(crate) fn of_host() -> Self {
        if Path::new(ROOT).join("cgroup.controllers").exists() { Self::V2 } else { Self::V1 }
    }
}

/// The control group of a cluster, empty until pods run.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    pub(crate) name: String,
    pub(crate) version: Version,
}

impl ControlGroup {
    /// Makes another group of the holder, which is this process.
    pub(crate) fn create(holder: &ProcessIdentity) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = name(holder.pid, MADE.fetch_add(1, Ordering::Relaxed));
        let version = Version::of_host();
        match version {
            Version::V1 => {
                for hierarchy in hierarchies()? {
                    make(&hierarchy.join(&name))?;
                }
            }
            Version::V2 => {
                let root = Path::new(ROOT);
                delegate(root).context(
                    "cannot hand controllers down from the root control group. In a container \
                     its processes are in the way: run on the host, or use kind \
                     (`make e2e CLUSTER=kind`)",
                )?;
                make(&root.join(&name))?;
                delegate(&root.join(&name))?;
            }
        }
        Ok(Self { name, version })
    }
}

/// Removes one cluster's group. Call it when its processes have ended.
pub(crate) fn remove(name: &str) -> Result<()> {
    for hierarchy in all_hierarchies()? {
        let group = hierarchy.join(name);
        if group.is_dir() {
            remove_tree(&group)?;
        }
    }
    Ok(())
}

/// Removes the groups of holders that are gone, whatever ended them; returns their names.
pub(crate) fn sweep() -> Vec<String> {
    let mut swept = Vec::new();
    for hierarchy in all_hierarchies().unwrap_or_default() {
        for group in folders(&hierarchy) {
            let Some(name) = group.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(pid) = holder_of(name) else { continue };
            let gone = !ProcessIdentity::of(pid).is_ok_and(|holder| holder.is_alive());
            // A group that still has processes refuses to go, and that is right.
            if gone && remove_tree(&group).is_ok() {
                swept.push(name.to_owned());
            }
        }
    }
    swept.sort();
    swept.dedup();
    swept
}

fn name(holder: i32, number: u32) -> String {
    format!("{PREFIX}{holder}-{number}")
}

/// The pid in the name of a group of ours.
fn holder_of(name: &str) -> Option<i32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn all_hierarchies() -> Result<Vec<PathBuf>> {
    match Version::of_host() {
        Version::V1 => hierarchies(),
        Version::V2 => Ok(vec![PathBuf::from(ROOT)]),
    }
}

/// The mounted hierarchies of version 1, and the unified one beside them. Links, such as `cpu` to
/// `cpu,cpuacct`, are no folders and so are left out.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    fs::read_dir(root).with_context(|| format!("cannot read `{ROOT}`: no control groups?"))?;
    Ok(folders(root))
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn make(group: &Path) -> Result<()> {
    fs::create_dir_all(group)
        .with_context(|| format!("cannot make the control group `{}`", group.display()))
}

/// Version 2: lets the children of a group use every controller that the group has.
fn delegate(group: &Path) -> Result<()> {
    let read = |file: &str| {
        let path = group.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let wanted = missing(&read("cgroup.controllers")?, &read("cgroup.subtree_control")?);
    let path = group.join("cgroup.subtree_control");
    for controller in wanted {
        // One at a time: a single one that is refused would refuse all.
        let enabled = fs::write(&path, format!("+{controller}"));
        if NEEDED.contains(&controller.as_str()) {
            enabled
                .with_context(|| format!("cannot enable `{controller}` in `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The controllers that are available and not yet handed down.
fn missing(available: &str, enabled: &str) -> Vec<String> {
    available
        .split_whitespace()
        .filter(|controller| !enabled.split_whitespace().any(|other| other == *controller))
        .map(str::to_owned)
        .collect()
}

/// Removes a group and those below it, deepest first.
fn remove_tree(group: &Path) -> Result<()> {
    for child in folders(group) {
        remove_tree(&child)?;
    }
    fs::remove_dir(group)
        .with_context(|| format!("cannot remove the control group `{}`", group.display()))
}

const ROOT: &str = "/sys/fs/cgroup";

const PREFIX: &str = "ww-";

/// Without these the kubelet of a version 2 host does not start.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_yet_handed_down_is_enabled() {
        let wanted = missing("cpuset cpu io memory pids\n", "cpu memory\n");

        assert_eq!(wanted, ["cpuset", "io", "pids"]);
    }

    #[test]
    fn clusters_of_one_holder_share_no_group_and_are_known_as_its_own() {
        assert_ne!(name(7, 0), name(7, 1));
        assert_eq!(holder_of(&name(7, 1)), Some(7));
        for other in ["ww-", "ww-x-1", "ww-7-", "ww-7-x", "kubepods-7-1"] {
            assert_eq!(holder_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_tree_is_removed_from_its_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("ww-1");
        fs::create_dir_all(group.join("kubepods/besteffort/pod1")).unwrap();

        remove_tree(&group).unwrap();

        assert!(!group.exists());
    }
}
