//! The ZooKeeper back end: one node per sealed object, below a root.
//!
//! ZooKeeper's own compare-and-swap compares the number of changes of a node, which begins at zero
//! again when a node is made anew. So every node has one empty child, named by a random number that
//! is drawn when the node is made and that the node's data repeats: its *life*. A change names both
//! numbers and is one transaction that fails unless that life is there; a revision never comes back.
//!
//! ```text
//! /ROOT/head/3f/3f09…        data: 8 bytes of life, then the sealed bytes
//! /ROOT/head/3f/3f09…/b1…    the life, in hexadecimal digits
//! ```
//!
//! The folders by the first two letters keep lists of names small: a server sends no more names at
//! once than fit `jute.maxbuffer`. With the default of 1 MiB, three million versions fit.
//!
//! - **Reads** are preceded by a `sync` on the same connection, so that a server that lags behind
//!   catches up first. ZooKeeper's own gap is left: a leader that has been replaced and does not know
//!   yet may confirm a `sync` until its connections time out. The sequences of heads tell older
//!   heads from newer ones nonetheless.
//! - **An object and its names must fit one request**, for which every server has a limit:
//!   `jute.maxbuffer`, by default a byte short of 1 MiB. A larger one is refused before it is sent,
//!   because a server answers it by closing the connection. The largest values that the store takes
//!   need 2 MiB there, and [`Settings::max_request_bytes`] says so here.
//! - **Sessions expire.** The next operation then opens a new one. What was under way, or waited for
//!   the connection, is [`BackendError::Unavailable`]: it may have happened. Nothing is asked twice.
//! - **The connection is in the clear**, and what it carries is sealed. With a [`Digest`] all nodes
//!   are for its owner alone; the digest itself is not sealed, so keep that network to yourself.

use std::future::Future;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use secrecy::SecretString;
use zookeeper_client::{Client, CreateMode, CreateOptions, Error, MultiWriteError};

use self::layout::{Layout, Life, NodeRevision};
use self::session::Session;
use crate::backend::{Backend, BackendError, Listed, Revision, Stored};
use crate::name::{ObjectKind, ObjectName};

mod layout;
mod session;

/// Objects below one node of a ZooKeeper.
pub struct ZooKeeperBackend {
    layout: Layout,
    session: Session,
    max_request_bytes: usize,
}

/// How a ZooKeeper is reached.
pub struct Settings {
    /// Name and password of the owner of all nodes. Without, anybody can change them.
    pub digest: Option<Digest>,
    /// The servers: `HOST:PORT`, with commas in between.
    pub hosts: String,
    /// The `jute.maxbuffer` of all servers, in bytes.
    pub max_request_bytes: usize,
    /// The node below which everything lies, such as `/watchword`. It is made if need be.
    pub root: String,
}

/// `NAME:PASSWORD` of ZooKeeper's scheme `digest`.
///
/// It has no `Debug`, because it holds the password.
pub struct Digest(SecretString);

impl Digest {
    /// Takes `NAME:PASSWORD`; `None` without a colon, or with nothing on one side of it.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, password) = text.split_once(':')?;
        (!name.is_empty() && !password.is_empty()).then(|| Self(SecretString::from(text)))
    }
}

impl ZooKeeperBackend {
    /// Objects as the settings say. Nothing is connected before the first operation.
    pub fn new(settings: Settings) -> Self {
        Self {
            layout: Layout::new(&settings.root),
            session: Session::new(settings.hosts, settings.digest),
            max_request_bytes: settings.max_request_bytes,
        }
    }

    /// Refuses what the servers would answer by closing the connection.
    fn check_size(
        &self,
        operation: &'static str,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<(), BackendError> {
        let request = bytes.len() + 2 * self.layout.node(name).len() + REQUEST_OVERHEAD;
        if request < self.max_request_bytes {
            return Ok(());
        }
        let source = TooLarge { bytes: request, limit: self.max_request_bytes };
        Err(BackendError::Refused { operation, source: source.into() })
    }

    async fn client(&self, operation: &'static str) -> Result<Client, BackendError> {
        within(operation, self.session.client()).await?.map_err(|error| failure(operation, error))
    }

    /// Runs a transaction; says which of its steps failed, if it was one of them.
    async fn commit(
        &self,
        operation: &'static str,
        steps: impl Fn(&mut zookeeper_client::MultiWriter<'_>) -> Result<(), Error> + Send,
    ) -> Result<Result<(), (usize, Error)>, BackendError> {
        let client = self.client(operation).await?;
        let committed = {
            let mut writer = client.new_multi_writer();
            steps(&mut writer).map_err(|error| failure(operation, error))?;
            writer.commit()
        };
        match within(operation, committed).await? {
            Ok(_) => Ok(Ok(())),
            Err(MultiWriteError::OperationFailed { index, source })
                if matches!(source, Error::BadVersion | Error::NodeExists | Error::NoNode) =>
            {
                Ok(Err((index, source)))
            }
            Err(error) => Err(failure(operation, error.into())),
        }
    }

    fn options(&self) -> CreateOptions<'static> {
        CreateMode::Persistent.with_acls(self.session.acls())
    }

    async fn make_folder(&self, operation: &'static str, path: &str) -> Result<(), BackendError> {
        let client = self.client(operation).await?;
        within(operation, client.mkdir(path, &self.options()))
            .await?
            .map_err(|error| failure(operation, error))
    }

    /// The names below a node, as of now; none if there is no such node.
    async fn children(
        &self,
        client: &Client,
        path: &str,
    ) -> Result<Option<(Vec<String>, i32)>, BackendError> {
        match within("list", client.get_children(path)).await? {
            Ok((names, stat)) => Ok(Some((names, stat.version))),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(failure("list", error)),
        }
    }
}

impl Backend for ZooKeeperBackend {
    // Other replicas write too, and a watch would tell of it too late.
    fn is_current(&self, _name: &ObjectName, _revision: &Revision) -> bool {
        false
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Stored>, BackendError> {
        let client = self.client("get").await?;
        let node = self.layout.node(name);
        // Requests of one connection are answered in their order: both are sent at once.
        let (synced, read) = (client.sync(&node), client.get_data(&node));
        let (synced, read) = within("get", async { futures::join!(synced, read) }).await?;
        synced.map_err(|error| failure("get", error))?;
        let (mut data, stat) = match read {
            Ok(found) => found,
            Err(Error::NoNode) => return Ok(None),
            Err(error) => return Err(failure("get", error)),
        };
        let life = Life::split_off(&mut data).ok_or_else(|| BackendError::Malformed {
            name: name.clone(),
            detail: "the node is too short".to_owned(),
        })?;
        Ok(Some(Stored { bytes: data, revision: NodeRevision::new(life, stat.version).into() }))
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Revision, BackendError> {
        self.check_size("create", name, bytes)?;
        let life = Life::draw().map_err(|error| BackendError::Unavailable {
            operation: "create",
            source: error.into(),
        })?;
        let (node, child) = (self.layout.node(name), self.layout.life(name, &life));
        let (data, options) = (life.before(bytes), self.options());
        for attempt in 0.. {
            let made = self
                .commit("create", |transaction| {
                    transaction.add_create(&node, &data, &options)?;
                    transaction.add_create(&child, &[], &options)
                })
                .await?;
            match made {
                Ok(()) => return Ok(NodeRevision::new(life, 0).into()),
                // Nothing has happened yet: the folder is missing.
                Err((_, Error::NoNode)) if attempt == 0 => {
                    self.make_folder("create", &self.layout.folder(name)).await?;
                }
                Err((_, Error::NodeExists)) => break,
                Err((_, error)) => return Err(failure("create", error)),
            }
        }
        Err(BackendError::Conflict { name: name.clone() })
    }

    async fn replace(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        revision: &Revision,
    ) -> Result<Revision, BackendError> {
        let conflict = || BackendError::Conflict { name: name.clone() };
        let NodeRevision { life, version } = NodeRevision::parse(revision).ok_or_else(conflict)?;
        self.check_size("replace", name, bytes)?;
        let (node, child) = (self.layout.node(name), self.layout.life(name, &life));
        let data = life.before(bytes);
        self.commit("replace", |transaction| {
            transaction.add_check_version(&child, 0)?;
            transaction.add_set_data(&node, &data, Some(version))
        })
        .await?
        .map_err(|_| conflict())?;
        Ok(NodeRevision::new(life, version.wrapping_add(1)).into())
    }

    async fn delete(
        &self,
        name: &ObjectName,
        revision: Option<&Revision>,
    ) -> Result<(), BackendError> {
        let conflict = || BackendError::Conflict { name: name.clone() };
        let node = self.layout.node(name);
        for _ in 0..MAX_LIVES {
            let (life, version) = match revision {
                Some(revision) => {
                    let NodeRevision { life, version } =
                        NodeRevision::parse(revision).ok_or_else(conflict)?;
                    (life, Some(version))
                }
                None => match self.get(name).await? {
                    None => return Ok(()),
                    Some(stored) => match NodeRevision::parse(&stored.revision) {
                        None => return Err(conflict()),
                        Some(found) => (found.life, None),
                    },
                },
            };
            let child = self.layout.life(name, &life);
            let removed = self
                .commit("delete", |transaction| {
                    transaction.add_delete(&child, None)?;
                    transaction.add_delete(&node, version)
                })
                .await?;
            match (removed, revision) {
                (Ok(()), _) => return Ok(()),
                // Of another life, or gone, which is as well.
                (Err((_, Error::NoNode)), Some(_)) => {
                    return match self.get(name).await? {
                        None => Ok(()),
                        Some(_) => Err(conflict()),
                    };
                }
                (Err(_), Some(_)) => return Err(conflict()),
                // Made anew in between: that one is meant now.
                (Err(_), None) => {}
            }
        }
        Err(conflict())
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, BackendError> {
        let client = self.client("list").await?;
        let top = self.layout.kind(kind);
        within("list", client.sync(&top)).await?.map_err(|error| failure("list", error))?;
        let Some((folders, _)) = self.children(&client, &top).await? else {
            return Ok(Vec::new());
        };
        let (client, top) = (&client, &top);
        stream::iter(folders)
            .map(|folder| async move { self.children(client, &format!("{top}/{folder}")).await })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .map_ok(|names| {
                let names = names.map_or_else(Vec::new, |(names, _)| names);
                stream::iter(names).map(Ok::<_, BackendError>)
            })
            .try_flatten()
            .try_filter_map(|name| async move {
                Ok(ObjectName::parse(&name).filter(|name| name.kind() == kind))
            })
            .map_ok(|name| async move {
                // The node's children say its life, and their number comes with the node's version.
                let found = self.children(client, &self.layout.node(&name)).await?;
                Ok(found.and_then(|(lives, version)| {
                    let life = lives.iter().find_map(|life| Life::parse(life))?;
                    Some(Listed { name, revision: NodeRevision::new(life, version).into() })
                }))
            })
            .try_buffer_unordered(REQUESTS_AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }
}

/// More than the servers take.
#[derive(Debug, thiserror::Error)]
#[error(
    "this needs a request of {bytes} bytes, and ZooKeeper takes fewer than {limit} (`jute.maxbuffer`): \
     start every server with `-Djute.maxbuffer=2097152`, then add `?jute.maxbuffer=2097152` to the \
     store's address and restart the store"
)]
struct TooLarge {
    bytes: usize,
    limit: usize,
}

/// Bounds a request in time; a request that is given up may still be carried out.
async fn within<T>(
    operation: &'static str,
    request: impl Future<Output = T>,
) -> Result<T, BackendError> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .map_err(|elapsed| BackendError::Unavailable { operation, source: Box::new(elapsed) })
}

fn failure(operation: &'static str, error: Error) -> BackendError {
    let refused = matches!(
        error,
        Error::AuthFailed
            | Error::BadArguments(_)
            | Error::InvalidAcl
            | Error::NoAuth
            | Error::NotReadOnly
            | Error::QuotaExceeded
            | Error::Unimplemented
    );
    let source = error.into();
    match refused {
        true => BackendError::Refused { operation, source },
        false => BackendError::Unavailable { operation, source },
    }
}

/// All of a request but data and paths: headers, lengths, access control lists.
const REQUEST_OVERHEAD: usize = 512;

/// How often an object that is to be removed whatever it is may be made anew meanwhile.
const MAX_LIVES: u32 = 16;

/// How many requests of one list are under way at once, on one connection.
const REQUESTS_AT_ONCE: usize = 64;

/// A change is a few milliseconds of disk; an ensemble that needs ten seconds is not there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
