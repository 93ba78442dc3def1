//! What is typed at a terminal: it is not shown, and the terminal is itself again afterwards.

use std::{
    fs::File,
    io::{Read, Write},
    process::Stdio,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::{fake_store::FakeStore, watchword::Person};

#[test]
fn a_share_that_is_typed_is_not_shown() {
    let store = FakeStore::start();
    store.state().sealed = true;
    let ann = Person::at(&store);
    let share = store.state().seal.plain[0].clone();
    let mut person: File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap().into();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let terminal = ptsname(&person, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(terminal.to_str().unwrap()).unwrap();
    let kept = open();

    let child = ann
        .command(&["store", "unseal"])
        .stdin(open())
        .stdout(Stdio::piped())
        .stderr(open())
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    read_until(&mut person, &mut shown, b"share: ");
    let echoes_meanwhile = tcgetattr(&kept).unwrap().local_modes.contains(LocalModes::ECHO);
    person.write_all(format!("{share}\n").as_bytes()).unwrap();
    read_until(&mut person, &mut shown, b"shares are given");
    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("progress:  1 of 2\n"), "{output:?}");
    assert!(!echoes_meanwhile);
    assert!(!String::from_utf8_lossy(&shown).contains(&share[..8]), "the share was shown");
    assert!(tcgetattr(&kept).unwrap().local_modes.contains(LocalModes::ECHO));
}

#[test]
fn who_gives_up_gets_the_terminal_back() {
    let store = FakeStore::start();
    store.state().sealed = true;
    let ann = Person::at(&store);
    let mut person: File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap().into();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let terminal = ptsname(&person, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(terminal.to_str().unwrap()).unwrap();
    let kept = open();

    let mut child = ann.command(&["store", "unseal"]).stdin(open()).stderr(open()).spawn().unwrap();
    let mut shown = Vec::new();
    read_until(&mut person, &mut shown, b"share: ");
    person.write_all(b"abc\x03").unwrap();
    read_until(&mut person, &mut shown, b"nothing was given");
    let status = child.wait().unwrap();

    assert_eq!(status.code(), Some(1));
    assert!(tcgetattr(&kept).unwrap().local_modes.contains(LocalModes::ECHO));
}

#[test]
fn a_table_is_not_paid_for_with_a_refusal_for_each_secret() {
    let store = FakeStore::start();
    store.state().lists_only = true;
    for number in 0..20 {
        store.hold(&format!("shop/{number}"), b"v");
    }
    let ann = Person::at(&store);
    let (mut person, terminal) = terminal();

    let mut child = ann.command(&["secret", "list"]).stdout(terminal).spawn().unwrap();
    let mut shown = Vec::new();
    read_until(&mut person, &mut shown, b"shop/9");
    let status = child.wait().unwrap();

    assert_eq!(status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown).contains("shop/19 "), "all of them are listed");
    assert_eq!(store.state().requests.len(), 4, "the list, and three refusals");
}

/// Both ends of a new terminal: a person's and a program's.
fn terminal() -> (File, File) {
    let person: File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap().into();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (person, program)
}

/// Reads what the terminal shows, up to a text.
fn read_until(terminal: &mut File, shown: &mut Vec<u8>, text: &[u8]) {
    let mut piece = [0; 256];
    while !shown.windows(text.len()).any(|window| window == text) {
        let read = terminal.read(&mut piece).unwrap();
        shown.extend_from_slice(&piece[..read]);
    }
}
