//! Known answers: a root key, a keyring and a record, made by an independent program.
//!
//! They were computed with OpenSSL's AES and Python's HMAC from the tables in [`crate::record`] and
//! [`crate::keyring`]. As long as they open and come out again byte for byte, every store that was
//! ever written can be read. They must never be changed: a new format is a new number and new
//! answers beside these.

use crate::keyring::Keyring;
use crate::name::ObjectName;
use crate::root_key::RootKey;

/// The bytes 00, 01, 02 … 1f.
pub(crate) fn root_key() -> RootKey {
    RootKey::from_share("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").unwrap()
}

/// Generation 2: the name key is 07…, term 1 of time 1000 is 11…, term 2 of time -1 is 22….
pub(crate) fn keyring() -> Keyring {
    Keyring::open(&keyring_bytes(), &root_key()).unwrap()
}

pub(crate) fn keyring_bytes() -> Vec<u8> {
    unhex(&KEYRING.concat())
}

/// Version 7 of `shop/db` under term 2, with the data key 33…, [`METADATA`] and [`VALUE`].
pub(crate) fn record_bytes() -> Vec<u8> {
    unhex(&RECORD.concat())
}

pub(crate) fn record_name() -> ObjectName {
    ObjectName::parse("b02b72f4f2f7e593e74c89edc7a0465376f1d4834fdcb5a334d9a249.7.00112233445566ff")
        .unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|start| u8::from_str_radix(&text[start..start + 2], 16).unwrap())
        .collect()
}

pub(crate) const METADATA: &[u8] = br#"{"path":"shop/db"}"#;

pub(crate) const VALUE: &[u8] = b"hunter2\n";

const KEYRING: &[&str] = &[
    "575753520103000000000000000200076b657972696e67444444444444444444444444cbf3845d57fd1851ee",
    "4bb67fd0ad33468d4d528893b2a8161c660bafb1817efa534a8330ae40631013cbf034bb6bab75a0a5bfa441",
    "0e1f55c94599d21e2faa39bc3e2eda925b5e3bd4f74048c7f5e3a3927cc2d7a657cfff2c26744647baf7d3ff",
    "e627a3878d73a04790130e0c24bb9dfb2ea1cac43970d3ea1f93306d90152ef2f0d5f4a4bba21435148059",
];

const RECORD: &[&str] = &[
    "5757535201010000000000000007004b62303262373266346632663765353933653734633839656463376130",
    "343635333736663164343833346664636235613333346439613234392e372e30303131323233333434353536",
    "36666600000002c372f82169684caf2a8e3d918d392d6a7d7133f5cd0363df6ac0e3607b3b98239fb6f9d683",
    "99cdbc000000226006f596aef0e88e09e83288c4cdaccf3607cb8ad5a04f7f179e13bae396dca07d9f000000",
    "18b346687dfe81e555fbf99d15bb32a59c99e6e0e7bf236e5a",
];
