//! Where a store is, as people write it, and the way there.
//!
//! | text | means |
//! |---|---|
//! | `kubernetes` | SealedRecord objects in Watchword's usual namespace |
//! | `kubernetes:NAMESPACE` | the same in another one |
//! | `file:PATH` | one file |
//! | `zookeeper://HOST:PORT[,HOST:PORT…]/PATH` | nodes below `/PATH`; with `?jute.maxbuffer=BYTES` where the servers have another limit than the usual |
//!
//! No password has a place in it: addresses end up in shell histories and process lists.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::backend::AnyBackend;

/// Where a store is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// One file.
    File(PathBuf),
    /// SealedRecord objects of a cluster.
    Kubernetes {
        /// Where they are.
        namespace: String,
    },
    /// Nodes of an Apache ZooKeeper.
    ZooKeeper {
        /// `HOST:PORT`, with commas in between.
        hosts: String,
        /// The `jute.maxbuffer` of the servers.
        max_request_bytes: usize,
        /// The node below which everything lies, without a slash at its end.
        root: String,
    },
}

/// What is needed on the way, and does not belong into an address.
#[derive(Default)]
pub struct Access {
    /// For `kubernetes`: a client of the cluster that does not retry by itself.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: Option<kube::Client>,
    /// For `zookeeper`: the owner of the nodes, if they have one.
    #[cfg(feature = "zookeeper")]
    pub zookeeper: Option<crate::backend::zookeeper::Digest>,
}

impl Location {
    /// Whether the same records lie in both, whatever the servers of a ZooKeeper are said to take and
    /// in which order they are named. Other servers are another place: one that has not joined the
    /// others would be a store of its own.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let servers = |hosts: &str| hosts.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        match (self, other) {
            (
                Self::ZooKeeper { hosts, root, .. },
                Self::ZooKeeper { hosts: others, root: other, .. },
            ) => root == other && servers(hosts) == servers(others),
            _ => self == other,
        }
    }

    /// The back end there. A file is opened, and made if need be; nothing else is contacted.
    ///
    /// # Errors
    ///
    /// [`OpenLocationError`] when the file cannot be opened, when `access` lacks what is needed, or
    /// when this program was built without that back end.
    #[cfg_attr(
        not(any(feature = "kubernetes", feature = "zookeeper")),
        expect(unused_variables, reason = "only remote back ends need it")
    )]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "not every build has a back end that keeps it"
    )]
    pub fn open(&self, access: Access) -> Result<AnyBackend, OpenLocationError> {
        #[allow(unused_variables, unreachable_patterns, reason = "depends on the features")]
        match self {
            #[cfg(feature = "file")]
            Self::File(path) => {
                Ok(AnyBackend::File(crate::backend::file::FileBackend::open(path)?))
            }
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes { namespace } => {
                let client = access.kubernetes.ok_or(OpenLocationError::NoClient)?;
                let backend = crate::backend::kubernetes::KubernetesBackend::new(client, namespace);
                Ok(AnyBackend::Kubernetes(backend))
            }
            #[cfg(feature = "zookeeper")]
            Self::ZooKeeper { hosts, max_request_bytes, root } => {
                use crate::backend::zookeeper::{Settings, ZooKeeperBackend};
                Ok(AnyBackend::ZooKeeper(ZooKeeperBackend::new(Settings {
                    digest: access.zookeeper,
                    hosts: hosts.clone(),
                    max_request_bytes: *max_request_bytes,
                    root: root.clone(),
                })))
            }
            _ => Err(OpenLocationError::NotBuilt { location: self.clone() }),
        }
    }
}

impl FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, ParseLocationError> {
        if text == "kubernetes" {
            return Ok(Self::Kubernetes { namespace: DEFAULT_NAMESPACE.to_owned() });
        }
        if let Some(namespace) = text.strip_prefix("kubernetes:") {
            return match is_label(namespace) {
                true => Ok(Self::Kubernetes { namespace: namespace.to_owned() }),
                false => Err(ParseLocationError::Namespace),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err(ParseLocationError::File),
                _ => Ok(Self::File(path.into())),
            };
        }
        match text.strip_prefix("zookeeper://") {
            Some(rest) => zookeeper(rest),
            None => Err(ParseLocationError::Scheme),
        }
    }
}

fn zookeeper(text: &str) -> Result<Location, ParseLocationError> {
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (hosts, path) = text.split_once('/').ok_or(ParseLocationError::Path)?;
    if hosts.contains('@') {
        return Err(ParseLocationError::Password);
    }
    let is_host = |text: &str| {
        text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
    };
    if !hosts.split(',').all(is_host) {
        return Err(ParseLocationError::Hosts);
    }
    let is_node = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    // ZooKeeper keeps its own affairs below that one.
    if path == "zookeeper" || path.starts_with("zookeeper/") || !path.split('/').all(is_node) {
        return Err(ParseLocationError::Path);
    }
    let max_request_bytes = match query {
        "" => DEFAULT_MAX_REQUEST_BYTES,
        _ => query
            .strip_prefix("jute.maxbuffer=")
            .and_then(|number| number.parse().ok())
            .filter(|number| (64 * 1024..=i32::MAX as usize).contains(number))
            .ok_or(ParseLocationError::Query)?,
    };
    Ok(Location::ZooKeeper { hosts: hosts.to_owned(), max_request_bytes, root: format!("/{path}") })
}

/// Whether this is a DNS label, as names of namespaces are.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kubernetes { namespace } => write!(f, "kubernetes:{namespace}"),
            Self::ZooKeeper { hosts, max_request_bytes, root } => {
                write!(f, "zookeeper://{hosts}{root}")?;
                match *max_request_bytes {
                    DEFAULT_MAX_REQUEST_BYTES => Ok(()),
                    bytes => write!(f, "?jute.maxbuffer={bytes}"),
                }
            }
        }
    }
}

/// Why a text does not say where a store is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseLocationError {
    /// No path.
    #[error("write the path of the file: `file:PATH`")]
    File,
    /// Not hosts with ports.
    #[error("write the servers as `zookeeper://HOST:PORT,HOST:PORT/PATH`")]
    Hosts,
    /// Not the name of a namespace.
    #[error("this is not the name of a namespace: `kubernetes:NAMESPACE`")]
    Namespace,
    /// A name or password in the address.
    #[error("a password has no place in an address: give it by a file")]
    Password,
    /// No node, or one with letters that need care, or ZooKeeper's own.
    #[error(
        "name the node below which the store lies: `zookeeper://HOST:PORT/PATH`, of letters, digits, `-`, `_` and `.`, and not below `/zookeeper`"
    )]
    Path,
    /// Not the one thing that can be said there.
    #[error("after `?` only `jute.maxbuffer=BYTES` can follow, from 65536")]
    Query,
    /// None of the words.
    #[error("write `kubernetes[:NAMESPACE]`, `file:PATH` or `zookeeper://HOST:PORT/PATH`")]
    Scheme,
}

/// Why there is no back end at a location.
#[derive(Debug, thiserror::Error)]
pub enum OpenLocationError {
    /// The file cannot be opened.
    #[cfg(feature = "file")]
    #[error(transparent)]
    File(#[from] crate::backend::file::OpenFileError),
    /// A cluster is meant and no client was given.
    #[error("there is no connection to a cluster: name a kubeconfig")]
    NoClient,
    /// This program was built without it.
    #[error("this program was built without the back end of `{location}`")]
    NotBuilt {
        /// What was asked for.
        location: Location,
    },
}

/// Where an installation as it is shipped keeps its records.
const DEFAULT_NAMESPACE: &str = "watchword-system";

/// `jute.maxbuffer` where nobody has set it.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 0xf_ffff;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kubernetes", "kubernetes:watchword-system")]
    #[case("kubernetes:secrets-2", "kubernetes:secrets-2")]
    #[case("file:/var/lib/store", "file:/var/lib/store")]
    #[case("file:store", "file:store")]
    #[case("zookeeper://zk-1:2181/watchword", "zookeeper://zk-1:2181/watchword")]
    #[case(
        "zookeeper://10.0.0.1:2181,[::1]:2182/a/b?jute.maxbuffer=2097152",
        "zookeeper://10.0.0.1:2181,[::1]:2182/a/b?jute.maxbuffer=2097152"
    )]
    #[case("zookeeper://z:1/a?jute.maxbuffer=1048575", "zookeeper://z:1/a")]
    fn locations_are_read_and_written(#[case] text: &str, #[case] written: &str) {
        let location: Location = text.parse().unwrap();

        assert_eq!(location.to_string(), written);
        assert_eq!(written.parse(), Ok(location));
    }

    #[rstest]
    #[case::equal("file:/a", "file:/a", true)]
    #[case::other_file("file:/a", "file:/b", false)]
    #[case::other_kind("file:/a", "kubernetes", false)]
    #[case::other_order("zookeeper://a:1,b:1/w", "zookeeper://b:1,a:1/w", true)]
    #[case::one_more("zookeeper://a:1,b:1/w", "zookeeper://a:1,b:1,c:1/w", false)]
    #[case::one_exchanged("zookeeper://a:1,b:1/w", "zookeeper://b:1,c:1/w", false)]
    #[case::other_limit("zookeeper://a:1/w", "zookeeper://a:1/w?jute.maxbuffer=2097152", true)]
    #[case::other_servers("zookeeper://a:1,b:1/w", "zookeeper://c:1,d:1/w", false)]
    #[case::other_port("zookeeper://a:1/w", "zookeeper://a:2/w", false)]
    #[case::other_node("zookeeper://a:1/w", "zookeeper://a:1/v", false)]
    fn one_place_may_have_several_addresses(
        #[case] one: &str,
        #[case] other: &str,
        #[case] expected: bool,
    ) {
        let [one, other] = [one, other].map(|text| text.parse::<Location>().unwrap());

        assert_eq!(one.is_same_place(&other), expected);
        assert_eq!(other.is_same_place(&one), expected);
    }

    #[rstest]
    #[case("", ParseLocationError::Scheme)]
    #[case("Kubernetes", ParseLocationError::Scheme)]
    #[case("redb:/x", ParseLocationError::Scheme)]
    #[case("kubernetes:", ParseLocationError::Namespace)]
    #[case("kubernetes:A_b", ParseLocationError::Namespace)]
    #[case("file:", ParseLocationError::File)]
    #[case("zookeeper://", ParseLocationError::Path)]
    #[case("zookeeper://zk:2181", ParseLocationError::Path)]
    #[case("zookeeper://zk:2181/", ParseLocationError::Path)]
    #[case("zookeeper://zk:2181/a/", ParseLocationError::Path)]
    #[case("zookeeper://zk:2181/a/../b", ParseLocationError::Path)]
    #[case("zookeeper://zk:2181/zookeeper/a", ParseLocationError::Path)]
    #[case("zookeeper://zk/a", ParseLocationError::Hosts)]
    #[case("zookeeper://zk:0/a", ParseLocationError::Hosts)]
    #[case("zookeeper://zk:2181,/a", ParseLocationError::Hosts)]
    #[case("zookeeper://super:secret@zk:2181/a", ParseLocationError::Password)]
    #[case("zookeeper://zk:2181/a?jute.maxbuffer=0", ParseLocationError::Query)]
    #[case("zookeeper://zk:2181/a?x=1", ParseLocationError::Query)]
    fn other_texts_are_refused(#[case] text: &str, #[case] error: ParseLocationError) {
        assert_eq!(text.parse::<Location>(), Err(error));
    }
}
