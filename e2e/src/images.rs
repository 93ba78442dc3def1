//! The images that the cluster's pods run, made without a container engine.
//!
//! An image is a docker-archive with one layer. Names are sorted and times and owners are zero,
//! so the same files give the same archive, byte for byte. Nothing is pulled from anywhere.
//!
//! | reference | content |
//! |---|---|
//! | `localhost/pause:1` | the process that holds a pod's namespaces (`images/pause.c`) |
//! | `localhost/busybox:1` | Debian's static busybox and a link for each applet |
//! | `localhost/scratch-app:1` | `/probe` and nothing else, no shell (`images/probe.c`) |
//! | `localhost/watchword:e2e` | `/agent`, `/watchword-controller` |

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::node;

/// The image of a pod's pause process.
pub const PAUSE: &str = "localhost/pause:1";

/// An image with a shell.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// An image without a shell.
pub const SCRATCH_APP: &str = "localhost/scratch-app:1";

/// Watchword's own image, as the tests install it.
pub const WATCHWORD: &str = "localhost/watchword:e2e";

/// The built programs that Watchword's image holds.
#[derive(Clone, Debug)]
pub struct WatchwordPrograms {
    /// `watchword-agent`, which becomes `/agent`.
    pub agent: PathBuf,
    /// `watchword-controller`.
    pub controller: PathBuf,
}

/// Makes the archives that every cluster gets: pause, busybox and the app without a shell.
///
/// # Errors
///
/// If gcc or busybox are missing, or the disk is full.
pub fn build_basic(cache: &Cache) -> Result<Vec<PathBuf>> {
    let folder = cache.images();
    let image = |reference, layer, entrypoint| Image { reference, layer, entrypoint, user: "" };

    let mut pause = Layer::default();
    pause.file("pause", fs::read(compile(cache, "pause")?)?, 0o755);
    let mut probe = Layer::default();
    probe.file("probe", fs::read(compile(cache, "probe")?)?, 0o755);
    Ok(vec![
        image(PAUSE, pause, Some("/pause")).save(&folder)?,
        image(BUSYBOX, busybox()?, None).save(&folder)?,
        image(SCRATCH_APP, probe, Some("/probe")).save(&folder)?,
    ])
}

/// Makes the archive of [`WATCHWORD`]. Debug information is left out, which keeps imports fast.
///
/// # Errors
///
/// If a program is missing or is not statically linked, or the disk is full.
pub fn build_watchword(cache: &Cache, programs: &WatchwordPrograms) -> Result<PathBuf> {
    let WatchwordPrograms { agent, controller } = programs;
    // Packing takes an unoptimised build ten seconds, so it is done once per set of programs.
    let made_of = describe(&[agent, controller])?;
    let (archive, note) =
        (cache.images().join("watchword-e2e.tar"), cache.images().join("watchword-e2e.made-of"));
    if archive.exists() && fs::read_to_string(&note).is_ok_and(|text| text == made_of) {
        return Ok(archive);
    }
    fs::remove_file(&note).ok();
    let mut layer = Layer::default();
    for (name, program) in [("agent", agent), ("watchword-controller", controller)] {
        if !node::is_static(program) {
            bail!(
                "`{}` is missing or not statically linked, and the image has no libraries: \
                 build it with `make build`",
                program.display()
            );
        }
        layer.file(name, stripped(program)?, 0o755);
    }
    let archive = Image { reference: WATCHWORD, layer, entrypoint: None, user: "65532:65532" }
        .save(&cache.images())?;
    fs::write(&note, made_of).with_context(|| format!("cannot write `{}`", note.display()))?;
    Ok(archive)
}

/// Path, size and time of each program.
fn describe(programs: &[&PathBuf]) -> Result<String> {
    let mut text = String::new();
    for program in programs {
        let is = fs::metadata(program)
            .with_context(|| format!("cannot find `{}`", program.display()))?;
        let line = format!("{} {} {:?}\n", program.display(), is.len(), is.modified()?);
        text.push_str(&line);
    }
    Ok(text)
}

struct Image {
    reference: &'static str,
    layer: Layer,
    entrypoint: Option<&'static str>,
    user: &'static str,
}

impl Image {
    /// Writes the archive as `<name>.tar`, at once, and returns its path.
    fn save(&self, folder: &Path) -> Result<PathBuf> {
        let name = self.reference.trim_start_matches("localhost/").replace(':', "-");
        let path = folder.join(format!("{name}.tar"));
        put(&path, |partial| Ok(fs::write(partial, self.archive()?)?))?;
        Ok(path)
    }

    fn archive(&self) -> std::io::Result<Vec<u8>> {
        let layer = self.layer.archive()?;
        let digest = hex(&Sha256::digest(&layer));
        let mut configuration = json!({ "User": self.user });
        if let Some(entrypoint) = self.entrypoint {
            configuration["Entrypoint"] = json!([entrypoint]);
        } else if self.reference == BUSYBOX {
            configuration["Cmd"] = json!(["sh"]);
            configuration["Env"] = json!(["PATH=/bin"]);
        }
        let configuration = json!({
            "architecture": architecture(),
            "config": configuration,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{
            "Config": "config.json",
            "Layers": ["layer.tar"],
            "RepoTags": [self.reference],
        }]);
        let mut archive = Layer::default();
        archive.file("config.json", configuration.to_string().into_bytes(), 0o644);
        archive.file("layer.tar", layer, 0o644);
        archive.file("manifest.json", manifest.to_string().into_bytes(), 0o644);
        archive.archive()
    }
}

/// Files by path, without a leading slash.
#[derive(Default)]
struct Layer(BTreeMap<String, Entry>);

enum Entry {
    File { content: Vec<u8>, mode: u32 },
    Folder { mode: u32 },
    Link { target: String },
}

impl Layer {
    fn file(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.0.insert(path.to_owned(), Entry::File { content, mode });
    }

    fn folder(&mut self, path: &str, mode: u32) {
        self.0.insert(path.to_owned(), Entry::Folder { mode });
    }

    fn link(&mut self, path: &str, target: &str) {
        self.0.insert(path.to_owned(), Entry::Link { target: target.to_owned() });
    }

    fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match entry {
                Entry::File { content, mode } => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Folder { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    builder.append_link(&mut header, path, target)?;
                }
            }
        }
        builder.into_inner()
    }
}

fn busybox() -> Result<Layer> {
    let program = node::busybox()?;
    let output = Command::new(&program)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run `{}`", program.display()))?;
    let mut layer = Layer::default();
    layer.folder("bin", 0o755);
    layer.folder("etc", 0o755);
    layer.folder("tmp", 0o1777);
    layer.file("bin/busybox", fs::read(&program)?, 0o755);
    layer.file("etc/group", b"root:x:0:\nnobody:x:65534:\n".to_vec(), 0o644);
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_vec(),
        0o644,
    );
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        if applet != "busybox" {
            layer.link(&format!("bin/{applet}"), "busybox");
        }
    }
    Ok(layer)
}

/// Compiles `images/<name>.c` unless that has been done; returns the program.
fn compile(cache: &Cache, name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(format!("{name}.c"));
    let text = fs::read(&source).with_context(|| format!("cannot read `{}`", source.display()))?;
    let stamp = hex(&Sha256::digest([text, FLAGS.join(" ").into_bytes()].concat()));
    let program = cache.images().join(format!("{name}-{}", &stamp[..12]));
    if program.exists() {
        return Ok(program);
    }
    put(&program, |partial| {
        let output = Command::new("gcc")
            .args(FLAGS)
            .arg("-o")
            .arg(partial)
            .arg(&source)
            .output()
            .context("cannot run `gcc`, which Rust needs as well (package `gcc`)")?;
        if !output.status.success() {
            bail!(
                "cannot compile `{}` (it takes the packages `gcc` and `libc6-dev`):\n{}",
                source.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    })?;
    Ok(program)
}

/// Makes a file where nobody else does, and then gives it its name: stories of one process make the
/// same one at the same time.
fn put(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let made = || {
        let folder = path.parent().context("it has no folder")?;
        fs::create_dir_all(folder)?;
        let own = tempfile::tempdir_in(folder)?;
        let partial = own.path().join("partial");
        make(&partial)?;
        fs::rename(&partial, path)?;
        anyhow::Ok(())
    };
    made().with_context(|| format!("cannot make `{}`", path.display()))
}

/// A program without debug information; as it is if there is no `strip`.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let copy = folder.path().join("stripped");
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(program).output();
    let path = match stripped {
        Ok(output) if output.status.success() => &copy,
        _ => program,
    };
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The name that images have for the architecture this was built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const FLAGS: [&str; 6] = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"];

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::Value;

    use super::*;

    fn example() -> Image {
        let mut layer = Layer::default();
        layer.file("b", b"two".to_vec(), 0o755);
        layer.link("a", "b");
        layer.folder("tmp", 0o1777);
        Image { reference: WATCHWORD, layer, entrypoint: None, user: "65532:65532" }
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (path, content)
            })
            .collect()
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        assert_eq!(example().archive().unwrap(), example().archive().unwrap());
    }

    #[test]
    fn an_archive_names_its_image_its_user_and_its_layer() {
        let archive = files(&example().archive().unwrap());

        let manifest: Value = serde_json::from_slice(&archive["manifest.json"]).unwrap();
        let configuration: Value = serde_json::from_slice(&archive["config.json"]).unwrap();
        let digest = hex(&Sha256::digest(&archive["layer.tar"]));
        assert_eq!(manifest[0]["RepoTags"][0], WATCHWORD);
        assert_eq!(configuration["config"]["User"], "65532:65532");
        assert_eq!(configuration["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));
        assert_eq!(files(&archive["layer.tar"])["b"], b"two");
    }

    #[test]
    fn a_layers_names_are_sorted_and_its_links_and_modes_are_kept() {
        let bytes = example().layer.archive().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());

        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().entry_type(), entry.header().mode().unwrap())
            })
            .collect();

        assert_eq!(
            seen,
            [
                ("a".to_owned(), tar::EntryType::Symlink, 0o777),
                ("b".to_owned(), tar::EntryType::Regular, 0o755),
                ("tmp/".to_owned(), tar::EntryType::Directory, 0o1777),
            ]
        );
    }
}
