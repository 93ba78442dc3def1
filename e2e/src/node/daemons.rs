//! The daemons of a node and their arguments. Paths are those inside the node.

use super::layout::INSIDE;

/// One long-running program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Daemon {
    /// Both the program and the name of its log.
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<String>,
}

impl Daemon {
    fn new(name: &'static str, arguments: impl AsRef<str>) -> Self {
        let arguments =
            arguments.as_ref().replace("$P", &format!("{INSIDE}/pki")).replace("$S", INSIDE);
        Self { name, arguments: arguments.split_whitespace().map(str::to_owned).collect() }
    }
}

/// What starts at once.
pub(crate) fn first(audit: bool) -> Vec<Daemon> {
    let audit = if audit {
        "--audit-policy-file=$S/audit-policy.yaml --audit-log-path=$S/logs/audit.log"
    } else {
        ""
    };
    vec![
        Daemon::new(
            "etcd",
            "--data-dir $S/etcd --listen-client-urls http://127.0.0.1:2379 \
             --advertise-client-urls http://127.0.0.1:2379 \
             --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync",
        ),
        Daemon::new(
            "kube-apiserver",
            format!(
                "--etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
                 --advertise-address=10.99.0.1 --secure-port=6443 \
                 --tls-cert-file=$P/apiserver.crt --tls-private-key-file=$P/apiserver.key \
                 --client-ca-file=$P/ca.crt --service-account-key-file=$P/sa.pub \
                 --service-account-signing-key-file=$P/sa.key \
                 --service-account-issuer=https://kubernetes.default.svc.cluster.local \
                 --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC \
                 --allow-privileged=true --enable-admission-plugins=NodeRestriction \
                 --kubelet-client-certificate=$P/admin.crt \
                 --kubelet-client-key=$P/admin.key \
                 --kubelet-preferred-address-types=InternalIP \
                 --requestheader-client-ca-file=$P/ca.crt \
                 --requestheader-allowed-names=front-proxy-client \
                 --requestheader-username-headers=X-Remote-User \
                 --requestheader-group-headers=X-Remote-Group \
                 --requestheader-extra-headers-prefix=X-Remote-Extra- \
                 --proxy-client-cert-file=$P/front-proxy.crt \
                 --proxy-client-key-file=$P/front-proxy.key {audit}"
            ),
        ),
        Daemon::new("containerd", "--config $S/containerd.toml"),
    ]
}

/// What starts when the API server is ready: the controller manager exits if it is not.
pub(crate) fn second() -> Vec<Daemon> {
    vec![
        Daemon::new(
            "kube-controller-manager",
            // It makes a token per controller, 20 a second by default: the rates save 5 s.
            "--kubeconfig=$P/kcm.conf --authentication-kubeconfig=$P/kcm.conf \
             --authorization-kubeconfig=$P/kcm.conf --service-account-private-key-file=$P/sa.key \
             --root-ca-file=$P/ca.crt --use-service-account-credentials --leader-elect=false \
             --cluster-signing-cert-file=$P/ca.crt --cluster-signing-key-file=$P/ca.key \
             --kube-api-qps=500 --kube-api-burst=1000",
        ),
        Daemon::new(
            "kube-scheduler",
            "--kubeconfig=$P/sched.conf --authentication-kubeconfig=$P/sched.conf \
             --authorization-kubeconfig=$P/sched.conf --leader-elect=false",
        ),
        Daemon::new(
            "kubelet",
            "--config $S/kubelet.yaml --kubeconfig $P/kubelet.conf --root-dir $S/kubelet \
             --hostname-override node-1 --node-ip 10.99.0.1",
        ),
        Daemon::new(
            "kube-proxy",
            // Zero keeps it off a setting of the whole host.
            "--kubeconfig $P/proxy.conf --proxy-mode=iptables --hostname-override node-1 \
             --cluster-cidr=10.244.0.0/24 --conntrack-max-per-core=0",
        ),
        Daemon::new("coredns", "-conf $S/Corefile"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_adds_arguments_to_the_api_server_only() {
        let (plain, audited) = (first(false), first(true));

        let changed: Vec<_> =
            plain.iter().zip(&audited).filter(|(a, b)| a != b).map(|(a, _)| a.name).collect();
        assert_eq!(changed, ["kube-apiserver"]);
        assert!(
            audited[1].arguments.contains(&"--audit-log-path=/run/ww/logs/audit.log".to_owned())
        );
    }

    #[test]
    fn no_placeholder_is_left() {
        for daemon in first(true).into_iter().chain(second()) {
            assert!(!daemon.arguments.iter().any(|argument| argument.contains('$')));
        }
    }
}
