//! `watchword validate FILE…`: task definitions judged without a cluster.

use crate::{args::ValidateArgs, output::Output};

pub(super) fn run(_args: &ValidateArgs, _output: &mut Output) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
