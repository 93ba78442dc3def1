//! Who is to hold the shares of a new root key, and the encrypted shares for them.
//!
//! Without keys of holders a pair is made here, not in the store: its private half never travels. It
//! is on the disk before the store is asked for anything, because an answer may be lost on the way,
//! and a store whose only share nobody can decrypt is lost with everything in it.

use std::{fs, path::Path};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use watchword_store::{
    SealConfig,
    openpgp::{PrivateKey, PublicKey},
};

use crate::{
    api::{self, Custody, Entrusted, StoreId},
    args::{self, CustodyArgs},
    input::Input,
    new_file,
    output::Output,
    share::{MAX_KEY_BYTES, from_hex},
};

/// What to ask the store for, and where the private half of a new pair is.
pub(super) struct Holders {
    pub(super) custody: Custody,
    kept: Option<std::path::PathBuf>,
}

impl Holders {
    /// Reads the holders' keys, or makes a pair.
    ///
    /// # Errors
    ///
    /// A usage error for numbers that no store takes, with the words that the store itself has for
    /// them; and whatever is wrong with a key or with the file for a new one.
    pub(super) fn prepare(args: &CustodyArgs, output: &mut Output) -> anyhow::Result<Self> {
        let (shares, threshold) = args.counts()?;
        let count = args.pgp_key.len().max(1);
        SealConfig::new(shares, threshold, count)
            .map_err(|error| args::misuse(&error.to_string()))?;
        let (keys, kept) = match &args.private_key_out {
            None => {
                (args.pgp_key.iter().map(|file| public_key(file)).collect::<Result<_, _>>()?, None)
            }
            Some(file) => (vec![new_pair(file, output)?], Some(file.clone())),
        };
        let pgp_keys = keys.iter().map(PublicKey::to_base64).collect();
        Ok(Self { custody: Custody { shares, threshold, pgp_keys }, kept })
    }

    /// Takes the store's word on whether the new pair is of use: if it refused, nothing is encrypted
    /// to it. Where its answer was lost the pair stays, because something may be.
    pub(super) fn settle<T>(self, answer: Result<T, api::Error>) -> Result<T, api::Error> {
        if let (Err(error), Some(file)) = (&answer, &self.kept)
            && error.is_refusal()
            && !is_stdout(file)
        {
            new_file::remove(file);
        }
        answer
    }
}

fn public_key(file: &Path) -> anyhow::Result<PublicKey> {
    let input = Input::named(file.to_owned());
    let bytes = input.read(MAX_KEY_BYTES)?;
    // Armour and base64 are text; the first byte of a binary key never begins UTF-8.
    let key = match std::str::from_utf8(&bytes) {
        Ok(text) => PublicKey::parse(text, now()),
        Err(_) => PublicKey::parse(&STANDARD.encode(&*bytes), now()),
    };
    key.with_context(|| format!("cannot use {input} as an OpenPGP public key"))
}

fn new_pair(file: &Path, output: &mut Output) -> anyhow::Result<PublicKey> {
    let created = now();
    let pair =
        PrivateKey::generate("Watchword store", created).context("cannot make a key pair")?;
    let armor = pair.to_armor().context("cannot write the private key")?;
    match is_stdout(file) {
        true => output.bytes(armor.as_bytes())?,
        false => {
            new_file::create(file, armor.as_bytes())?;
            output.note(&format!(
                "the private key is in `{}`: whoever has it opens the store, and without it nobody does",
                file.display()
            ));
        }
    }
    pair.public(created).context("cannot use the new key pair")
}

/// Keys expire, by this machine's clock.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Prints the encrypted shares, or writes each to a file in `folder`.
pub(super) fn hand_out(
    entrusted: &Entrusted,
    store: &StoreId,
    folder: Option<&Path>,
    output: &mut Output,
) -> anyhow::Result<()> {
    let shares = entrusted.keys.iter().zip(&entrusted.pgp_fingerprints).enumerate();
    let Some(folder) = folder else {
        let rows = shares.map(|(index, (key, fingerprint))| {
            [(index + 1).to_string(), fingerprint.clone(), key.clone()]
        });
        return Ok(output.table(["SHARE", "OPENPGP KEY", "ENCRYPTED SHARE"], rows)?);
    };
    let mut rows = Vec::new();
    for (index, (key, fingerprint)) in shares {
        let number = index + 1;
        let message = from_hex(key).context("the store's answer is not hexadecimal")?;
        let plain = fingerprint.chars().filter(char::is_ascii_hexdigit).collect::<String>();
        let path = folder.join(format!("{store}-share-{number}-{plain}.pgp"));
        new_file::create(&path, &message)
            .context("the shares can be had again with `watchword store shares`")?;
        rows.push([number.to_string(), fingerprint.clone(), path.display().to_string()]);
    }
    Ok(output.table(["SHARE", "OPENPGP KEY", "FILE"], rows)?)
}

/// Makes sure, before anything happens in the store, that the folder for the shares is there.
pub(super) fn prepare_folder(folder: Option<&Path>) -> anyhow::Result<()> {
    match folder {
        None => Ok(()),
        Some(folder) => fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display())),
    }
}
