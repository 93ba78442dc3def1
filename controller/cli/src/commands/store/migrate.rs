//! `watchword store migrate`: a store moves to another back end, and stays sealed on the way.
//!
//! Objects are copied as they are, so it takes no share. What a replica writes meanwhile would be
//! left behind: the source should be sealed. Into a cluster only the store itself writes records, by
//! a policy that binds administrators too; there the copy goes as a backup to a new store.

use std::{
    cell::RefCell,
    env,
    fs::File,
    io::{Seek, Write},
};

use anyhow::{Context, bail};
use futures::sink;
use indicatif::{ProgressBar, ProgressStyle};
use watchword_store::{
    Access, AnyBackend, Backend, Intent, Location, ObjectName, SealState, archive,
    backend::zookeeper::Digest,
    migrate::{self, Progress},
};

use super::backup;
use crate::{
    api::Store,
    args::{MigrateArgs, ReachArgs},
    connect::{Pods, Target, cluster_client, connect},
    input::Input,
    new_file::Draft,
    output::Output,
};

pub(super) async fn run(
    args: MigrateArgs,
    reach: ReachArgs,
    output: &mut Output,
) -> anyhow::Result<()> {
    let MigrateArgs { from, to, zookeeper_digest_file, force } = args;
    if from.is_same_place(&to) {
        bail!("the store is there already: --from and --to are the same place");
    }
    let target = reach.target()?;
    let digest = zookeeper_digest_file.map(Input::named);
    if let Location::File(path) = &from
        && !path.exists()
    {
        // To open it would make one.
        bail!("there is no file `{}`", path.display());
    }
    let source = open(&from, &target, digest.as_ref()).await?;
    if !force {
        demand_sealed(&source).await?;
    }
    let objects = match &to {
        Location::Kubernetes { namespace } => restore(&source, namespace, target).await?,
        to => {
            let destination = open(to, &target, digest.as_ref()).await?;
            copy(&source, &destination).await?
        }
    };
    output.note(&format!(
        "migrated {objects} records; start the store at its new place and unseal it there"
    ));
    Ok(())
}

async fn open(
    location: &Location,
    target: &Target,
    digest: Option<&Input>,
) -> anyhow::Result<AnyBackend> {
    let mut access = Access::default();
    match location {
        Location::File(_) => {}
        Location::Kubernetes { .. } => access.kubernetes = Some(cluster_client(target).await?),
        Location::ZooKeeper { .. } => {
            if let Some(input) = digest {
                let text = input.read_text(MAX_DIGEST_BYTES)?;
                let digest = Digest::parse(text.trim_end());
                access.zookeeper = Some(digest.context("the digest is not USER:PASSWORD")?);
            }
        }
    }
    Ok(location.open(access)?)
}

/// Refuses a store that replicas may be writing to.
async fn demand_sealed(source: &AnyBackend) -> anyhow::Result<()> {
    let stored = source.get(&ObjectName::seal()).await.context("cannot look at the source")?;
    // Where no replica ever ran there is no state, and nobody who writes.
    let Some(stored) = stored else { return Ok(()) };
    match SealState::parse(&stored.bytes)?.intent {
        Intent::Sealed => Ok(()),
        Intent::Unsealed => bail!(
            "the source is not sealed, and what is written meanwhile would be left behind: \
             run `watchword store seal`, or stop the store and say --force"
        ),
    }
}

async fn copy(source: &AnyBackend, destination: &AnyBackend) -> anyhow::Result<u64> {
    // indicatif draws on stderr, and only where that is a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("copying {bar:40} {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    let copied = migrate::copy(source, destination, |Progress { done, total }| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })
    .await;
    bar.finish_and_clear();
    Ok(copied?.total as u64)
}

/// Brings the source as a backup into the new store of a cluster.
async fn restore(source: &AnyBackend, namespace: &str, target: Target) -> anyhow::Result<u64> {
    let target = match target {
        Target::Cluster { context, kubeconfig, .. } => {
            Target::Cluster { context, kubeconfig, system_namespace: namespace.to_owned() }
        }
        address => address,
    };
    let connection = connect(&target, Pods::Ready).await?;
    let mut store = Store { connection, id: "default".parse().map_err(anyhow::Error::msg)? };
    // It is ciphertext, and is gone with the draft.
    let mut draft = Draft::begin(&env::temp_dir().join("watchword-migration"))?;
    let written = RefCell::new(draft.file());
    let summary = archive::write(
        source,
        sink::unfold((), |(), piece: Vec<u8>| {
            let result = written.borrow_mut().write_all(&piece);
            async move { result }
        }),
    )
    .await?;
    let mut file: File = draft.file().try_clone()?;
    file.rewind()?;
    let length = file.metadata().map(|metadata| metadata.len())?;
    let bar = backup::bar(length);
    let restored = store.restore(file, length, bar.clone()).await;
    bar.finish_and_clear();
    restored?;
    Ok(summary.objects)
}

/// A name and a password.
const MAX_DIGEST_BYTES: usize = 1024;
