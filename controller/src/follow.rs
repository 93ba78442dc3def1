//! Caches of all objects of a kind, kept filled by a watch.

use std::fmt::Debug;
use std::future;
use std::time::Duration;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{self, Lookup, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::shared::Shared;

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

/// Waits until a cache has been filled for the first time.
///
/// kube's own `wait_until_ready` wakes only the task that asked last; of several that wait for one
/// cache, such as reconciles after a start, the others would wait for ever. Asked again, it answers.
///
/// # Errors
///
/// Whoever fills the cache is gone.
pub async fn filled<K>(cache: &Store<K>) -> Result<(), WriterDropped>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    loop {
        if let Ok(filled) = tokio::time::timeout(ASK_AGAIN, cache.wait_until_ready()).await {
            return filled;
        }
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A cache that holds these objects and is filled by nobody.
#[cfg(test)]
pub(crate) fn holding<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    store
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_cache_hear_that_it_is_filled() {
        let (cache, mut writer) = reflector::store::<ConfigMap>();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { filled(&cache).await })
            })
            .collect();
        tokio::task::yield_now().await;

        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);

        for waiter in waiters {
            let heard = tokio::time::timeout(Duration::from_secs(10), waiter).await;
            heard.expect("a waiter was forgotten").unwrap().unwrap();
        }
    }
}
