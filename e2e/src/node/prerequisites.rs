//! What a node needs of its host, and what to say when that is not there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// Something that a node needs and the host lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// What, such as "`runc`".
    pub what: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The Debian package that has it; none if no package can help.
    pub package: Option<&'static str>,
}

impl Missing {
    fn describe(&self) -> String {
        let Self { what, purpose, package } = self;
        match package {
            Some(package) => format!("{what}, {purpose} (package `{package}`)"),
            None => format!("{what}, {purpose}"),
        }
    }
}

/// What the host lacks; empty if a node can be started.
pub fn check() -> Vec<Missing> {
    REQUIREMENTS.iter().filter(|need| !(need.is_met)()).map(|need| need.missing.clone()).collect()
}

/// Fails with a message that lists everything that is missing and says how to go on.
pub fn demand() -> Result<()> {
    load_modules();
    let missing = check();
    if missing.is_empty() { Ok(()) } else { bail!(explain(&missing)) }
}

/// Installs with apt-get what the host lacks, and says what for.
///
/// # Errors
///
/// If apt-get is missing or fails, or something is missing that no package brings.
pub fn install(progress: &Progress) -> Result<()> {
    let missing = check();
    let (installable, rest): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|need| need.package.is_some());
    if !rest.is_empty() {
        bail!(explain(&rest));
    }
    if installable.is_empty() {
        progress.say("everything that the cluster needs is there");
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(explain(&installable));
    }
    let mut packages: Vec<&str> = installable.iter().filter_map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    for need in &installable {
        progress.say(&format!("missing: {}", need.describe()));
    }
    // The lists may be old or absent; then the first try fails, and they are fetched.
    if apt_get(progress, &packages).is_err() {
        let step = progress.step("apt-get update");
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        step.done();
        apt_get(progress, &packages)?;
    }
    let left = check();
    if left.is_empty() { Ok(()) } else { bail!(explain(&left)) }
}

/// The folder of the CNI plugins.
pub(crate) fn cni_plugins() -> Result<PathBuf> {
    find_cni_plugins().context("no CNI plugins: install `containernetworking-plugins`")
}

/// The host's programs that daemons may run, and no others.
pub(crate) fn daemon_programs() -> Result<Vec<PathBuf>> {
    ["iptables", "iptables-restore", "iptables-save", "mount", "runc", "umount"]
        .iter()
        .map(|name| find(name).with_context(|| format!("`{name}` is not installed")))
        .collect()
}

/// The statically linked busybox, for the test image.
pub(crate) fn busybox() -> Result<PathBuf> {
    find_busybox().context("no statically linked busybox: install `busybox-static`")
}

/// Fails if Go is missing or older than the modules need.
pub(crate) fn check_go() -> Result<()> {
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output()
        .context(
            "`go` is not installed: Kubernetes is built from source and needs Go 1.26 or newer",
        )?;
    let text = String::from_utf8_lossy(&output.stdout);
    match go_minor(&text) {
        Some(minor) if minor >= 26 => Ok(()),
        _ => bail!(
            "`go` is {}: Kubernetes is built from source and needs Go 1.26 or newer",
            text.trim()
        ),
    }
}

/// Fails if the disk of `folder` has less than `gigabytes` (10⁹ bytes) left.
pub(crate) fn check_disk(folder: &Path, gigabytes: u64, what: &str) -> Result<()> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(existing)
        .with_context(|| format!("cannot ask the disk of `{}`", existing.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize) / 1_000_000_000;
    if free < gigabytes {
        bail!(
            "{what} needs {gigabytes} GB, and the disk of `{}` has {free} GB left: \
             make room, or set WATCHWORD_CACHE to another disk",
            existing.display()
        );
    }
    Ok(())
}

/// The path of a program, looked for in `PATH` and in the folders of the administrator's ones,
/// which the `PATH` of others often lacks.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

struct Requirement {
    missing: Missing,
    is_met: fn() -> bool,
}

const REQUIREMENTS: [Requirement; 9] = [
    Requirement {
        missing: Missing {
            what: "root",
            purpose: "which namespaces, mounts and control groups need",
            package: None,
        },
        is_met: || rustix::process::geteuid().is_root(),
    },
    Requirement {
        missing: Missing {
            what: "overlayfs",
            purpose: "in the kernel, for the root file systems of containers",
            package: None,
        },
        is_met: || {
            let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            text.lines().any(|line| line.split_whitespace().last() == Some("overlay"))
        },
    },
    Requirement {
        missing: Missing {
            what: "control groups",
            purpose: "mounted at /sys/fs/cgroup, for the pods",
            package: None,
        },
        is_met: || {
            ["cgroup.controllers", "memory"]
                .iter()
                .any(|name| Path::new("/sys/fs/cgroup").join(name).exists())
        },
    },
    Requirement {
        missing: Missing { what: "`runc`", purpose: "to run containers", package: Some("runc") },
        is_met: || find("runc").is_some(),
    },
    Requirement {
        missing: Missing {
            what: "CNI plugins",
            purpose: "for the network of pods",
            package: Some("containernetworking-plugins"),
        },
        is_met: || find_cni_plugins().is_some(),
    },
    Requirement {
        missing: Missing { what: "`iptables`", purpose: "for Services", package: Some("iptables") },
        is_met: || {
            ["iptables", "iptables-restore", "iptables-save"]
                .iter()
                .all(|name| find(name).is_some())
        },
    },
    Requirement {
        missing: Missing {
            what: "`ip`",
            purpose: "for the node's network",
            package: Some("iproute2"),
        },
        is_met: || find("ip").is_some(),
    },
    Requirement {
        missing: Missing {
            what: "`unshare`, `nsenter` and `mount`",
            purpose: "to make and enter namespaces",
            package: Some("util-linux"),
        },
        is_met: || {
            ["mount", "nsenter", "umount", "unshare"].iter().all(|name| find(name).is_some())
        },
    },
    Requirement {
        missing: Missing {
            what: "a statically linked busybox",
            purpose: "for the image that tests run",
            package: Some("busybox-static"),
        },
        is_met: || find_busybox().is_some(),
    },
];

fn explain(missing: &[Missing]) -> String {
    let mut text = "the local cluster cannot run here; missing:\n".to_owned();
    for need in missing {
        text.push_str(&format!("  {}\n", need.describe()));
    }
    let mut packages: Vec<&str> = missing.iter().filter_map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    text.push('\n');
    if !packages.is_empty() {
        text.push_str(&format!("hint: apt-get install {}\n", packages.join(" ")));
    }
    text.push_str("hint: or run the tests on kind, with Docker: make e2e CLUSTER=kind");
    text
}

/// Kernels of distributions have these as modules. Without `modprobe` or without a module, what
/// needs it says so later, or does without it.
fn load_modules() {
    for module in ["overlay", "br_netfilter"] {
        Command::new("modprobe")
            .arg("--quiet")
            .arg(module)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

fn find_cni_plugins() -> Option<PathBuf> {
    ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"].into_iter().map(PathBuf::from).find(
        |folder| {
            ["bridge", "host-local", "loopback", "ptp"]
                .iter()
                .all(|plugin| folder.join(plugin).is_file())
        },
    )
}

fn find_busybox() -> Option<PathBuf> {
    [
        "/bin/busybox",
        "/usr/bin/busybox",
        "/sbin/busybox",
        "/usr/sbin/busybox",
        "/bin/busybox.static",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| is_static(path))
}

/// Whether an executable names no dynamic loader.
pub(crate) fn is_static(path: &Path) -> bool {
    let mut head = Vec::new();
    let Ok(file) = File::open(path) else { return false };
    if file.take(4096).read_to_end(&mut head).is_err() || !head.starts_with(b"\x7fELF") {
        return false;
    }
    // The loader's path is near the front of every executable that has one.
    !head.windows(4).any(|window| window == b"/ld-" || window == b"/ld6")
}

/// 26 of `go1.26.8`.
fn go_minor(version: &str) -> Option<u32> {
    let rest = version.trim().strip_prefix("go1.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn apt_get(progress: &Progress, packages: &[&str]) -> Result<()> {
    let step = progress.step(format!("apt-get install {}", packages.join(" ")));
    run(Command::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    step.done();
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("cannot run `apt-get`")?;
    if !output.status.success() {
        bail!("`apt-get` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_every_package_once_and_points_to_kind() {
        let need = |package| Missing { what: "`x`", purpose: "for y", package };

        let text = explain(&[need(Some("b")), need(Some("a")), need(Some("b")), need(None)]);

        assert!(text.contains("apt-get install a b\n"), "{text}");
        assert!(text.contains("make e2e CLUSTER=kind"), "{text}");
    }

    #[test]
    fn go_versions_are_compared_by_their_minor() {
        assert_eq!(go_minor("go1.26.8\n"), Some(26));
        assert_eq!(go_minor("go1.27rc1"), Some(27));
        assert_eq!(go_minor("devel"), None);
    }

    #[test]
    fn a_text_file_is_no_static_program() {
        assert!(!is_static(Path::new("/etc/passwd")));
        assert!(!is_static(Path::new("/nonexistent")));
    }

    #[test]
    fn a_disk_that_is_too_small_is_named() {
        let error = check_disk(Path::new("/"), u64::MAX, "a test").unwrap_err().to_string();

        assert!(error.contains("WATCHWORD_CACHE"), "{error}");
        check_disk(Path::new("/nonexistent/below"), 0, "a test").unwrap();
    }
}
