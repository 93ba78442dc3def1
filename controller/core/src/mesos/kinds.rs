//! The enums of `mesos.proto`, read as Mesos reads them from JSON.
//!
//! An unknown text in an optional field counts as unset there, so reading never fails where a field
//! is optional; where it is required, reading gives `None`.

macro_rules! kinds {
    ($(
        $(#[$attribute:meta])*
        $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $text:literal,)* }
    )*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$variant_attribute])* $variant,)* }

        impl $name {
            /// The kind of exactly this name.
            fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

kinds! {
    /// `CheckInfo.Type` and `HealthCheck.Type`.
    CheckType {
        /// A command.
        Command = "COMMAND",
        /// An HTTP request.
        Http = "HTTP",
        /// A TCP connection.
        Tcp = "TCP",
        /// Said to be unknown.
        Unknown = "UNKNOWN",
    }

    /// `ContainerInfo.Type`.
    ContainerType {
        /// Docker's containerizer.
        Docker = "DOCKER",
        /// Mesos' containerizer.
        Mesos = "MESOS",
    }

    /// `Secret.Type`.
    SecretType {
        /// By reference.
        Reference = "REFERENCE",
        /// Unset, or nothing that is known.
        Unknown = "UNKNOWN",
        /// By value.
        Value = "VALUE",
    }

    /// `Volume.Source.Type`.
    SourceType {
        /// A CSI volume.
        CsiVolume = "CSI_VOLUME",
        /// A volume of a Docker volume driver.
        DockerVolume = "DOCKER_VOLUME",
        /// A path of the host.
        HostPath = "HOST_PATH",
        /// A directory of a sandbox.
        SandboxPath = "SANDBOX_PATH",
        /// A secret.
        Secret = "SECRET",
        /// Unset, or nothing that is known.
        Unknown = "UNKNOWN",
    }

    /// `Environment.Variable.Type`.
    VariableType {
        /// A secret.
        Secret = "SECRET",
        /// Said to be unknown.
        Unknown = "UNKNOWN",
        /// Plain text; also when unset.
        Value = "VALUE",
    }

    /// `Volume.Mode`.
    VolumeMode {
        /// Read only.
        Ro = "RO",
        /// Read and write.
        Rw = "RW",
    }
}

impl CheckType {
    /// Reads the field; `None` when unset or not known.
    pub fn read(text: Option<&str>) -> Option<Self> {
        text.and_then(Self::named)
    }
}

impl ContainerType {
    /// Reads the field; `None` when unset or not known.
    pub fn read(text: Option<&str>) -> Option<Self> {
        text.and_then(Self::named)
    }
}

impl SecretType {
    /// Reads the field; `Unknown` when unset or not known.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(Self::named).unwrap_or(Self::Unknown)
    }
}

impl SourceType {
    /// Reads the field; `Unknown` when unset or not known.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(Self::named).unwrap_or(Self::Unknown)
    }
}

impl VariableType {
    /// Reads the field; `Value` when unset or not known.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(Self::named).unwrap_or(Self::Value)
    }
}

impl VolumeMode {
    /// Reads the field; `None` when unset or not known.
    pub fn read(text: Option<&str>) -> Option<Self> {
        text.and_then(Self::named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_reads_as_unset() {
        for text in [None, Some(""), Some("secret"), Some("SECRT")] {
            assert_eq!(SecretType::read(text), SecretType::Unknown);
            assert_eq!(SourceType::read(text), SourceType::Unknown);
            assert_eq!(VariableType::read(text), VariableType::Value);
            assert_eq!(VolumeMode::read(text), None);
        }
        assert_eq!(VariableType::read(Some("UNKNOWN")), VariableType::Unknown);
    }
}
