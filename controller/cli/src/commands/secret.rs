//! `watchword secret …`: the secrets in the store.
//!
//! `get` prints a value exactly, byte for byte, and nothing else does. A value to store is read
//! before the store is asked for anything, so that a mistake about it costs no connection.

use std::str;

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use watchword_core::reference::SecretName;
use zeroize::Zeroizing;

use crate::{
    api::{Directory, Opened, Store, Version},
    args::{ReachArgs, SecretArgs, SecretCommand, StoreIdArgs},
    connect::{Pods, connect},
    output::{Output, Told, WriteError},
};

pub(super) async fn run(args: SecretArgs, output: &mut Output) -> anyhow::Result<()> {
    let SecretArgs { command, reach } = args;
    match command {
        SecretCommand::Create { path, value, store } => {
            let value = value.source().read().context("cannot take the value")?;
            reached(reach, store).await?.create(&path, value).await?;
            output.note(&format!("created `{path}`"));
        }
        SecretCommand::Delete { path, if_version, store } => {
            reached(reach, store).await?.delete(&path, if_version).await?;
            output.note(&format!("deleted `{path}`"));
        }
        SecretCommand::Get { path, version, store, json } => {
            let opened = reached(reach, store).await?.read(&path, version).await?;
            match json.is_wanted() {
                true => output.json(&Answer::new(&path, &opened).borrowed())?,
                false => print_value(&opened, output)?,
            }
        }
        SecretCommand::List { path, store, json } => {
            let mut store = reached(reach, store).await?;
            let (names, unreadable) = store.list(&path).await?;
            if json.is_wanted() {
                output.json(&names.iter().map(SecretName::as_str).collect::<Vec<_>>())?;
            } else if output.terminal && (1..=MAX_TABLE_ROWS).contains(&names.len()) {
                let newest = newest(&mut store, &path, &names).await;
                print_table(&names, newest, output)?;
            } else {
                names.iter().try_for_each(|name| output.line(name.as_str()))?;
            }
            if !unreadable.is_empty() {
                let message = "the list may lack secrets, because records do not open";
                output.error(&format!("{message}: {}", unreadable.join(", ")), Some(VERIFY));
                return Err(Told.into());
            }
        }
        SecretCommand::Rollback { path, version, if_version, store } => {
            let mut store = reached(reach, store).await?;
            let newest = store.roll_back(&path, version, if_version).await?;
            let now = newest.map(|newest| format!(", now version {newest}")).unwrap_or_default();
            output.note(&format!("rolled `{path}` back to version {version}{now}"));
        }
        SecretCommand::Update { path, value, if_version, store } => {
            let value = value.source().read().context("cannot take the value")?;
            reached(reach, store).await?.update(&path, value, if_version).await?;
            output.note(&format!("updated `{path}`"));
        }
        SecretCommand::Versions { path, store, json } => {
            let versions = reached(reach, store).await?.versions(&path).await?;
            match json.is_wanted() {
                true => output.json(&versions)?,
                false => print_versions(versions, output)?,
            }
        }
    }
    Ok(())
}

async fn reached(reach: ReachArgs, store: StoreIdArgs) -> anyhow::Result<Store> {
    let connection = connect(&reach.target()?, Pods::Ready).await?;
    Ok(Store { connection, id: store.store_id })
}

fn print_value(opened: &Opened, output: &mut Output) -> Result<(), WriteError> {
    output.bytes(&opened.value)?;
    // The prompt goes to a line of its own, through stderr: stdout has the value and nothing else.
    if output.terminal && !opened.value.ends_with(b"\n") {
        output.note("");
    }
    Ok(())
}

/// The newest version of each secret, as far as the store tells: a person who may list secrets need
/// not be one who may read them, and still gets the list. A few refusals are enough to know: each has
/// a line in the audit log, and whoever has too many is told to wait.
async fn newest(
    store: &mut Store,
    directory: &Directory,
    names: &[SecretName],
) -> Vec<Option<Version>> {
    let mut newest = Vec::with_capacity(names.len());
    let mut refusals = 0;
    for name in names {
        let versions = match directory.join(name).filter(|_| refusals < MAX_REFUSALS) {
            Some(secret) => store.versions(&secret).await.unwrap_or_else(|_| {
                refusals += 1;
                Vec::new()
            }),
            None => Vec::new(),
        };
        newest.push(versions.into_iter().max_by_key(|version| version.version));
    }
    newest
}

fn print_table(
    names: &[SecretName],
    newest: Vec<Option<Version>>,
    output: &mut Output,
) -> Result<(), WriteError> {
    let rows = names.iter().zip(newest).map(|(name, version)| {
        let (number, created) = match version {
            Some(version) => (version.version.to_string(), version.created),
            None => (UNKNOWN.to_owned(), None),
        };
        [name.to_string(), number, created.unwrap_or_else(|| UNKNOWN.to_owned())]
    });
    output.table(["NAME", "VERSION", "CREATED"], rows)
}

fn print_versions(versions: Vec<Version>, output: &mut Output) -> Result<(), WriteError> {
    let told = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned())
    };
    let rows = versions.into_iter().map(|Version { version, created, author }| {
        [version.to_string(), told(created), told(author)]
    });
    output.table(["VERSION", "CREATED", "AUTHOR"], rows)
}

/// What `get --json` prints, from bytes: text as text, and what is not text as base64.
struct Answer<'a> {
    path: &'a SecretName,
    version: Option<u64>,
    value: Result<&'a str, Zeroizing<String>>,
}

impl<'a> Answer<'a> {
    fn new(path: &'a SecretName, opened: &'a Opened) -> Self {
        let value = str::from_utf8(&opened.value)
            .map_err(|_| Zeroizing::new(STANDARD.encode(&*opened.value)));
        Self { path, version: opened.version, value }
    }

    fn borrowed(&self) -> WrittenAnswer<'_> {
        WrittenAnswer {
            path: self.path.as_str(),
            version: self.version,
            value: self.value.as_ref().ok().copied(),
            base64: self.value.as_ref().err().map(|text| text.as_str()),
        }
    }
}

/// An [`Answer`] as it is written: the one type that writes a value as JSON to stdout.
#[derive(Serialize)]
struct WrittenAnswer<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<&'a str>,
}

const VERIFY: &str = "`watchword store verify` says what is wrong with them";

/// What a table says where the store said nothing.
const UNKNOWN: &str = "-";

/// How often a table asks for what it is not told.
const MAX_REFUSALS: usize = 3;

/// The most names that a table has: each costs a request, and nobody reads more.
const MAX_TABLE_ROWS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    fn opened(value: &[u8], version: Option<u64>) -> Opened {
        Opened { value: Zeroizing::new(value.to_vec()), version }
    }

    fn json_of(opened: &Opened) -> String {
        let (mut output, data, _) = captured(false);
        let path = "shop/db".parse().unwrap();
        output.json(&Answer::new(&path, opened).borrowed()).unwrap();
        data.text()
    }

    #[test]
    fn text_is_text_in_json() {
        insta::assert_snapshot!(json_of(&opened(b"a \"b\"\n", Some(3))), @r#"
        {
          "path": "shop/db",
          "version": 3,
          "value": "a \"b\"\n"
        }
        "#);
    }

    #[test]
    fn what_is_not_text_is_base64_in_json() {
        insta::assert_snapshot!(json_of(&opened(b"\xff\xfe", None)), @r#"
        {
          "path": "shop/db",
          "base64": "//4="
        }
        "#);
    }

    #[test]
    fn a_terminal_gets_its_newline_on_stderr() {
        let (mut output, data, notes) = captured(true);

        print_value(&opened(b"value", None), &mut output).unwrap();

        assert_eq!((data.text(), notes.text()), ("value".to_owned(), "\n".to_owned()));
    }

    #[test]
    fn a_pipe_gets_the_value_and_nothing_else() {
        let (mut output, data, notes) = captured(false);

        print_value(&opened(b"value", None), &mut output).unwrap();

        assert_eq!((data.text(), notes.text()), ("value".to_owned(), String::new()));
    }

    #[test]
    fn a_secret_whose_versions_are_not_told_stands_in_the_table() {
        let (mut output, data, _) = captured(true);
        let names = ["db".parse().unwrap(), "api/key".parse().unwrap()];
        let version =
            Version { version: 2, created: Some("2026-11-23T21:00:00Z".into()), author: None };

        print_table(&names, vec![Some(version), None], &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        NAME      VERSION   CREATED
        db        2         2026-11-23T21:00:00Z
        api/key   -         -
        ");
    }

    #[test]
    fn versions_are_a_table() {
        let (mut output, data, _) = captured(false);
        let versions = vec![
            Version {
                version: 1,
                created: Some("2026-11-22T08:00:00Z".into()),
                author: Some("ann".into()),
            },
            Version { version: 2, created: None, author: None },
        ];

        print_versions(versions, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        VERSION   CREATED                AUTHOR
        1         2026-11-22T08:00:00Z   ann
        2         -                      -
        ");
    }
}
