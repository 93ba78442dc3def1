//! A share of the root key on its way from its holder to the store.
//!
//! A holder has an OpenPGP message, and gives what is in it: hexadecimal digits. Decrypting may be
//! done elsewhere; or here, with a private key in a file, or by the `gpg` of this machine, which
//! knows keys on cards and in agents. A share that does not parse is never sent.

mod gpg;

use anyhow::{Context, bail};
use jiff::Timestamp;
use watchword_store::{Share, openpgp::PrivateKey};
use zeroize::Zeroizing;

use crate::{api::Entrusted, input::Input, prompt};

/// Where a share comes from.
pub(crate) enum ShareSource {
    /// The command line holds it.
    Argument(String),
    /// It is typed at the terminal; without one, it is on stdin.
    Asked,
    /// A file holds it.
    File(Input),
    /// The `gpg` of this machine decrypts it.
    Gpg { encrypted: Encrypted },
    /// It is decrypted here.
    PrivateKey { key: Input, passphrase: Option<Input>, encrypted: Encrypted },
}

/// Where an encrypted share is.
pub(crate) enum Encrypted {
    /// In a file of the holder's.
    Here(Input),
    /// Where the store keeps them all.
    InTheStore,
}

impl ShareSource {
    /// Whether the store must be asked for its encrypted shares.
    pub(crate) fn needs_entrusted(&self) -> bool {
        matches!(
            self,
            Self::Gpg { encrypted: Encrypted::InTheStore }
                | Self::PrivateKey { encrypted: Encrypted::InTheStore, .. }
        )
    }

    /// The shares that this person can give: one, or as many as their key opens. `entrusted` are
    /// the store's, where they are needed.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way; no error holds anything of a share.
    pub(crate) fn read(self, entrusted: &Entrusted) -> anyhow::Result<Vec<Share>> {
        let text = match self {
            Self::Argument(text) => Zeroizing::new(text),
            Self::Asked if prompt::can_ask() => prompt::ask("share")?,
            Self::Asked => Input::Stdin.read_text(MAX_SHARE_BYTES)?,
            Self::File(input) => input.read_text(MAX_SHARE_BYTES)?,
            Self::Gpg { encrypted } => return by_gpg(encrypted, entrusted),
            Self::PrivateKey { key, passphrase, encrypted } => {
                return by_private_key(&key, passphrase, encrypted, entrusted);
            }
        };
        Ok(vec![parse(&text)?])
    }
}

fn by_private_key(
    key: &Input,
    passphrase: Option<Input>,
    encrypted: Encrypted,
    entrusted: &Entrusted,
) -> anyhow::Result<Vec<Share>> {
    let bytes = key.read(MAX_KEY_BYTES)?;
    let private = PrivateKey::parse(&bytes).with_context(|| format!("cannot use {key}"))?;
    let now = Timestamp::now().as_second();
    let public = private.public(now).with_context(|| format!("cannot use {key}"))?;
    let fingerprint = public.fingerprint();
    let messages = messages(encrypted, entrusted, |other| other.eq_ignore_ascii_case(&fingerprint))
        .with_context(|| format!("cannot find a share for the key of {key} ({fingerprint})"))?;
    let passphrase = match passphrase {
        Some(input) => Some(first_line(&input.read_text(MAX_PASSPHRASE_BYTES)?)),
        None if private.needs_passphrase() => Some(prompt::ask("passphrase of the private key")?),
        None => None,
    };
    messages
        .iter()
        .map(|message| {
            let text = private
                .decrypt(message, passphrase.as_ref().map(|text| text.as_str()))
                .with_context(|| format!("cannot decrypt the share with {key}"))?;
            parse(std::str::from_utf8(&text).unwrap_or_default())
        })
        .collect()
}

fn by_gpg(encrypted: Encrypted, entrusted: &Entrusted) -> anyhow::Result<Vec<Share>> {
    let messages = messages(encrypted, entrusted, gpg::has_private_key)
        .context("cannot find a share that the `gpg` of this machine has the private key for")?;
    messages
        .iter()
        .map(|message| {
            let text = gpg::decrypt(message).context("cannot decrypt the share with `gpg`")?;
            parse(std::str::from_utf8(&text).unwrap_or_default())
        })
        .collect()
}

/// The OpenPGP messages that may hold shares of this person, whose keys `is_ours` knows.
fn messages(
    encrypted: Encrypted,
    entrusted: &Entrusted,
    is_ours: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Vec<u8>>> {
    match encrypted {
        Encrypted::Here(input) => {
            let bytes = input.read(MAX_MESSAGE_BYTES)?;
            let hex = std::str::from_utf8(&bytes).ok().and_then(from_hex);
            Ok(vec![hex.unwrap_or_else(|| bytes.to_vec())])
        }
        Encrypted::InTheStore => {
            let Entrusted { keys, pgp_fingerprints } = entrusted;
            let mut messages = Vec::new();
            for (key, fingerprint) in keys.iter().zip(pgp_fingerprints) {
                if is_ours(fingerprint) {
                    messages.push(from_hex(key).context("the store's answer is not hexadecimal")?);
                }
            }
            if messages.is_empty() {
                bail!("the store's shares are encrypted to {}", pgp_fingerprints.join(", "));
            }
            Ok(messages)
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Share> {
    Share::parse(text).context("that is no share of a root key")
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}

/// The bytes of hexadecimal digits; white space around them does not count.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_ascii().as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

/// A share is 64 or 66 digits; this leaves room for white space.
const MAX_SHARE_BYTES: usize = 1024;

/// A passphrase, and what may follow its line.
const MAX_PASSPHRASE_BYTES: usize = 4096;

/// An armoured key with many subkeys and signatures.
pub(crate) const MAX_KEY_BYTES: usize = 256 * 1024;

/// An encrypted share in hexadecimal digits; one to a 4096-bit key has about 1200.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("00fF\n", Some(vec![0, 255]))]
    #[case("", Some(vec![]))]
    #[case("0", None)]
    #[case("0g", None)]
    #[case("ää", None)]
    fn digits_of_either_case_are_bytes(#[case] text: &str, #[case] expected: Option<Vec<u8>>) {
        assert_eq!(from_hex(text), expected);
    }

    #[test]
    fn only_shares_of_ones_own_are_decrypted() {
        let entrusted = Entrusted {
            keys: vec!["01".into(), "02".into(), "03".into()],
            pgp_fingerprints: vec!["aa".into(), "bb".into(), "aa".into()],
        };

        let ours = messages(Encrypted::InTheStore, &entrusted, |key| key == "aa").unwrap();
        let none = messages(Encrypted::InTheStore, &entrusted, |_| false).unwrap_err();

        assert_eq!(ours, [vec![1], vec![3]]);
        assert_eq!(none.to_string(), "the store's shares are encrypted to aa, bb, aa");
    }

    #[test]
    fn a_share_that_is_none_is_not_repeated() {
        let source = ShareSource::Argument("canary-1234".to_owned());

        let error = source.read(&Entrusted::default()).err().unwrap();

        assert!(!format!("{error:#}").contains("canary"), "{error:#}");
    }
}
