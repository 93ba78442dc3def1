//! OpenPGP against the real `gpg`: what we encrypt it opens, what it encrypts we open, and keys that
//! must not be used are refused. Needs the program `gpg` (Debian's package `gnupg`).

#![cfg(feature = "openpgp")]
#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not covered by clippy.toml

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use tempfile::TempDir;
use watchword_store::openpgp::{
    DecryptError, KeyError, KeyProblem, ParsePrivateKeyError, PrivateKey, PublicKey, entrust,
};
use watchword_store::{RootKey, SealConfig, Share};

/// A GnuPG home of its own, with an agent of its own.
struct Gpg(TempDir);

impl Gpg {
    fn new() -> Self {
        // The path of the agent's socket has to be short, so not below the build folder.
        let home = tempfile::Builder::new().prefix("wwg").tempdir_in("/tmp").unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(home)
    }

    /// What gpg writes to standard output; it must succeed.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut gpg = Command::new("gpg")
            .args(["--homedir", self.0.path().to_str().unwrap(), "--batch", "--yes", "--no-tty"])
            .args(["--quiet", "--trust-model", "always", "--pinentry-mode", "loopback"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need the program gpg (Debian: apt-get install gnupg)");
        gpg.stdin.take().unwrap().write_all(input).unwrap();
        let output = gpg.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {errors}");
        output.stdout
    }

    /// Makes a key of these lines of a parameter file, and returns its fingerprint.
    fn make(&self, lines: &str) -> String {
        let name = "Name-Real: Test\nName-Email: test@example.org\n%commit\n";
        self.run(&["--generate-key"], format!("{lines}\n{name}").as_bytes());
        let listed = self.run(&["--with-colons", "--list-keys"], b"");
        let listed = String::from_utf8(listed).unwrap();
        let fingerprint = listed.lines().rfind(|line| line.starts_with("pub")).and_then(|line| {
            let rest = &listed[line.as_ptr() as usize - listed.as_ptr() as usize..];
            rest.lines().find_map(|line| line.strip_prefix("fpr:::::::::"))
        });
        fingerprint.unwrap().trim_end_matches(':').to_owned()
    }

    fn export(&self, fingerprint: &str) -> Vec<u8> {
        self.run(&["--export", fingerprint], b"")
    }

    fn decrypt(&self, message: &[u8]) -> Vec<u8> {
        self.run(&["--decrypt"], message)
    }

    fn encrypt(&self, fingerprint: &str, plaintext: &[u8], more: &[&str]) -> Vec<u8> {
        self.run(&[&["--encrypt", "--recipient", fingerprint], more].concat(), plaintext)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.0.path();
        let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status();
    }
}

const RSA: &str = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\n\
    Subkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: encrypt\nExpire-Date: 0";

const RSA_1024: &str = "%no-protection\nKey-Type: RSA\nKey-Length: 1024\nKey-Usage: sign\n\
    Subkey-Type: RSA\nSubkey-Length: 1024\nSubkey-Usage: encrypt\nExpire-Date: 0";

const RSA_PRIMARY_ONLY: &str = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\n\
    Key-Usage: sign,encrypt\nExpire-Date: 0";

/// Its subkey signs as well, and so confirms that it belongs to the key.
const RSA_SIGNING_SUBKEY: &str = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\n\
    Subkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: sign,encrypt\nExpire-Date: 0";

const SIGN_ONLY: &str =
    "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\nExpire-Date: 0";

const CURVE_25519: &str = "%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\n\
    Subkey-Type: ecdh\nSubkey-Curve: cv25519\nSubkey-Usage: encrypt\nExpire-Date: 0";

const EXPIRING: &str = "%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\n\
    Subkey-Type: ecdh\nSubkey-Curve: cv25519\nSubkey-Usage: encrypt\nExpire-Date: 1y";

fn nist(curve: &str) -> String {
    format!(
        "%no-protection\nKey-Type: ecdsa\nKey-Curve: {curve}\nKey-Usage: sign\n\
         Subkey-Type: ecdh\nSubkey-Curve: {curve}\nSubkey-Usage: encrypt\nExpire-Date: 0"
    )
}

const YEAR: i64 = 366 * 24 * 60 * 60;

#[expect(clippy::disallowed_methods, reason = "gpg makes its keys now")]
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs().try_into().unwrap()
}

fn parse_at(binary: &[u8], now: i64) -> Result<PublicKey, KeyError> {
    PublicKey::parse(&STANDARD.encode(binary), now)
}

fn parse(binary: &[u8]) -> Result<PublicKey, KeyError> {
    parse_at(binary, now())
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The packets of a key as gpg writes them, with their headers.
fn packets(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let [first, rest @ ..] = bytes {
        let (tag, header, length) = match (first & 0x40, first & 3) {
            (0, 0) => ((first >> 2) & 15, 2, usize::from(rest[0])),
            (0, 1) => ((first >> 2) & 15, 3, usize::from(u16::from_be_bytes([rest[0], rest[1]]))),
            _ => panic!("gpg writes other headers now"),
        };
        let (packet, left) = bytes.split_at(header + length);
        packets.push((tag, packet.to_vec()));
        bytes = left;
    }
    packets
}

fn joined(packets: &[(u8, Vec<u8>)]) -> Vec<u8> {
    packets.iter().flat_map(|(_, bytes)| bytes).copied().collect()
}

#[rstest]
#[case::rsa(RSA.to_owned())]
#[case::rsa_primary(RSA_PRIMARY_ONLY.to_owned())]
#[case::rsa_signing_subkey(RSA_SIGNING_SUBKEY.to_owned())]
#[case::cv25519(CURVE_25519.to_owned())]
#[case::nistp256(nist("nistp256"))]
#[case::nistp384(nist("nistp384"))]
#[case::nistp521(nist("nistp521"))]
fn gpg_opens_what_we_encrypt_and_we_open_what_gpg_encrypts(#[case] parameters: String) {
    let gpg = Gpg::new();
    let fingerprint = gpg.make(&parameters);
    let key = parse(&gpg.export(&fingerprint)).unwrap();
    assert_eq!(key.fingerprint(), fingerprint.to_lowercase());

    assert_eq!(gpg.decrypt(&key.encrypt(b"5c5c").unwrap()), b"5c5c");

    let exported = gpg.run(&["--export-secret-keys", &fingerprint], b"");
    let private = PrivateKey::parse(&exported).unwrap();
    assert!(!private.needs_passphrase());
    for more in [&[][..], &["--compress-algo", "none"], &["--throw-keyids"], &["--sign"]] {
        let message = gpg.encrypt(&fingerprint, b"a share\n", more);
        assert_eq!(*private.decrypt(&message, None).unwrap(), b"a share\n", "{more:?}");
    }
    let public = private.public(now()).unwrap();
    assert_eq!(gpg.decrypt(&public.encrypt(b"x").unwrap()), b"x");
}

#[test]
fn three_people_get_a_share_each_and_any_two_open_the_store() {
    let gpg = Gpg::new();
    let fingerprints = [gpg.make(RSA), gpg.make(CURVE_25519), gpg.make(&nist("nistp256"))];
    let armoured = fingerprints.each_ref().map(|one| gpg.run(&["--armor", "--export", one], b""));
    let keys =
        armoured.map(|text| PublicKey::parse(std::str::from_utf8(&text).unwrap(), now()).unwrap());
    let root_key = RootKey::generate().unwrap();

    let custody = entrust(&root_key, SealConfig::new(3, 2, 3).unwrap(), &keys).unwrap();

    assert_eq!((custody.shares, custody.threshold), (3, 2));
    assert_eq!(custody.pgp_fingerprints, fingerprints.map(|one| one.to_lowercase()));
    let shares: Vec<String> = custody
        .keys
        .iter()
        .map(|message| String::from_utf8(gpg.decrypt(&unhex(message))).unwrap())
        .collect();
    for text in &shares {
        // Lower-case hex and nothing else, as DC/OS has it.
        assert_eq!(text.len(), 66);
        assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
    for pair in [[0, 1], [1, 2], [2, 0]] {
        let pair = pair.map(|index| Share::parse(&shares[index]).unwrap());
        assert!(RootKey::combine(&pair).unwrap().is_same(&root_key));
    }
}

#[test]
fn the_only_share_of_dcos_is_the_hex_of_the_key() {
    let gpg = Gpg::new();
    let key = parse(&gpg.export(&gpg.make(RSA))).unwrap();
    let root_key = RootKey::generate().unwrap();

    let custody = entrust(&root_key, SealConfig::new(1, 1, 1).unwrap(), &[key]).unwrap();

    let share = String::from_utf8(gpg.decrypt(&unhex(&custody.keys[0]))).unwrap();
    let share = Share::parse(&share).unwrap();
    assert!(RootKey::combine(&[share]).unwrap().is_same(&root_key));
}

#[test]
fn a_pair_that_is_made_here_works_in_gpg_and_here() {
    let gpg = Gpg::new();
    let made = PrivateKey::generate("Watchword store <store@example.org>", now()).unwrap();
    assert!(!made.needs_passphrase());
    let armour = made.to_armor().unwrap();
    let public = made.public(now()).unwrap();

    gpg.run(&["--import"], armour.as_bytes());

    let message = public.encrypt(b"a share").unwrap();
    assert_eq!(gpg.decrypt(&message), b"a share");
    assert_eq!(*made.decrypt(&message, None).unwrap(), b"a share");
    // With a user id, and fit to be encrypted to by gpg.
    let message = gpg.encrypt("store@example.org", b"from gpg", &[]);
    let read_again = PrivateKey::parse(armour.as_bytes()).unwrap();
    assert_eq!(*read_again.decrypt(&message, None).unwrap(), b"from gpg");
    // Back through base64, as `init` gets it.
    let parsed = PublicKey::parse(&public.to_base64(), now()).unwrap();
    assert_eq!(parsed.fingerprint(), public.fingerprint());
    let listed = gpg.run(&["--with-colons", "--list-secret-keys"], b"");
    let listed = String::from_utf8(listed).unwrap().to_lowercase();
    assert!(listed.contains(&public.fingerprint()) && listed.contains(":4096:1:"), "{listed}");
}

#[test]
fn a_locked_key_opens_with_its_passphrase_only() {
    let gpg = Gpg::new();
    let parameters = CURVE_25519.replace("%no-protection\n", "") + "\nPassphrase: open sesame";
    let fingerprint = gpg.make(&parameters);
    let passphrase = ["--passphrase", "open sesame"];
    let exported = gpg
        .run(&[&passphrase[..], &["--armor", "--export-secret-keys", &fingerprint]].concat(), b"");
    let message = gpg.encrypt(&fingerprint, b"a share", &[]);

    let private = PrivateKey::parse(&exported).unwrap();

    assert!(private.needs_passphrase());
    assert_eq!(*private.decrypt(&message, Some("open sesame")).unwrap(), b"a share");
    for wrong in [None, Some(""), Some("open")] {
        assert_eq!(private.decrypt(&message, wrong).err(), Some(DecryptError::Passphrase));
    }
    // Without the primary key's private half, as careful people carry it.
    let subkeys =
        gpg.run(&[&passphrase[..], &["--export-secret-subkeys", &fingerprint]].concat(), b"");
    let private = PrivateKey::parse(&subkeys).unwrap();
    assert_eq!(*private.decrypt(&message, Some("open sesame")).unwrap(), b"a share");
}

#[test]
fn a_message_that_was_changed_or_is_for_others_is_refused() {
    let gpg = Gpg::new();
    let (own, other) = (gpg.make(CURVE_25519), gpg.make(CURVE_25519));
    let export = |one: &str| gpg.run(&["--export-secret-keys", one], b"");
    let (private, stranger) =
        (PrivateKey::parse(&export(&own)).unwrap(), PrivateKey::parse(&export(&other)).unwrap());
    let message = parse(&gpg.export(&own)).unwrap().encrypt(b"a share").unwrap();

    assert_eq!(stranger.decrypt(&message, None).err(), Some(DecryptError::NotForKey));
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        // A bit of the key id or of a length may be ignored; what comes out is what went in.
        if let Ok(plaintext) = private.decrypt(&changed, None) {
            assert_eq!(*plaintext, b"a share", "byte {at}");
        }
    }
    for length in 0..message.len() {
        assert!(private.decrypt(&message[..length], None).is_err(), "{length} bytes");
    }
    assert_eq!(private.decrypt(&vec![0; 70_000], None).err(), Some(DecryptError::TooLong));
    let plain = gpg.run(&["--store"], b"plain");
    assert_eq!(private.decrypt(&plain, None).err(), Some(DecryptError::NotEncrypted));
    let bomb = gpg.encrypt(&own, &vec![0; 5_000_000], &[]);
    assert!(bomb.len() < 64 * 1024);
    assert_eq!(private.decrypt(&bomb, None).err(), Some(DecryptError::TooLong));
}

#[test]
fn an_expired_key_is_refused_and_one_of_the_future_too() {
    let gpg = Gpg::new();
    let exported = gpg.export(&gpg.make(EXPIRING));

    assert!(parse(&exported).is_ok());
    assert_eq!(parse_at(&exported, now() + 2 * YEAR).err(), Some(KeyProblem::Expired.into()));
    assert_eq!(parse_at(&exported, now() - YEAR).err(), Some(KeyProblem::Unsigned.into()));
}

#[test]
fn a_prolonged_key_counts_by_its_newest_signatures() {
    let gpg = Gpg::new();
    let fingerprint = gpg.make(EXPIRING);
    gpg.run(&["--quick-set-expire", &fingerprint, "5y"], b"");
    gpg.run(&["--quick-set-expire", &fingerprint, "5y", "*"], b"");

    let key = parse_at(&gpg.export(&fingerprint), now() + 2 * YEAR).unwrap();

    assert_eq!(gpg.decrypt(&key.encrypt(b"x").unwrap()), b"x");
}

#[test]
fn a_subkey_that_has_expired_is_not_used_even_if_the_key_lives() {
    let gpg = Gpg::new();
    let fingerprint = gpg.make(EXPIRING);
    gpg.run(&["--quick-set-expire", &fingerprint, "5y"], b"");

    let refused = parse_at(&gpg.export(&fingerprint), now() + 2 * YEAR);

    assert_eq!(refused.err(), Some(KeyProblem::Expired.into()));
}

#[test]
fn a_revoked_key_is_refused() {
    let gpg = Gpg::new();
    let fingerprint = gpg.make(CURVE_25519);
    let certificate = gpg.path("openpgp-revocs.d").join(format!("{fingerprint}.rev"));
    let certificate = fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");

    gpg.run(&["--import"], certificate.as_bytes());

    assert_eq!(parse(&gpg.export(&fingerprint)).err(), Some(KeyProblem::Revoked.into()));
}

#[test]
fn a_revoked_subkey_is_never_used_and_the_newest_of_the_others_is() {
    let gpg = Gpg::new();
    let fingerprint = gpg.make(CURVE_25519);
    let edit = ["--command-fd", "0", "--edit-key", &fingerprint];
    gpg.run(&edit, b"key 1\nrevkey\ny\n0\n\ny\nsave\n");
    assert_eq!(parse(&gpg.export(&fingerprint)).err(), Some(KeyProblem::Revoked.into()));

    gpg.run(&["--passphrase", "", "--quick-add-key", &fingerprint, "rsa2048", "encr"], b"");

    let message = parse(&gpg.export(&fingerprint)).unwrap().encrypt(b"x").unwrap();
    assert_eq!(gpg.decrypt(&message), b"x");
    // RSA and not ECDH, so to the new one.
    assert!(message.len() > 256);
}

#[test]
fn a_key_that_only_signs_and_a_short_one_are_refused() {
    let gpg = Gpg::new();

    let problem = || Some(KeyProblem::NotForEncryption.into());
    assert_eq!(parse(&gpg.export(&gpg.make(SIGN_ONLY))).err(), problem());
    assert_eq!(parse(&gpg.export(&gpg.make(RSA_1024))).err(), problem());
}

#[test]
fn a_subkey_counts_only_with_the_owners_signature() {
    let gpg = Gpg::new();
    let own = packets(&gpg.export(&gpg.make(RSA)));
    let other = packets(&gpg.export(&gpg.make(RSA)));
    let tags: Vec<u8> = own.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, [6, 13, 2, 14, 2], "key, user id, signature, subkey, signature");
    assert!(parse(&joined(&own)).is_ok());

    // Somebody else's subkey, with the signature of its own key, in the place of the owner's …
    let foreign = [&own[..3], &other[3..]].concat();
    assert_eq!(parse(&joined(&foreign)).err(), Some(KeyProblem::Unbound.into()));
    // … or with the signature over the owner's subkey.
    let swapped = [&own[..3], &other[3..4], &own[4..]].concat();
    assert_eq!(parse(&joined(&swapped)).err(), Some(KeyProblem::Unbound.into()));
    // Beside the owner's it is not used, though it is newer.
    let beside = [&own[..], &other[3..]].concat();
    let message = parse(&joined(&beside)).unwrap().encrypt(b"x").unwrap();
    // Header, version and the id of the recipient.
    assert_eq!(message[..12], parse(&joined(&own)).unwrap().encrypt(b"x").unwrap()[..12]);
    // Without signatures there is no key.
    assert!(parse(&joined(&own[..4])).is_err());
    let unsigned = [&own[..2], &own[3..]].concat();
    assert_eq!(parse(&joined(&unsigned)).err(), Some(KeyProblem::Unsigned.into()));
}

#[test]
fn no_bit_of_a_signature_can_be_changed() {
    let gpg = Gpg::new();
    let good = packets(&gpg.export(&gpg.make(CURVE_25519)));

    for (which, problem) in [(2, KeyProblem::Unsigned), (4, KeyProblem::Unbound)] {
        let mut changed = good.clone();
        let last = changed[which].1.len() - 5;
        changed[which].1[last] ^= 1;
        assert_eq!(parse(&joined(&changed)).err(), Some(problem.into()));
    }
    // The key that encrypts: another point, or another key's number.
    for at in 10..good[3].1.len() {
        let mut changed = good.clone();
        changed[3].1[at] ^= 1;
        // The length in bits of a number may be off by some: it is the same key then.
        if let Ok(key) = parse(&joined(&changed)) {
            assert_eq!(gpg.decrypt(&key.encrypt(b"x").unwrap()), b"x", "byte {at}");
        }
    }
}

#[test]
fn whatever_byte_of_a_key_is_changed_nothing_is_encrypted_to_another() {
    let gpg = Gpg::new();
    for parameters in [RSA, CURVE_25519] {
        let good = gpg.export(&gpg.make(parameters));
        let key = parse(&good).unwrap();
        // The id stands behind a header of two or three bytes and the version.
        let recipient = |key: &PublicKey| {
            let message = key.encrypt(b"x").unwrap();
            let start = if message[1] < 192 { 3 } else { 4 };
            message[start..start + 8].to_vec()
        };

        for byte in 0..good.len() {
            let mut changed = good.clone();
            changed[byte] ^= 1 << (byte % 8);
            // What is not signed may differ: hints in signatures, the length in bits of a number.
            if let Ok(changed) = parse(&changed) {
                assert_eq!(changed.fingerprint(), key.fingerprint(), "byte {byte}");
                assert_eq!(recipient(&changed), recipient(&key), "byte {byte}");
            }
        }
    }
}

#[test]
fn a_subkey_that_may_sign_has_to_confirm_that_it_belongs_to_the_key() {
    let gpg = Gpg::new();
    let good = packets(&gpg.export(&gpg.make(RSA_SIGNING_SUBKEY)));
    assert!(parse(&joined(&good)).is_ok());

    // Its confirmation stands in the unsigned part of the binding signature, in front of 16 bits of
    // the hash and the RSA number of 2048 bits.
    let mut changed = good.clone();
    let at = changed[4].1.len() - 258 - 2 - 100;
    changed[4].1[at] ^= 1;

    assert_eq!(parse(&joined(&changed)).err(), Some(KeyProblem::Unbound.into()));
}

#[test]
fn what_is_not_one_public_key_is_refused_and_the_error_says_how_to_mend_it() {
    let gpg = Gpg::new();
    let (one, two) = (gpg.make(CURVE_25519), gpg.make(CURVE_25519));
    let both = [gpg.export(&one), gpg.export(&two)].concat();
    let secret = gpg.run(&["--export-secret-keys", &one], b"");
    let message = gpg.encrypt(&one, b"x", &[]);
    let good = gpg.export(&one);

    assert_eq!(parse(&both).err(), Some(KeyProblem::Several.into()));
    assert_eq!(parse(&secret).err(), Some(KeyProblem::Private.into()));
    assert_eq!(parse(&message).err(), Some(KeyProblem::Empty.into()));
    assert_eq!(parse(&[]).err(), Some(KeyProblem::Empty.into()));
    assert!(matches!(parse(&vec![0x99; 65_537]), Err(KeyError::Parse(KeyProblem::TooLong { .. }))));
    let padding = [0xd5, 0].repeat(300);
    assert_eq!(parse(&padding).err(), Some(KeyProblem::TooManyPackets.into()));
    for length in 1..good.len() {
        assert!(parse(&good[..length]).is_err(), "{length} bytes");
    }
    for text in ["", "%%%", "mQIN", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQIN\n"] {
        let error = PublicKey::parse(text, now()).unwrap_err().to_string();
        let vault = ["Error decoding given PGP key: ", "Error parsing given PGP key: "];
        assert!(vault.iter().any(|prefix| error.starts_with(prefix)), "{text}: {error}");
    }
    assert_eq!(PrivateKey::parse(&good).err(), Some(ParsePrivateKeyError::Public));
    assert!(PrivateKey::parse(b"nothing").is_err());
}
