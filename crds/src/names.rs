//! The names that the parts of Watchword, its manifests and its policies agree on.
//!
//! A name that stands in a manifest and in code stands here once; nothing here is configurable.

/// The API group of all custom resources.
pub const GROUP: &str = "watchword.dev";

/// The version of all custom resources.
pub const VERSION: &str = "v1alpha1";

/// The category of all custom resources: `kubectl get watchword`.
pub const CATEGORY: &str = "watchword";

/// Server-side apply's field manager for everything that Watchword writes.
pub const FIELD_MANAGER: &str = "watchword";

/// The namespace that Watchword is installed in, unless told otherwise.
pub const NAMESPACE: &str = "watchword-system";

/// The Deployment and the service account of role `controller`, and its lease.
pub const CONTROLLER: &str = "watchword-controller";

/// The Deployment, the service account and the Service of role `webhook`.
pub const WEBHOOK: &str = "watchword-webhook";

/// The Deployment, the service account and the Service of role `store`.
pub const STORE: &str = "watchword-store";

/// The Lease whose holder is the place where the store keeps its records.
pub const STORE_BACKEND: &str = "watchword-store-backend";

/// The Deployment and the service account of role `certificates`, and its lease.
pub const CERTIFICATES: &str = "watchword-certificates";

/// The Secret with the certificate authority, and the ConfigMap with its public bundle.
pub const CA: &str = "watchword-ca";

/// The key of the trust bundle (current and previous CA, PEM) in the ConfigMap [`CA`], and of the
/// current CA's certificate in the Secret [`CA`].
pub const CA_CERTIFICATE_KEY: &str = "ca.crt";

/// The key of the CA's private key (PEM) in the Secret [`CA`].
pub const CA_PRIVATE_KEY_KEY: &str = "ca.key";

/// The key of the previous CA's certificate (PEM) in the Secret [`CA`].
pub const CA_PREVIOUS_KEY: &str = "previous.crt";

/// The key of the current CA's certificate as the previous CA signed it (PEM) in the Secret [`CA`].
pub const CA_CROSS_KEY: &str = "cross.crt";

/// The `kubernetes.io/tls` Secret of the webhook.
pub const WEBHOOK_TLS: &str = "watchword-webhook-tls";

/// The `kubernetes.io/tls` Secret of the store.
pub const STORE_TLS: &str = "watchword-store-tls";

/// The port that webhook and store serve TLS on.
pub const TLS_PORT: u16 = 8443;

/// The port of the Services of webhook and store.
pub const SERVICE_PORT: u16 = 443;

/// The plain port of every role: `/healthz`, `/readyz`, `/metrics`.
pub const HEALTH_PORT: u16 = 8080;

/// The label (value [`INJECT_VALUE`]) of pods that the webhook injects.
pub const INJECT_LABEL: &str = "watchword.dev/inject";

/// The value of [`INJECT_LABEL`]. The policy `watchword-opt-in` refuses what merely looks like it.
pub const INJECT_VALUE: &str = "true";

/// The label that holds the name of the TaskDefinition a workload or pod belongs to.
pub const TASK_DEFINITION_LABEL: &str = "watchword.dev/task-definition";

/// What labels and annotations of ours begin with; users may not set any.
pub const LABEL_PREFIX: &str = "watchword.dev/";

/// What names of our volumes and containers in a pod begin with; users may not take any.
pub const POD_NAME_PREFIX: &str = "watchword";

/// What the agent's own environment variables begin with; users may not set any.
pub const ENVIRONMENT_PREFIX: &str = "WATCHWORD_";

/// The name of the one SecretStore that is read.
pub const DEFAULT_STORE: &str = "default";

/// The SecretResolver of definitions that name none.
pub const DEFAULT_RESOLVER: &str = "default";

/// The ValidatingAdmissionPolicy that guards the writers of TaskRevisions and SealedRecords.
pub const AUTHORITY_POLICY: &str = "watchword-authority";

/// The longest `metadata.name` of a TaskDefinition, in bytes: what is appended to it (a revision's
/// digest, a CronJob's time, a pod's suffix) must still fit into a label of 63.
pub const MAX_DEFINITION_NAME_BYTES: usize = 42;

/// The most tasks in one definition: each is a container of one pod.
pub const MAX_TASKS: usize = 20;
