//! Caches of all objects of a kind, kept filled by a watch.

use std::fmt::Debug;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::chain::Chain;
use crate::shared::Shared;

/// Starts watching all objects of a kind, in a task that ends with the role. Whoever decides by
/// the cache waits for `wait_until_ready` first.
///
/// One object that does not parse keeps the cache from being filled. So it should be for kinds that
/// restrict: without that one, more would be allowed.
pub fn follow<K>(shared: &Shared) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let api: Api<K> = Api::all(shared.client.clone());
    fill(writer, watcher(api, watcher::Config::default()), shared);
    reader
}

/// As [`follow`], but an object that does not parse is left out as if it were not there, and named in
/// the log: for kinds of which one that is missing stops nobody but those who need it.
pub fn follow_readable<K>(shared: &Shared) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let api: Api<DeserializeGuard<K>> = Api::all(shared.client.clone());
    let known = reader.clone();
    let events = watcher(api, watcher::Config::default()).filter_map(move |event| {
        future::ready(event.map(|event| readable(event, &known)).transpose())
    });
    fill(writer, events, shared);
    reader
}

/// Fills a cache from a watch, without end.
fn fill<K>(
    writer: Writer<K>,
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    shared: &Shared,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let shutdown = shared.shutdown.clone();
    // Without its managed fields an object takes half the memory.
    let stream = events
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer);
    tokio::spawn(async move {
        let mut interruption = Interruption::default();
        // Errors are retried by the stream itself, with back-off; the cache keeps what it has.
        let drain = stream.for_each(|event| {
            if let Some(error) = interruption.news(&event) {
                warn!(kind = %K::kind(&()), error, "cannot watch, trying again");
            }
            future::ready(())
        });
        tokio::select! {
            () = drain => {}
            () = shutdown.requested() => {}
        }
    });
}

/// Why a watch does not go on, as it was said last.
#[derive(Default)]
struct Interruption(Option<String>);

impl Interruption {
    /// What is to be said, which is nothing that has been said since the watch went on.
    fn news<K>(&mut self, event: &Result<Event<K>, watcher::Error>) -> Option<String> {
        match event {
            // A watch that begins has not brought anything yet.
            Ok(Event::Init) => None,
            Ok(_) => {
                self.0 = None;
                None
            }
            Err(error) => {
                let text = Chain(error).to_string();
                let is_new = self.0.as_ref() != Some(&text);
                self.0 = Some(text.clone());
                is_new.then_some(text)
            }
        }
    }
}

/// An event as if objects that do not parse were not there; `None` if that is no event then.
fn readable<K>(event: Event<DeserializeGuard<K>>, known: &Store<K>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
        Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
        Event::InitApply(DeserializeGuard(Ok(object))) => Some(Event::InitApply(object)),
        Event::InitApply(DeserializeGuard(Err(invalid))) => {
            leave_out::<K>(&invalid);
            None
        }
        Event::Apply(DeserializeGuard(Err(invalid)))
        | Event::Delete(DeserializeGuard(Err(invalid))) => {
            // It may have been one that did.
            let before = known.get(&leave_out(&invalid))?;
            Some(Event::Delete(Arc::unwrap_or_clone(before)))
        }
    }
}

fn leave_out<K: Resource<DynamicType = ()>>(invalid: &InvalidObject) -> ObjectRef<K> {
    let InvalidObject { error, metadata } = invalid;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref();
    // The text may quote what stands in the object, which may be an inline value.
    let why = error.split(['"', '`']).next().unwrap_or_default().trim();
    warn!(kind = %K::kind(&()), name, namespace, why, "left out what cannot be read");
    let reference = ObjectRef::new(name);
    match namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
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
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, from_value, json};

    use super::*;

    /// A ConfigMap; one that does not parse if its data is of another type.
    fn guarded(name: &str, data: &Value) -> DeserializeGuard<ConfigMap> {
        from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "data": data})).unwrap()
    }

    #[test]
    fn an_object_that_does_not_parse_is_left_out_and_keeps_nobody_else_away() {
        let (cache, mut writer) = reflector::store::<ConfigMap>();
        let mut hear = |event| {
            if let Some(event) = readable(event, &cache) {
                writer.apply_watcher_event(&event);
            }
            let mut names: Vec<_> = cache.state().iter().map(|one| one.name_any()).collect();
            names.sort_unstable();
            names
        };
        let (good, bad) = (json!({"a": "b"}), json!("a"));

        hear(Event::Init);
        hear(Event::InitApply(guarded("first", &good)));
        hear(Event::InitApply(guarded("broken", &bad)));
        hear(Event::InitApply(guarded("second", &good)));
        let listed = hear(Event::InitDone);
        let mended = hear(Event::Apply(guarded("broken", &good)));
        let broken = hear(Event::Apply(guarded("first", &bad)));
        let deleted = hear(Event::Delete(guarded("second", &bad)));
        let never_known = hear(Event::Delete(guarded("first", &bad)));

        assert_eq!(listed, ["first", "second"]);
        assert_eq!(mended, ["broken", "first", "second"]);
        assert_eq!(broken, ["broken", "second"]);
        assert_eq!((deleted, never_known), (vec!["broken".to_owned()], vec!["broken".to_owned()]));
    }

    #[test]
    fn an_interruption_is_said_once_until_the_watch_goes_on() {
        let mut interruption = Interruption::default();
        let mut said =
            |event: Result<Event<ConfigMap>, watcher::Error>| interruption.news(&event).is_some();

        assert!(said(Err(watcher::Error::NoResourceVersion)));
        assert!(!said(Ok(Event::Init)));
        assert!(!said(Err(watcher::Error::NoResourceVersion)));
        assert!(!said(Ok(Event::InitDone)));
        assert!(said(Err(watcher::Error::NoResourceVersion)));
    }

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
