//! Caches of all objects of a kind, kept filled by a watch.

use std::fmt::Debug;
use std::future;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::run::Shared;

/// Starts watching all objects of a kind, in a task that ends with the role. Whoever decides by
/// the cache waits for `wait_until_ready` first.
pub fn follow<K>(shared: &Shared) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let api: Api<K> = Api::all(shared.client.clone());
    let shutdown = shared.shutdown.clone();
    // Without its managed fields an object takes half the memory.
    let stream = watcher(api, watcher::Config::default().any_semantic())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer);
    tokio::spawn(async move {
        // Errors are retried by the stream itself, with back-off; the cache keeps what it has.
        let drain = stream.for_each(|_| future::ready(()));
        tokio::select! {
            () = drain => {}
            () = shutdown.requested() => {}
        }
    });
    reader
}
