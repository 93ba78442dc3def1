use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use watchword_audit::{Decision, Event, Report, Subject, Verifier};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn entry() -> Entry<'static> {
    Entry {
        event: Event::Read,
        decision: Decision::Allowed,
        subject: Subject::User { name: "alice", uid: None },
        path: Some("shop/db"),
        version: Some(1),
        cause: None,
        unwritten: 0,
    }
}

fn begun(output: impl Into<Output>) -> Sink {
    let mut sink = Sink::new("test", output.into(), "store-0").unwrap();
    sink.begin(NOW).unwrap();
    sink.sign_with(key(), NOW);
    sink
}

fn rotated(folder: &Path, files: usize) -> Sink {
    begun(LogFile::open(&folder.join("audit.log"), 4096, files).unwrap())
}

fn write(sink: &mut Sink, lines: usize) {
    for _ in 0..lines {
        sink.write(NOW, &entry(), None).unwrap();
    }
}

fn verify(files: &[&Path]) -> Report {
    let mut verifier = Verifier::new(key().public(), false);
    for file in files {
        verifier.begin_file("audit.log", |_| {});
        verifier.push(&fs::read(file).unwrap(), |_| {});
    }
    verifier.finish(|_| {})
}

#[test]
fn a_device_without_room_takes_no_line() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut sink = Sink::new("test", Stream::new(full).into(), "store-0").unwrap();

    assert_eq!(sink.begin(NOW).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(sink.write(NOW, &entry(), None).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn a_reader_that_is_gone_is_an_error_and_no_signal() {
    let (reader, writer) = io::pipe().unwrap();
    let mut sink = begun(Stream::new(File::from(std::os::fd::OwnedFd::from(writer))));
    drop(reader);

    assert_eq!(sink.write(NOW, &entry(), None).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_reader_that_does_not_read_is_waited_for_once_and_the_log_goes_on_when_it_does() {
    let (mut reader, writer) = io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let mut sink = begun(Stream::new(file).with_patience(Duration::from_millis(50)));

    let mut lines = 0;
    let error = loop {
        match sink.write(NOW, &entry(), None) {
            Ok(()) => lines += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(lines > 100, "{lines}");
    assert!(sink.write(NOW, &entry(), None).is_err());
    let read = std::thread::spawn(move || {
        let mut log = Vec::new();
        reader.read_to_end(&mut log).map(|_| log)
    });
    // Room comes when the thread has read; how soon is not ours to say.
    while sink.write(NOW, &entry(), None).is_err() {
        std::thread::yield_now();
    }
    sink.close(NOW);
    drop(sink);

    let log = read.join().unwrap().unwrap();
    let mut verifier = Verifier::new(key().public(), false);
    let mut lost = 0;
    verifier.push(&log, |record| lost += u64::from(record.event == "lost"));
    let report = verifier.finish(|_| {});
    assert!(report.is_verified() && report.chains[0].is_closed, "{report:?}");
    assert_eq!(lost, 1);
}

#[test]
fn files_are_rotated_and_the_chain_goes_on_over_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = rotated(folder.path(), 4);
    let path = |name: &str| folder.path().join(name);

    write(&mut sink, 40);
    sink.close(NOW);

    let names = ["audit.log.2", "audit.log.1", "audit.log"].map(path);
    let files: Vec<&Path> = names.iter().map(AsRef::as_ref).collect();
    let report = verify(&files);
    assert!(report.is_verified() && report.chains[0].is_closed, "{report:?}");
    assert!(!path("audit.log.3").exists() && !path("audit.log.new").exists());
    assert!(fs::metadata(files[0]).unwrap().len() < 2 * 4096);
    // Each file ends with a signature.
    let end = fs::read_to_string(files[0]).unwrap();
    assert!(end.lines().last().unwrap().contains("\"checkpoint\""));
}

#[test]
fn of_more_files_than_are_kept_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = rotated(folder.path(), 2);

    write(&mut sink, 60);

    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["audit.log", "audit.log.1"]);
}

#[test]
fn a_log_that_cannot_be_rotated_goes_on_in_the_file_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = rotated(folder.path(), 3);
    // A folder stands where the new file is to be made.
    fs::create_dir_all(folder.path().join("audit.log.new/in-the-way")).unwrap();

    write(&mut sink, 30);
    sink.close(NOW);

    let report = verify(&[&folder.path().join("audit.log")]);
    assert!(report.is_verified() && report.chains[0].is_closed, "{report:?}");
}

#[test]
fn another_process_is_kept_out_and_a_log_that_was_cut_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut sink = begun(LogFile::open(&path, 1 << 20, 2).unwrap());
    assert!(LogFile::open(&path, 1 << 20, 2).is_err());
    write(&mut sink, 3);
    drop(sink);
    let log = fs::read(&path).unwrap();
    fs::write(&path, &log[..log.len() - 40]).unwrap();

    let mut sink = begun(LogFile::open(&path, 1 << 20, 2).unwrap());
    sink.close(NOW);

    let report = verify(&[&path]);
    assert!(report.is_verified(), "{report:?}");
    assert_eq!(report.torn.len(), 1);
    let closed: Vec<bool> = report.chains.iter().map(|chain| chain.is_closed).collect();
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1);
}

/// Runs in a process of its own, in which a folder is a disk of 32 KiB.
#[test]
fn a_full_disk_refuses_lines_and_leaves_a_log_that_verifies() {
    if let Some(disk) = std::env::var_os(DISK) {
        fill_disk(Path::new(&disk));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=32k none "$1" && shift && exec "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    unshare.arg(folder.path()).arg(std::env::current_exe().unwrap());
    let name = "a_full_disk_refuses_lines_and_leaves_a_log_that_verifies";
    unshare.args(["--nocapture", name]).env(DISK, folder.path());

    let output = unshare.output().unwrap();

    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Some machines forbid user namespaces.
    assert!(output.status.success() || said.starts_with("unshare: "), "{said}");
}

fn fill_disk(disk: &Path) {
    let file = disk.join("audit.log");
    let filler = disk.join("filler");
    let mut sink = begun(LogFile::open(&file, 1 << 20, 2).unwrap());
    fs::write(&filler, [b'x'; 8192]).unwrap();
    fill(&mut sink);
    // The piece was taken back.
    assert!(fs::read(&file).unwrap().ends_with(b"}\n"));
    fs::remove_file(&filler).unwrap();
    write(&mut sink, 1);
    sink.close(NOW);
    let report = verify(&[&file]);
    assert!(report.is_verified() && report.chains[0].is_closed, "{report:?}");
    assert!(report.torn.is_empty());
    drop(sink);
    fs::remove_file(&file).unwrap();

    // What is no file of ours cannot be cut: the piece stays, and is ended.
    let mut sink = begun(Stream::new(File::create(&file).unwrap()));
    fs::write(&filler, [b'x'; 8192]).unwrap();
    fill(&mut sink);
    assert!(!fs::read(&file).unwrap().ends_with(b"\n"));
    assert!(sink.write(NOW, &entry(), None).is_err());
    fs::remove_file(&filler).unwrap();
    write(&mut sink, 1);
    sink.close(NOW);
    let report = verify(&[&file]);
    assert!(report.is_verified() && report.chains[0].is_closed, "{report:?}");
    assert_eq!(report.torn.len(), 1);
}

fn fill(sink: &mut Sink) {
    let error = loop {
        if let Err(error) = sink.write(NOW, &entry(), None) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

const DISK: &str = "WATCHWORD_TEST_DISK";
