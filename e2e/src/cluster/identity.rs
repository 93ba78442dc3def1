//! Talking to the API server as somebody else.

use anyhow::{Context, Result};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client};

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
        config.auth_info =
            AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Client::try_from(config).context("cannot make a client")
    }
}

impl Namespace {
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
        let made =
            accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(made.status.map(|status| status.token).unwrap_or_default())
    }
}
