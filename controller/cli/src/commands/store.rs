//! `watchword store …`: the store itself. For now its seal status, under both of its DC/OS names.

use crate::{
    api::{SealStatus, Store, StoreId},
    args::{StoreArgs, StoreCommand},
    connect::connect,
    output::{Output, WriteError},
};

pub(super) async fn run(args: StoreArgs, output: &mut Output) -> anyhow::Result<()> {
    let StoreArgs { command, reach } = args;
    let StoreCommand::Status { store, json } = command;
    let connection = connect(&reach.target()?).await?;
    let mut store = Store { connection, id: store.store_id };
    let status = store.seal_status().await?;
    match json {
        true => output.json(&status)?,
        false => print(&store.id, &status, output)?,
    }
    Ok(())
}

fn print(store: &StoreId, status: &SealStatus, output: &mut Output) -> Result<(), WriteError> {
    let SealStatus { sealed, threshold, shares, progress } = status;
    output.line(&format!("store:     {store}"))?;
    output.line(&format!("sealed:    {}", if *sealed { "yes" } else { "no" }))?;
    output.line(&format!("threshold: {threshold} of {shares}"))?;
    // Shares given so far mean something only while they are being given.
    match sealed {
        true => output.line(&format!("progress:  {progress} of {threshold}")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    #[test]
    fn a_sealed_store_says_how_far_its_unsealing_is() {
        let (mut output, data, _) = captured(true);
        let status = SealStatus { sealed: true, threshold: 2, shares: 3, progress: 1 };

        print(&"default".parse().unwrap(), &status, &mut output).unwrap();

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

        print(&"default".parse().unwrap(), &status, &mut output).unwrap();

        insta::assert_snapshot!(data.text(), @r"
        store:     default
        sealed:    no
        threshold: 1 of 1
        ");
    }
}
