//! Task definitions, judged when they are applied: in Mesos' words where Mesos has some.
//!
//! Controller and store judge again, with the same functions: this webhook may be down.

use serde_json::Value;
use watchword_core::definition::{self, Warning, WarningKind};
use watchword_core::revision;
use watchword_crds::TaskDefinition;

use super::caches::Caches;
use super::review::{Answer, Request};

/// Answers the review of a task definition.
pub fn answer(caches: &Caches, request: Request<'_, Value>) -> Answer {
    let Request { namespace, name, object, .. } = request;
    let Some(object) = object else { return Answer::default() };
    let definition: TaskDefinition = match serde_json::from_value(object) {
        Ok(definition) => definition,
        Err(error) => return Answer::deny(format!("this is not a TaskDefinition: {error}")),
    };
    // An object that is going away must be able to lose its finalizers, whatever is wrong with it.
    if definition.metadata.deletion_timestamp.is_some() {
        return Answer::default();
    }
    let spec = &definition.spec;
    let warnings = match definition::validate(spec, &namespace, &name) {
        Ok(warnings) => warnings,
        Err(invalid) => return Answer::deny(invalid.to_string()),
    };
    let ownership = caches.ownership();
    let id = revision::service_id(spec, &namespace, &name);
    if let Err(error) = ownership.check(&namespace, &id) {
        return Answer::deny(format!("spec.id: {error}"));
    }
    let may_inline = ownership.allows_inline_values(&namespace);
    let inline = |one: &&Warning| one.kind == WarningKind::InlineValue && !may_inline;
    if let Some(inline) = warnings.iter().find(inline) {
        return Answer::deny(inline.clone().into_invalid().to_string());
    }
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Answer { warnings, ..Answer::default() }
}
