//! The flags that say how the store is reached, and as whom.

use std::path::PathBuf;

use watchword_crds::names;

use super::misuse;
use crate::connect::{Address, Target};

/// How the store is reached.
#[derive(clap::Args)]
#[command(next_help_heading = "Reaching the store")]
pub(crate) struct ReachArgs {
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// The kubeconfig to use, instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Taken because kubectl takes it everywhere; secrets are in no namespace
    #[arg(long, value_name = "NAMESPACE", global = true, hide = true)]
    namespace: Option<String>,
    /// The namespace that Watchword runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        global = true,
        env = "WATCHWORD_NAMESPACE",
        hide_env_values = true,
        default_value = names::NAMESPACE
    )]
    system_namespace: String,
    /// Go straight to `https://HOST[:PORT]`, without a kubeconfig; needs --ca-file
    #[arg(long, value_name = "URL", global = true)]
    address: Option<Address>,
    /// With --address: the certificate authority (PEM) that vouches for the store
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// With --address: a file with the bearer token, instead of $WATCHWORD_TOKEN
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl ReachArgs {
    /// What was meant.
    ///
    /// # Errors
    ///
    /// A usage error for flags that do not go together.
    pub(crate) fn target(self) -> Result<Target, clap::Error> {
        let Self {
            context,
            kubeconfig,
            namespace: _,
            system_namespace,
            address,
            ca_file,
            token_file,
        } = self;
        let Some(address) = address else {
            return match (ca_file, token_file) {
                (None, None) => Ok(Target::Cluster { context, kubeconfig, system_namespace }),
                (Some(_), _) => Err(misuse("--ca-file goes with --address")),
                (_, Some(_)) => Err(misuse("--token-file goes with --address")),
            };
        };
        if context.is_some() || kubeconfig.is_some() {
            return Err(misuse(
                "--address uses no kubeconfig: leave --context and --kubeconfig out",
            ));
        }
        match ca_file {
            Some(ca_file) => Ok(Target::Address { address, ca_file, token_file }),
            None => Err(misuse("--address needs --ca-file, to know the store by")),
        }
    }
}
