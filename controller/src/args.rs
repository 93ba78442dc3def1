//! The command line: what operators write into the Deployments.
//!
//! Only types and their texts; [`crate::run`] takes them apart exhaustively, so that a new flag
//! cannot be forgotten there. Paths and names default to what `manifests/` mounts and creates.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use crate::certificate::OVERLAP;

/// Watchword's roles: secrets for pods, from task definitions.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// What every role takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Which role to run.
    #[command(subcommand)]
    pub role: RoleArgs,
}

/// What every role takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Namespace that Watchword itself runs in
    #[arg(
        long,
        env = "WATCHWORD_NAMESPACE",
        default_value = "watchword-system",
        global = true,
        value_name = "NAME"
    )]
    pub namespace: String,
    /// Plain HTTP address of /healthz, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080", global = true, value_name = "ADDRESS")]
    pub health_address: SocketAddr,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,kube=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true, value_name = "FILTER")]
    pub log_level: String,
}

/// The roles. Each has a Deployment and a service account of its own.
#[derive(Debug, Subcommand)]
pub enum RoleArgs {
    /// All roles in one process, for development
    All(AllArgs),
    /// Keep the certificate authority, the certificates of webhook and store, and caBundle
    Certificates(CertificatesArgs),
    /// Turn task definitions into revisions and workloads, and report on them
    Controller(ControllerArgs),
    /// Hold the sealed store and answer the agents
    Store(StoreArgs),
    /// Answer admission reviews: inject pods, validate task definitions
    Webhook(WebhookArgs),
}

/// What role `all` takes.
///
/// The other roles' arguments, with two addresses and two certificates; what is missing here has
/// its default.
#[derive(Clone, Debug, clap::Args)]
pub struct AllArgs {
    /// What role certificates takes.
    #[command(flatten)]
    pub certificates: CertificatesArgs,
    /// HTTPS address of the webhook
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub webhook_address: SocketAddr,
    /// Folder with the webhook's tls.crt and tls.key
    #[arg(long, default_value = "/tls/webhook", value_name = "DIR")]
    pub webhook_tls_dir: PathBuf,
    /// HTTPS address of the store
    #[arg(long, default_value = "0.0.0.0:8444", value_name = "ADDRESS")]
    pub store_address: SocketAddr,
    /// Folder with the store's tls.crt and tls.key
    #[arg(long, default_value = "/tls/store", value_name = "DIR")]
    pub store_tls_dir: PathBuf,
    /// File with NAME:PASSWORD of the owner of the nodes, for a SecretStore in a ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub zookeeper_digest_file: Option<PathBuf>,
    /// How the audit log is kept.
    #[command(flatten)]
    pub audit: AuditArgs,
    /// The other replicas of the store.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// What injected pods run.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Where the store is.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// File with a token of audience watchword-check, for the store
    #[arg(long, default_value = TOKEN_FILE, value_name = "FILE")]
    pub token_file: PathBuf,
    /// When pods that know only a former certificate authority are replaced.
    #[command(flatten)]
    pub rolls: RollArgs,
}

/// What role `certificates` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CertificatesArgs {
    /// Replace a certificate authority that was made before this moment (RFC 3339), once, with the
    /// usual overlap; a moment that has not come yet changes nothing
    #[arg(long, value_name = "TIMESTAMP")]
    pub rotate_ca_before: Option<Timestamp>,
}

/// What role `controller` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ControllerArgs {
    /// Where the store is.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// File with a token of audience watchword-check, for the store
    #[arg(long, default_value = TOKEN_FILE, value_name = "FILE")]
    pub token_file: PathBuf,
    /// When pods that know only a former certificate authority are replaced.
    #[command(flatten)]
    pub rolls: RollArgs,
}

/// When pods that know only a former certificate authority are replaced.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RollArgs {
    /// How long after a certificate authority got a successor the services whose pods know only the
    /// former one are left to other rollouts, before they are rolled for that; at most 1080h, which
    /// leaves two weeks of the overlap. The webhook needs two minutes to tell pods of the successor
    #[arg(long, default_value = "720h", value_name = "DURATION", value_parser = patience)]
    pub roll_after: SignedDuration,
}

/// A duration that leaves a quarter of the overlap for rolling.
fn patience(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if (SignedDuration::ZERO..=OVERLAP * 3 / 4).contains(&duration) {
        Ok(duration)
    } else {
        Err("it must be between 0s and 1080h".to_owned())
    }
}

/// What role `store` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// HTTPS address
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub address: SocketAddr,
    /// Folder with tls.crt and tls.key; a change is served within seconds
    #[arg(long, default_value = "/tls", value_name = "DIR")]
    pub tls_dir: PathBuf,
    /// File with NAME:PASSWORD of the owner of the nodes, for a SecretStore in a ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub zookeeper_digest_file: Option<PathBuf>,
    /// How the audit log is kept.
    #[command(flatten)]
    pub audit: AuditArgs,
    /// The other replicas.
    #[command(flatten)]
    pub peers: PeerArgs,
}

/// How the audit log is kept. It always goes to standard output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Audit log")]
pub struct AuditArgs {
    /// How lines speak of paths
    #[arg(long, default_value = "clear", value_name = "HOW")]
    pub audit_paths: AuditPaths,
    /// Write the log to this file as well
    #[arg(long, value_name = "FILE")]
    pub audit_file: Option<PathBuf>,
    /// Begin a new file when this one has so many bytes
    #[arg(
        long,
        default_value_t = 100 << 20,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1 << 16..)
    )]
    pub audit_file_bytes: u64,
    /// How many files to keep, the newest included
    #[arg(
        long,
        default_value_t = 10,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(2..=1000)
    )]
    pub audit_files: u16,
    /// What becomes of a request whose line cannot be written
    #[arg(long, default_value = "refuse", value_name = "WHAT")]
    pub audit_failure: OnFailure,
}

/// How audit lines speak of paths.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AuditPaths {
    /// By path, and by its keyed hash
    Clear,
    /// By its keyed hash only, without the texts of causes
    Hashed,
}

/// What becomes of a request whose audit line cannot be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnFailure {
    /// It is answered all the same; a metric counts the line
    Continue,
    /// It fails
    Refuse,
}

/// How the replicas of the store talk to each other.
#[derive(Clone, Debug, clap::Args)]
pub struct PeerArgs {
    /// HTTPS address for the other replicas of the store, which listen on the same port
    #[arg(long, default_value = "0.0.0.0:8445", value_name = "ADDRESS")]
    pub peer_address: SocketAddr,
    /// Folder with ca.crt, the authorities by which the other replicas are known
    #[arg(long, default_value = "/ca", value_name = "DIR")]
    pub peer_ca_dir: PathBuf,
    /// File with a token of audience watchword-peer, for the other replicas
    #[arg(long, default_value = PEER_TOKEN_FILE, value_name = "FILE")]
    pub peer_token_file: PathBuf,
}

/// What role `webhook` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct WebhookArgs {
    /// HTTPS address
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub address: SocketAddr,
    /// Folder with tls.crt and tls.key; a change is served within seconds
    #[arg(long, default_value = "/tls", value_name = "DIR")]
    pub tls_dir: PathBuf,
    /// What injected pods run.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What injected pods are told about the store.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Where the store is, and by which authorities it is known.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArgs {
    /// The store's HTTPS URL
    #[arg(
        long,
        default_value = "https://watchword-store.watchword-system.svc",
        value_name = "URL"
    )]
    pub store_url: String,
    /// Folder with ca.crt, the authorities by which the store is known
    #[arg(long, default_value = "/ca", value_name = "DIR")]
    pub ca_dir: PathBuf,
}

/// What the webhook puts into pods.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    /// Image with the agent, best by digest
    #[arg(long, env = "WATCHWORD_AGENT_IMAGE", value_name = "IMAGE")]
    pub agent_image: String,
    /// How the agent gets into a pod
    #[arg(
        long,
        env = "WATCHWORD_AGENT_DELIVERY",
        default_value = "init-container",
        value_name = "HOW"
    )]
    pub agent_delivery: AgentDelivery,
    /// When nodes pull the agent's image; by default as Kubernetes chooses from the image's tag
    #[arg(long, value_name = "POLICY")]
    pub agent_pull_policy: Option<PullPolicy>,
}

/// How the agent gets into a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AgentDelivery {
    /// Mounted as an image volume: Kubernetes 1.36 or newer, no init container
    ImageVolume,
    /// Copied by an init container
    InitContainer,
}

/// When nodes pull an image, in Kubernetes' words.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Before every start
    Always,
    /// If the node does not have it
    IfNotPresent,
    /// Never
    Never,
}

impl PullPolicy {
    /// The policy as a pod's `imagePullPolicy` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Where the manifests project the store's token for its other replicas.
const PEER_TOKEN_FILE: &str = "/var/run/secrets/watchword/peer";

/// Where the manifests project the controller's token for the store.
const TOKEN_FILE: &str = "/var/run/secrets/watchword/token";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Args::command().debug_assert();
    }

    #[rstest]
    #[case(&["store", "--tls-dir", "/elsewhere", "--namespace", "other"])]
    #[case(&["--namespace", "other", "webhook", "--agent-image", "i", "--agent-delivery", "image-volume"])]
    #[case(&["webhook", "--namespace=other", "--agent-image", "i", "--agent-pull-policy", "IfNotPresent"])]
    #[case(&["controller", "--store-url", "https://s", "--namespace", "other"])]
    #[case(&["controller", "--roll-after", "1080h", "--namespace", "other"])]
    #[case(&["certificates", "--rotate-ca-before", "2026-11-23T00:00:00Z", "--namespace", "other"])]
    #[case(&["all", "--agent-image", "i", "--namespace", "other"])]
    fn common_flags_stand_before_or_after_the_role(#[case] line: &[&str]) {
        let args = Args::try_parse_from([&["watchword-controller"], line].concat()).unwrap();

        assert_eq!(args.common.namespace, "other");
    }

    #[rstest]
    #[case(&[])]
    #[case(&["webhook", "--agent-image", "i", "--agent-delivery", "sidecar"])]
    #[case(&["certificates", "--rotate-ca-before", "yesterday"])]
    #[case(&["controller", "--roll-after", "1081h"])]
    #[case(&["controller", "--roll-after=-1s"])]
    #[case(&["controller", "--roll-after", "soon"])]
    fn what_cannot_be_meant_is_a_usage_error(#[case] line: &[&str]) {
        let error = Args::try_parse_from([&["watchword-controller"], line].concat()).unwrap_err();

        assert_eq!(error.exit_code(), 2);
    }
}
