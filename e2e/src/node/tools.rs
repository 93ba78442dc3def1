//! The programs of a node, built from pinned Go modules.
//!
//! `e2e/tools` holds four modules, because their dependencies conflict. What a module builds is
//! kept below a name that says what it was built from: the stamp covers `go.mod`, `go.sum` and
//! the flags, so that a warm run links nothing and a changed version is built beside the old one.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::prerequisites;
use crate::cache::{Cache, Lock};
use crate::progress::Progress;

/// Where the built programs are.
#[derive(Clone, Debug)]
pub struct Tools(Vec<PathBuf>);

impl Tools {
    /// The program called `name`.
    ///
    /// # Errors
    ///
    /// If no module builds it.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.paths()
            .find(|path| path.file_name().is_some_and(|file| file == name))
            .with_context(|| format!("no module below e2e/tools builds `{name}`"))
    }

    /// All programs.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }
}

/// Builds what is not there yet.
///
/// # Errors
///
/// If Go is missing or too old, the disk is too full, or a build fails.
pub fn build(cache: &Cache, progress: &Progress) -> Result<Tools> {
    let folder = cache.tools();
    let mut programs = Vec::new();
    for module in MODULES {
        let target = folder.join(format!("{}-{}", module.name, module.stamp()?));
        if !target.exists() {
            let _lock = Lock::take(&folder.join("lock"), || {
                progress.say("another process builds the tools; waiting for it");
            })?;
            // Whoever had the lock may have built it.
            if !target.exists() {
                module.build(&target, progress)?;
            }
        }
        programs.extend(module.programs.iter().map(|program| target.join(program)));
    }
    Ok(Tools(programs))
}

/// One Go module below `e2e/tools`.
struct Module {
    name: &'static str,
    /// What `go build` makes; with `-o` a file if `package` is given, a folder otherwise.
    programs: &'static [&'static str],
    /// The only package to build, where its name is not that of the program.
    package: Option<&'static str>,
    tags: &'static str,
    linker: &'static str,
    /// Shown before a cold build, so that nobody thinks it hangs.
    minutes: &'static str,
}

impl Module {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.name)
    }

    fn stamp(&self) -> Result<String> {
        let mut digest = Sha256::new();
        for file in ["go.mod", "go.sum"] {
            let path = self.source().join(file);
            let text =
                fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            digest.update(text);
        }
        for argument in self.arguments(Path::new("")) {
            digest.update(argument.as_encoded_bytes());
            digest.update([0]);
        }
        Ok(digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
    }

    fn arguments(&self, target: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["build".into(), "-v".into(), "-trimpath".into()];
        if !self.tags.is_empty() {
            arguments.extend(["-tags".into(), self.tags.into()]);
        }
        arguments.extend(["-ldflags".into(), self.linker.into(), "-o".into()]);
        match (self.package, self.programs) {
            (Some(package), [program, ..]) => {
                arguments.extend([target.join(program).into(), package.into()]);
            }
            _ => arguments.extend([target.join("").into(), "tool".into()]),
        }
        arguments
    }

    fn build(&self, target: &Path, progress: &Progress) -> Result<()> {
        prerequisites::check_go()?;
        let parent = target.parent().context("the cache has no parent")?;
        prerequisites::check_disk(parent, 6, "building Kubernetes")?;
        let partial = target.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot remove `{}`", partial.display()))?;
        }
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot make `{}`", partial.display()))?;

        let step = progress
            .step(format!("building {} (cold: about {} on two cores)", self.name, self.minutes));
        let mut child = Command::new("go")
            .args(self.arguments(&partial))
            .current_dir(self.source())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `go`")?;
        let mut said = Vec::new();
        let mut packages = 0;
        let stderr = child.stderr.take().context("no standard error")?;
        for line in BufReader::new(stderr).lines() {
            let line = line.context("cannot read what `go` says")?;
            if line.starts_with("go: downloading ") {
                step.note(line.trim_start_matches("go: "));
            } else {
                packages += 1;
                step.note(&format!("{packages} packages compiled"));
            }
            said.push(line);
        }
        let status = child.wait().context("cannot wait for `go`")?;
        if !status.success() {
            bail!("cannot build {}:\n{}", self.name, tail(&said.join("\n"), 20));
        }
        for program in self.programs {
            if !partial.join(program).is_file() {
                bail!("the build of {} made no `{program}`", self.name);
            }
        }
        fs::rename(&partial, target)
            .with_context(|| format!("cannot make `{}`", target.display()))?;
        step.done();
        Ok(())
    }
}

/// The last `count` lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

// Without the versions here every program would call itself v0.0.0. A test keeps them equal to
// those in the go.mod files.
const MODULES: [Module; 4] = [
    Module {
        name: "etcd",
        programs: &["etcd"],
        package: Some("go.etcd.io/etcd/server/v3"),
        tags: "",
        linker: "-s -w",
        minutes: "half a minute",
    },
    Module {
        name: "containerd",
        programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
        package: None,
        tags: "no_btrfs,no_zfs,no_devmapper",
        linker: "-s -w -X github.com/containerd/containerd/v2/version.Version=2.4.2",
        minutes: "a minute",
    },
    Module {
        name: "coredns",
        programs: &["coredns"],
        package: None,
        tags: "",
        linker: "-s -w",
        minutes: "2 minutes",
    },
    Module {
        name: "kubernetes",
        programs: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ],
        package: None,
        tags: "",
        linker: "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                 -X k8s.io/component-base/version.gitMajor=1 \
                 -X k8s.io/component-base/version.gitMinor=37",
        minutes: "10 minutes",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_programs_report_are_those_that_are_built() {
        let pinned = |module: &str, requirement: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(module);
            fs::read_to_string(path.join("go.mod")).unwrap().contains(requirement)
        };

        assert!(MODULES[3].linker.contains("v1.37.2"));
        assert!(pinned("kubernetes", "k8s.io/kubernetes v1.37.2"));
        assert!(MODULES[1].linker.contains("2.4.2"));
        assert!(pinned("containerd", "github.com/containerd/containerd/v2 v2.4.2"));
    }

    #[test]
    fn every_module_declares_what_it_builds_as_tools() {
        for module in MODULES {
            let text = fs::read_to_string(module.source().join("go.mod")).unwrap();
            let tools = text
                .lines()
                .skip_while(|line| !line.starts_with("tool"))
                .take_while(|line| *line != ")" && !line.is_empty())
                .filter(|line| line.contains('/'))
                .count();
            assert_eq!(tools, module.programs.len(), "{}", module.name);
        }
    }

    #[test]
    fn a_stamp_does_not_depend_on_where_the_cache_is() {
        let module = &MODULES[0];

        assert_eq!(module.stamp().unwrap(), module.stamp().unwrap());
        assert_eq!(module.stamp().unwrap().len(), 12);
    }

    #[test]
    fn a_tail_is_the_end_of_a_text() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
