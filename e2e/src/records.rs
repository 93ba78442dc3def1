//! The store's records as whoever has the rights of the store, or writes to etcd, sees and changes
//! them: the policy that guards them lets nobody else.

use anyhow::Result;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use watchword_crds::names;
use watchword_crds::sealed_record::SealedRecord;

use crate::cluster::Cluster;

/// The records of a cluster's store.
#[derive(Clone)]
pub struct Records(Api<SealedRecord>);

impl Records {
    /// Under the store's own account.
    ///
    /// # Errors
    ///
    /// There is no kubeconfig any more.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let account = format!("system:serviceaccount:{}:{}", names::NAMESPACE, names::STORE);
        let client = cluster.client_as(&account, &["system:authenticated"]).await?;
        Ok(Self(Api::namespaced(client, names::NAMESPACE)))
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// The API server does not answer.
    pub async fn all(&self) -> Result<Vec<SealedRecord>> {
        Ok(self.0.list(&Default::default()).await?.items)
    }

    /// The record of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn get(&self, name: &str) -> Result<SealedRecord> {
        Ok(self.0.get(name).await?)
    }

    /// Puts a saved copy in the place of what is there now, if anything is.
    ///
    /// # Errors
    ///
    /// The API server refuses it.
    pub async fn put_back(&self, saved: &SealedRecord) -> Result<()> {
        let (mut record, name) = (saved.clone(), saved.name_any());
        let now = self.0.get_opt(&name).await?;
        record.metadata.managed_fields = None;
        record.metadata.uid = now.as_ref().and_then(|now| now.metadata.uid.clone());
        record.metadata.resource_version = now.as_ref().and_then(ResourceExt::resource_version);
        match now {
            Some(_) => self.0.replace(&name, &PostParams::default(), &record).await?,
            None => self.0.create(&PostParams::default(), &record).await?,
        };
        Ok(())
    }

    /// Removes a record.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.0.delete(name, &Default::default()).await?;
        Ok(())
    }
}
