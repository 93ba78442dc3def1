//! The configuration files of the daemons, as text. Paths in them are those inside the node.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::cgroup::{ControlGroup, Version};
use super::layout::{INSIDE, Layout};

/// How a kubeconfig proves who it is.
pub(crate) enum Credentials {
    /// The texts themselves, base64 of PEM: for use outside.
    Data { authority: String, certificate: String, key: String },
    /// Files `<folder>/ca.crt`, `<folder>/<name>.crt` and `<folder>/<name>.key`.
    Files { folder: String, name: String },
}

/// Writes every configuration file of a cluster.
pub(crate) fn write(
    layout: &Layout,
    cgroup: &ControlGroup,
    cni_plugins: &Path,
    bridge_filter: bool,
) -> Result<()> {
    let files = [
        ("Corefile", COREFILE.to_owned()),
        ("audit-policy.yaml", AUDIT_POLICY.to_owned()),
        ("cni/net.d/10-e2e.conflist", network(bridge_filter)),
        ("containerd.toml", containerd(cni_plugins)),
        ("kubelet.yaml", kubelet(cgroup)),
    ];
    for (name, text) in files {
        let path = layout.state().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// A kubeconfig with one cluster, one user and one context, for the API server on loopback.
pub(crate) fn kubeconfig(credentials: &Credentials) -> String {
    let (cluster, user) = match credentials {
        Credentials::Data { authority, certificate, key } => (
            json!({"server": API_SERVER, "certificate-authority-data": authority}),
            json!({"client-certificate-data": certificate, "client-key-data": key}),
        ),
        Credentials::Files { folder, name } => (
            json!({"server": API_SERVER, "certificate-authority": format!("{folder}/ca.crt")}),
            json!({
                "client-certificate": format!("{folder}/{name}.crt"),
                "client-key": format!("{folder}/{name}.key"),
            }),
        ),
    };
    // JSON is YAML.
    format!(
        "{:#}\n",
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        })
    )
}

fn kubelet(cgroup: &ControlGroup) -> String {
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{INSIDE}/pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup.name),
        "clusterDNS": ["10.99.0.1"],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": {
            "imagefs.available": "1%",
            "memory.available": "100Mi",
            "nodefs.available": "1%",
        },
        "failSwapOn": false,
        // What rotates away is compressed, and no search for values would find it there.
        "containerLogMaxSize": "100Mi",
        // Else a full disk makes the kubelet delete the imported images.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 250,
        "oomScoreAdj": 0,
        "resolvConf": "",
        // Mounted Secrets are refreshed in 3 to 4 s instead of about a minute.
        "syncFrequency": "2s",
        "tlsCertFile": format!("{INSIDE}/pki/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{INSIDE}/pki/kubelet.key"),
        // The default would make a folder below /usr/libexec on the host.
        "volumePluginDir": "/run/kubelet-volume-plugins",
    });
    if cgroup.version == Version::V1 {
        // The default, true, refuses to start there.
        configuration["failCgroupV1"] = json!(false);
    }
    format!("{configuration:#}\n")
}

fn network(bridge_filter: bool) -> String {
    let addresses = json!({
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [[{"subnet": "10.244.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let plugin = if bridge_filter {
        json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
            "hairpinMode": true, "ipam": addresses,
        })
    } else {
        // Without br_netfilter, traffic between pods on a bridge would pass Services by.
        json!({"type": "ptp", "ipMasq": false, "ipam": addresses})
    };
    format!("{:#}\n", json!({"cniVersion": "1.0.0", "name": "e2e", "plugins": [plugin]}))
}

fn containerd(cni_plugins: &Path) -> String {
    format!(
        r#"version = 3
root = "{INSIDE}/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

# The default would make /opt/containerd on the host.
[plugins.'io.containerd.internal.v1.opt']
  path = "/run/containerd-opt"

[plugins.'io.containerd.metadata.v1.bolt']
  no_sync = true

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "localhost/pause:1"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "{INSIDE}/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE, scores may only be raised.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{INSIDE}/cni/net.d"
"#,
        plugins = cni_plugins.display()
    )
}

/// Reached on loopback, in the node's network.
const API_SERVER: &str = "https://127.0.0.1:6443";

/// Without the second block any name of elsewhere would be SERVFAIL instead of NXDOMAIN, which
/// slows look-ups along search domains.
const COREFILE: &str = "\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
  bind 10.99.0.1
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig /run/ww/pki/admin.conf
    pods insecure
    ttl 0
  }
}
.:53 {
  bind 10.99.0.1
  ready 127.0.0.1:8181
  template ANY ANY {
    rcode NXDOMAIN
  }
}
";

/// Whole requests and answers, for what may hold a value by mistake. Secrets are left out: they
/// are where values of others may be.
const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources:
  - group: ""
    resources: [events, pods, pods/status]
  - group: apps
  - group: batch
  - group: events.k8s.io
  - group: watchword.dev
- level: Metadata
"#;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn group(version: Version) -> ControlGroup {
        ControlGroup { name: "ww-7".to_owned(), version }
    }

    #[test]
    fn the_kubelet_is_told_of_version_1_only_where_it_has_it() {
        let one: Value = serde_json::from_str(&kubelet(&group(Version::V1))).unwrap();
        let two: Value = serde_json::from_str(&kubelet(&group(Version::V2))).unwrap();

        assert_eq!(one["failCgroupV1"], false);
        assert_eq!(two.get("failCgroupV1"), None);
        assert_eq!(two["cgroupRoot"], "/ww-7");
    }

    #[test]
    fn pods_get_a_bridge_only_where_its_traffic_passes_the_filter() {
        let bridge: Value = serde_json::from_str(&network(true)).unwrap();
        let pairs: Value = serde_json::from_str(&network(false)).unwrap();

        assert_eq!(bridge["plugins"][0]["bridge"], "cni0");
        assert_eq!(pairs["plugins"][0]["type"], "ptp");
    }

    #[test]
    fn a_kubeconfig_is_one_that_kube_reads() {
        let text = kubeconfig(&Credentials::Files { folder: "/p".into(), name: "kcm".into() });

        let read: kube::config::Kubeconfig = serde_yaml::from_str(&text).unwrap();

        assert_eq!(read.current_context.as_deref(), Some("local"));
        let user = read.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_key.as_deref(), Some("/p/kcm.key"));
    }

    #[test]
    fn the_audit_policy_never_records_secrets_in_full() {
        let policy: Value = serde_yaml::from_str(AUDIT_POLICY).unwrap();

        let full = policy["rules"][0]["resources"].as_array().unwrap();
        assert!(full.iter().all(|entry| !entry.to_string().contains("secrets")));
        assert_eq!(policy["rules"][1]["level"], "Metadata");
    }
}
