//! Talking to the API server as somebody else.

use anyhow::{Context, Result};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{Cluster, Namespace};

impl Cluster {
    /// A client that the API server takes for this user of these groups. What the user may do,
    /// RBAC says; the groups of every authenticated user have to be named.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in a header.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.access.config().await?;
        let users = [("impersonate-user", user)];
        let groups = groups.iter().map(|group| ("impersonate-group", *group));
        for (name, value) in users.into_iter().chain(groups) {
            let value = HeaderValue::from_str(value).context("a name that no header can hold")?;
            config.headers.push((HeaderName::from_static(name), value));
        }
        Client::try_from(config).context("cannot make a client")
    }

    /// A client that shows a token and nothing else.
    ///
    /// # Errors
    ///
    /// If there is no kubeconfig any more.
    pub async fn client_with_token(&self, token: &str) -> Result<Client> {
        let mut config = self.access.config().await?;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Client::try_from(config).context("cannot make a client")
    }
}

impl Namespace {
    /// A client that the API server takes for the user `<name>@<namespace>`, to whom
    /// [`Namespace::grant`] and [`Namespace::bind`] give rights.
    ///
    /// # Errors
    ///
    /// As for [`Cluster::client_as`].
    pub async fn user(&self, name: &str) -> Result<Client> {
        self.cluster().client_as(&self.user_name(name), &["system:authenticated"]).await
    }

    /// Makes a service account.
    ///
    /// # Errors
    ///
    /// The API server refuses it.
    pub async fn account(&self, name: &str) -> Result<()> {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        self.apply(&account.to_string()).await.map(drop)
    }

    /// Gives the user and the service account of this name rules in the namespace.
    ///
    /// # Errors
    ///
    /// The API server refuses it.
    pub async fn grant(&self, name: &str, rules: &Value) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name}, "rules": rules,
        });
        self.apply(&role.to_string()).await?;
        self.bind(name, "Role").await
    }

    /// Binds the user and the service account of this name to the `Role` or `ClusterRole` of the
    /// same name, in the namespace.
    ///
    /// # Errors
    ///
    /// The API server refuses it.
    pub async fn bind(&self, name: &str, kind: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name}, "subjects": self.subjects(name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        });
        self.apply(&binding.to_string()).await.map(drop)
    }

    /// The user and the service account of this name, as bindings name them.
    pub fn subjects(&self, name: &str) -> Value {
        json!([
            {"kind": "ServiceAccount", "name": name, "namespace": self.name()},
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user_name(name)},
        ])
    }

    fn user_name(&self, name: &str) -> String {
        format!("{name}@{}", self.name())
    }

    /// A token of a pod of service account `default`, got as the pod's kubelet gets it, whom alone
    /// the policies let have one for an audience of Watchword.
    ///
    /// # Errors
    ///
    /// The pod is not on a node yet, or the API server refuses it.
    pub async fn kubelets_token(&self, pod: &str, audience: &str) -> Result<String> {
        let found: Pod = self.api::<Pod>().get(pod).await?;
        let uid = found.metadata.uid.context("no uid")?;
        let node = found.spec.and_then(|spec| spec.node_name).context("not on a node yet")?;
        let groups = ["system:nodes", "system:authenticated"];
        let kubelet = self.cluster().client_as(&format!("system:node:{node}"), &groups).await?;
        Ok(self.token(kubelet, "default", Some(audience), Some((pod, &uid))).await?)
    }

    /// A token of one of the namespace's service accounts, for an audience or else for the API
    /// server, bound to a pod if one is named by name and uid; asked for with `client`.
    ///
    /// # Errors
    ///
    /// The API server refuses it.
    pub async fn token(
        &self,
        client: Client,
        account: &str,
        audience: Option<&str>,
        pod: Option<(&str, &str)>,
    ) -> kube::Result<String> {
        let bound_object_ref = pod.map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
        });
        let audiences = audience.map(str::to_owned).into_iter().collect();
        let request = TokenRequest {
            spec: TokenRequestSpec { audiences, bound_object_ref, ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, self.name());
        let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(made.status.map(|status| status.token).unwrap_or_default())
    }
}
