//! `files`: the secret files of a pod's containers, written to tmpfs by an init container.
//!
//! All or nothing: every value is there before the first file is written, and a planned file that
//! the store does not give is a failure, because the kubelet would mount an empty directory in its
//! place. It runs again when the pod's sandbox is made anew, over what it has written before.

use std::io::{self, Write};
use std::path::PathBuf;

use watchword_protocol::{ContainerFiles, FilePlan, ResolveAnswer, SecretBytes, Want};

use crate::confined::{Directory, FileName, RelativePath};
use crate::failure::Failure;
use crate::fetch::Client;
use crate::harden::harden;
use crate::settings::{self, Identity};
use crate::wait;

/// Writes what the plan of the pod's spec asks for.
pub(crate) fn run() -> Result<(), Failure> {
    let _hardened = harden()?;
    let jobs = jobs(settings::file_plan()?)?;
    let client = Client::new(&settings::store()?)?;

    let answers = jobs.iter().map(|job| job.fetch(&client)).collect::<Result<Vec<_>, _>>()?;
    jobs.iter().zip(&answers).try_for_each(|(job, answer)| job.write(answer))
}

/// One container's files, checked.
struct Job {
    identity: Identity,
    directory: PathBuf,
    sandbox: Option<PathBuf>,
    files: Vec<Planned>,
}

/// One file, checked.
struct Planned {
    name: FileName,
    mode: u32,
    mount_point: Option<RelativePath>,
}

impl Job {
    fn fetch(&self, client: &Client) -> Result<ResolveAnswer, Failure> {
        let limit = MAX_FILE_BYTES * (1 + self.files.len() as u64);
        let container = &self.identity.container;
        let answer =
            wait::until_answered(container, || client.resolve(&self.identity, Want::Files, limit))?;
        // Before anything is written, for this container or another.
        self.files.iter().try_for_each(|file| self.value(file, &answer).map(drop))?;
        Ok(answer)
    }

    fn write(&self, answer: &ResolveAnswer) -> Result<(), Failure> {
        let directory = Directory::open(&self.directory)
            .map_err(|error| self.cannot_open(&self.directory, &error))?;
        for file in &self.files {
            let value = self.value(file, answer)?;
            directory
                .replace(&file.name, file.mode, |file| file.write_all(value.expose_secret()))
                .map_err(|error| self.cannot("write", &file.name, &error))?;
        }
        let Some(sandbox) = &self.sandbox else { return Ok(()) };
        let sandbox =
            Directory::open(sandbox).map_err(|error| self.cannot_open(sandbox, &error))?;
        for (file, path) in
            self.files.iter().filter_map(|file| Some((file, file.mount_point.as_ref()?)))
        {
            make_mount_point(&sandbox, path)
                .map_err(|error| self.cannot("make the mount point of", &file.name, &error))?;
        }
        Ok(())
    }

    fn value<'a>(
        &self,
        file: &Planned,
        answer: &'a ResolveAnswer,
    ) -> Result<&'a SecretBytes, Failure> {
        let name = file.name.to_string();
        answer
            .files
            .iter()
            .find(|secret| secret.name == name)
            .map(|secret| &secret.value)
            .ok_or_else(|| {
                let container = &self.identity.container;
                Failure::launch(format!(
                    "the store gave no file `{name}` for container `{container}`"
                ))
            })
    }

    fn cannot(&self, what: &str, name: &FileName, error: &io::Error) -> Failure {
        let container = &self.identity.container;
        let cause = match error.kind() {
            io::ErrorKind::StorageFull => "no space left in its volume".to_owned(),
            _ => error.to_string(),
        };
        Failure::launch(format!("cannot {what} file `{name}` of container `{container}`: {cause}"))
    }

    fn cannot_open(&self, directory: &std::path::Path, error: &io::Error) -> Failure {
        let container = &self.identity.container;
        let directory = directory.display();
        Failure::launch(format!("cannot open `{directory}` of container `{container}`: {error}"))
    }
}

/// Makes the parents too, so that the application can write beside the file: what the runtime makes
/// belongs to root.
fn make_mount_point(sandbox: &Directory, path: &RelativePath) -> io::Result<()> {
    let Some((first, others)) = path.parents.split_first() else {
        return sandbox.make_mount_point(&path.name);
    };
    let first = sandbox.descend(first)?;
    let parent = others.iter().try_fold(first, |parent, name| parent.descend(name))?;
    parent.make_mount_point(&path.name)
}

fn jobs(plan: FilePlan) -> Result<Vec<Job>, Failure> {
    plan.containers.into_iter().map(job).collect()
}

fn job(planned: ContainerFiles) -> Result<Job, Failure> {
    let ContainerFiles { container, token, directory, files, sandbox } = planned;
    let bad = |why: String| Failure::launch(format!("the plan for container `{container}`: {why}"));
    let files = files
        .into_iter()
        .map(|file| {
            let name = file.name.parse().map_err(|error| bad(format!("{error}")))?;
            if file.mode & !0o777 != 0 {
                return Err(bad(format!("{:#o} is no mode of a file", file.mode)));
            }
            if file.sandbox_path.is_some() && sandbox.is_none() {
                return Err(bad("a file in the sandbox, and no sandbox".to_owned()));
            }
            let mount_point = file
                .sandbox_path
                .map(|path| path.parse().map_err(|error| bad(format!("`{path}`: {error}"))))
                .transpose()?;
            Ok(Planned { name, mode: file.mode, mount_point })
        })
        .collect::<Result<_, _>>()?;
    let identity = Identity { container, token: token.into() };
    Ok(Job { identity, directory: directory.into(), sandbox: sandbox.map(PathBuf::from), files })
}

/// A value has 1 MiB at most; base64 adds a third, its name and JSON a little.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::jobs;

    #[rstest]
    #[case(json!({"name": "../0", "mode": 256}), "the plan for container `web`: `../0` is no name of a file")]
    #[case(json!({"name": "0", "mode": 0o4755}), "the plan for container `web`: 0o4755 is no mode of a file")]
    #[case(json!({"name": "0", "mode": 256, "sandbox_path": "a/../b"}), "the plan for container `web`: `a/../b`: `..` is no name of a file")]
    fn a_plan_that_could_leave_its_directories_is_refused(
        #[case] file: Value,
        #[case] message: &str,
    ) {
        let plan = json!({"containers": [{
            "container": "web", "token": "/t", "directory": "/f", "sandbox": "/s", "files": [file],
        }]});

        let failure = jobs(serde_json::from_value(plan).unwrap()).err().unwrap();

        assert_eq!(failure.message(), message);
    }

    #[test]
    fn a_file_in_the_sandbox_needs_a_sandbox() {
        let plan = json!({"containers": [{
            "container": "web", "token": "/t", "directory": "/f",
            "files": [{"name": "0", "mode": 256, "sandbox_path": "a"}],
        }]});

        assert!(jobs(serde_json::from_value(plan).unwrap()).is_err());
    }
}
