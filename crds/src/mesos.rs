//! The messages of Mesos, as a task definition writes them: proto-JSON, spelled as in `mesos.proto`.
//!
//! Reading is as lenient as Mesos' own: every field may be absent or `null`, enums are plain text and
//! `bytes` are base64 text. What Mesos refuses, `watchword-core` refuses in Mesos' words. Writing
//! leaves out what is unset, so that equal messages have equal JSON and digests stay stable.
//!
//! Unlike Mesos', the readers want numbers as numbers: the API server's schema has no "number or
//! text".

use serde::{Deserialize, Deserializer};

mod command;
mod container;
mod executor;
mod health;
mod resource;
mod secret;
mod task;

pub use command::{CommandInfo, Environment, Uri, Variable};
pub use container::{
    Appc, ContainerInfo, Credential, CsiVolume, DockerInfo, DockerPortMapping, DockerVolume,
    HostPath, Image, ImageDocker, IpAddress, LinuxInfo, MesosInfo, NetworkInfo, NetworkPortMapping,
    Parameter, Parameters, RLimit, RLimitInfo, SandboxPath, StaticProvisioning, TtyInfo, Volume,
    VolumeSource, WindowSize,
};
pub use executor::ExecutorInfo;
pub use health::{
    CheckInfo, CommandCheck, HealthCheck, HttpCheck, HttpHealthCheck, TcpCheck, TcpHealthCheck,
};
pub use resource::{Range, Ranges, Resource, Scalar, Set};
pub use secret::{Reference, Secret, SecretValue};
pub use task::{DiscoveryInfo, DurationInfo, Id, KillPolicy, Label, Labels, Port, Ports, TaskInfo};

/// Defines messages: every field may be absent or `null`, and is not written when unset.
macro_rules! messages {
    ($(
        $(#[$struct_attribute:meta])*
        pub struct $name:ident {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$struct_attribute])*
        #[derive(Clone, Default, serde::Deserialize, schemars::JsonSchema, PartialEq, serde::Serialize)]
        #[serde(default)]
        #[schemars(inline, transform = crate::mesos::nullable_lists)]
        pub struct $name {
            $(
                $(#[$field_attribute])*
                #[serde(
                    deserialize_with = "crate::mesos::null_as_unset",
                    skip_serializing_if = "crate::mesos::Unset::is_unset"
                )]
                pub $field: $type,
            )*
        }
    )*};
}
use messages;

/// A field that can be left out.
trait Unset {
    /// Whether the field is left out when written.
    fn is_unset(&self) -> bool;
}

impl<T> Unset for Option<T> {
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T> Unset for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

/// Reads `null` as unset, as Mesos does, for lists too.
fn null_as_unset<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Lets the API server accept `null` for lists; for optional fields kube says so itself.
fn nullable_lists(schema: &mut schemars::Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(|p| p.as_object_mut()) else {
        return;
    };
    for property in properties.values_mut().filter_map(|property| property.as_object_mut()) {
        if property.get("type").is_some_and(|kind| kind == "array") {
            property.insert("nullable".to_owned(), true.into());
        }
    }
}
