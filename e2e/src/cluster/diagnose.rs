//! What is printed when a story fails.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, LogParams};

use super::Cluster;
use super::pods::summary;

impl Cluster {
    /// Prints the pods, events and logs of a namespace to standard error. What cannot be read is
    /// left out: it is called when something is wrong already.
    pub async fn diagnose(&self, namespace: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let Ok(list) = pods.list(&ListParams::default()).await else { return };
        eprintln!("--- namespace {namespace}: {} pods", list.items.len());
        for pod in &list.items {
            eprintln!("{}", summary(pod));
        }
        self.print_events(namespace).await;
        for pod in &list.items {
            print_logs(&pods, pod).await;
        }
    }

    async fn print_events(&self, namespace: &str) {
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        let Ok(list) = events.list(&ListParams::default()).await else { return };
        let shown = list.items.len().saturating_sub(MAX_EVENTS);
        for event in &list.items[shown..] {
            eprintln!(
                "event: {} {}: {} {}",
                event.involved_object.kind.as_deref().unwrap_or("?"),
                event.involved_object.name.as_deref().unwrap_or("?"),
                event.reason.as_deref().unwrap_or("?"),
                event.message.as_deref().unwrap_or_default(),
            );
        }
    }
}

async fn print_logs(pods: &Api<Pod>, pod: &Pod) {
    let (Some(name), Some(spec)) = (&pod.metadata.name, &pod.spec) else { return };
    let init = spec.init_containers.iter().flatten();
    for container in init.chain(&spec.containers) {
        let parameters = LogParams {
            container: Some(container.name.clone()),
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        match pods.logs(name, &parameters).await {
            Ok(text) if !text.is_empty() => {
                eprintln!("--- log of {name}/{}\n{}", container.name, text.trim_end());
            }
            _ => {}
        }
    }
}

const LOG_LINES: i64 = 40;

const MAX_EVENTS: usize = 40;
