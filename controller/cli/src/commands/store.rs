//! `watchword store …`: the store itself.

mod backup;
mod custody;
mod init;
mod migrate;
mod rekey;
mod rotate;
mod unseal;
mod verify;

use crate::{
    api::{Backend, SealStatus, Store, StoreId},
    args::{ReachArgs, StoreArgs, StoreCommand, StoreIdArgs},
    connect::{Pods, Target, connect},
    output::{Output, WriteError, printable},
};

pub(super) async fn run(args: StoreArgs, output: &mut Output) -> anyhow::Result<()> {
    let StoreArgs { command, reach } = args;
    match command {
        StoreCommand::Backup(args) => return backup::run(args, reach, output).await,
        StoreCommand::Init(args) => return init::run(args, reach, output).await,
        StoreCommand::Migrate(args) => return migrate::run(args, reach, output).await,
        StoreCommand::Rekey(args) => return rekey::run(args, reach, output).await,
        StoreCommand::Restore(args) => return backup::restore(args, reach, output).await,
        StoreCommand::Rotate(args) => return rotate::run(args, reach, output).await,
        StoreCommand::Seal { store } => {
            let mut store = reached(reach, store, output).await?;
            store.seal().await?;
            output.note(&format!("sealed store `{}`", store.id));
        }
        StoreCommand::Shares { out, store, json } => {
            return init::shares(out, store, json.is_wanted(), reach, output).await;
        }
        StoreCommand::Show { store, json } => {
            let backend = reached(reach, store, output).await?.show().await?;
            match json.is_wanted() {
                true => output.json(&backend)?,
                false => print_backend(&backend, output)?,
            }
        }
        StoreCommand::Status { store, json } => {
            let mut store = reached(reach, store, output).await?;
            let status = store.seal_status().await?;
            match json.is_wanted() {
                true => output.json(&status)?,
                false => print_status(&store.id, &status, output)?,
            }
        }
        StoreCommand::Unseal(args) => return unseal::run(args, reach, output).await,
        StoreCommand::Verify(args) => return verify::run(args, reach, output).await,
    }
    Ok(())
}

async fn reached(
    reach: ReachArgs,
    store: StoreIdArgs,
    output: &mut Output,
) -> anyhow::Result<Store> {
    reached_at(&reach.target()?, store, output).await
}

async fn reached_at(
    target: &Target,
    store: StoreIdArgs,
    output: &mut Output,
) -> anyhow::Result<Store> {
    let connection = connect(target, Pods::Running).await?;
    if let Some(note) = &connection.note {
        output.note(note);
    }
    Ok(Store { connection, id: store.store_id })
}

fn print_backend(backend: &Backend, output: &mut Output) -> Result<(), WriteError> {
    let Backend { name, description, driver, initialized, sealed } = backend;
    output.line(&format!("store:       {}", printable(name)))?;
    output.line(&format!("driver:      {}", printable(driver)))?;
    output.line(&format!("initialised: {}", yes_or_no(*initialized)))?;
    output.line(&format!("sealed:      {}", yes_or_no(*sealed)))?;
    match description.is_empty() {
        true => Ok(()),
        false => output.line(&format!("description: {}", printable(description))),
    }
}

fn print_status(
    store: &StoreId,
    status: &SealStatus,
    output: &mut Output,
) -> Result<(), WriteError> {
    let SealStatus { sealed, threshold, shares, progress } = status;
    output.line(&format!("store:     {store}"))?;
    output.line(&format!("sealed:    {}", yes_or_no(*sealed)))?;
    if *shares == 0 {
        return output.line("threshold: none yet, the store is not initialised");
    }
    output.line(&format!("threshold: {threshold} of {shares}"))?;
    // Shares given so far mean something only while they are being given.
    match sealed {
        true => output.line(&format!("progress:  {progress} of {threshold}")),
        false => Ok(()),
    }
}

fn yes_or_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    #[test]
    fn a_sealed_store_says_how_far_its_unsealing_is() {
        let (mut output, data, _) = captured(true);
        let status = SealStatus { sealed: true, threshold: 2, shares: 3, progress: 1 };

        print_status(&"default".parse().unwrap(), &status, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        store:     default
        sealed:    yes
        threshold: 2 of 3
        progress:  1 of 2
        ");
    }

    #[test]
    fn an_open_store_says_so() {
        let (mut output, data, _) = captured(true);
        let status = SealStatus { sealed: false, threshold: 1, shares: 1, progress: 0 };

        print_status(&"default".parse().unwrap(), &status, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        store:     default
        sealed:    no
        threshold: 1 of 1
        ");
    }

    #[test]
    fn a_store_without_a_root_key_says_so() {
        let (mut output, data, _) = captured(true);
        let status = SealStatus { sealed: true, threshold: 0, shares: 0, progress: 0 };

        print_status(&"default".parse().unwrap(), &status, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        store:     default
        sealed:    yes
        threshold: none yet, the store is not initialised
        ");
    }

    #[test]
    fn a_store_says_what_it_is() {
        let (mut output, data, _) = captured(true);
        let backend = Backend {
            name: "default".to_owned(),
            driver: "kubernetes".to_owned(),
            initialized: true,
            ..Backend::default()
        };

        print_backend(&backend, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        store:       default
        driver:      kubernetes
        initialised: yes
        sealed:      no
        ");
    }
}
