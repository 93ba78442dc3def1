//! The names of what Watchword puts into pods. The policies in `manifests/` spell them too.

/// The agent's program, as a container sees it.
pub const AGENT: &str = "/watchword/agent";

/// Where the volume with the agent is mounted.
pub const AGENT_DIRECTORY: &str = "/watchword";

/// The volume with the agent: an image, or memory.
pub const AGENT_VOLUME: &str = "watchword";

/// What the names of all other volumes and containers of ours begin with.
pub const PREFIX: &str = "watchword-";

/// The init container that copies the agent where image volumes cannot be had.
pub const INSTALL_CONTAINER: &str = "watchword-install";

/// The init container that writes files; `watchword-files-<n>` where several are needed.
pub const FILES_CONTAINER: &str = "watchword-files";

/// The sandbox of a task: what relative paths are relative to (`mesos src/slave/flags.cpp`,
/// `--sandbox_directory`).
pub const SANDBOX: &str = "/mnt/mesos/sandbox";

/// The variable that tells a task its sandbox.
pub const SANDBOX_VARIABLE: &str = "MESOS_SANDBOX";
