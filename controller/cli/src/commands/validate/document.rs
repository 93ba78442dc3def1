//! What stands in a file: objects of Kubernetes, in YAML or JSON, some of them task definitions.
//!
//! YAML is read as kubectl reads it, through JSON. The errors of the readers show lines and values;
//! here they lose both.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use watchword_crds::{names, task_definition::TaskDefinitionSpec};

use super::Remark;

/// One object of a file.
pub(super) enum Found {
    /// Something that nobody would take.
    Broken(Remark),
    /// A task definition.
    Definition(Document),
    /// An object of another kind.
    Other,
}

/// A task definition whose spec has not been looked at.
pub(super) struct Document {
    /// `metadata.name`.
    pub(super) name: String,
    /// `metadata.namespace`.
    pub(super) namespace: Option<String>,
    spec: Value,
}

impl Document {
    /// The spec, if it has the right types and no unknown fields: what the schema checks.
    pub(super) fn spec(&self) -> Result<TaskDefinitionSpec, Remark> {
        let spec: TaskDefinitionSpec = parse(&self.spec).map_err(|message| Remark {
            field: Some(culprit(&self.spec, "spec".to_owned(), &message)),
            message,
        })?;
        // What is read and written again has lost exactly the fields that nobody knows.
        let known = serde_json::to_value(&spec).unwrap_or_default();
        match unknown(&self.spec, &known, "spec") {
            None => Ok(spec),
            Some(field) => {
                let message = "there is no such field; mind the spelling and the case".to_owned();
                Err(Remark { field: Some(field), message })
            }
        }
    }
}

/// Reads all objects of a file; `-` is stdin.
///
/// # Errors
///
/// `DocumentError` for a file that cannot be read or is neither YAML nor JSON.
pub(super) fn read(file: &Path) -> Result<Vec<Found>, DocumentError> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().read_to_string(&mut text).map(drop),
        false => fs::read_to_string(file).map(|content| text = content),
    };
    read.map_err(|cause| DocumentError::Read { file: file.to_owned(), cause })?;
    Ok(objects(&text)?.into_iter().flat_map(items).map(recognise).collect())
}

fn objects(text: &str) -> Result<Vec<Value>, DocumentError> {
    // JSON may be indented with tabs, which YAML forbids.
    if text.trim_start().starts_with('{') {
        let json: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(values) = json {
            return Ok(values);
        }
    }
    // Without snippets, which show the lines around a mistake; 0755 is octal, as for kubectl.
    let options = serde_yaml::options! { with_snippet: false, legacy_octal_numbers: true };
    serde_yaml::from_multiple_with_options(text, options).map_err(|error| DocumentError::Syntax {
        reason: without_value(&error.without_snippet().to_string()),
    })
}

/// The objects of a `List`, or the object itself.
fn items(object: Value) -> Vec<Value> {
    match object {
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        object => vec![object],
    }
}

fn recognise(mut object: Value) -> Found {
    // `---` at the end of a file makes one.
    if object.is_null() {
        return Found::Other;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(version), Some(kind)) = (text(&object["apiVersion"]), text(&object["kind"])) else {
        return broken(None, "it has no apiVersion and kind, so it is no object of Kubernetes");
    };
    let Some((names::GROUP, version)) = version.split_once('/') else { return Found::Other };
    if version != names::VERSION {
        return broken(Some("apiVersion"), &format!("use {}/{}", names::GROUP, names::VERSION));
    }
    match kind.as_str() {
        "TaskDefinition" => {}
        kind if OTHER_KINDS.contains(&kind) => return Found::Other,
        _ => return broken(Some("kind"), "there is no such kind; did you mean TaskDefinition?"),
    }
    match text(&object["metadata"]["name"]) {
        None => broken(Some("metadata.name"), "it is missing"),
        Some(name) => Found::Definition(Document {
            name,
            namespace: text(&object["metadata"]["namespace"]),
            spec: match object["spec"].take() {
                Value::Null => Value::Object(Map::new()),
                spec => spec,
            },
        }),
    }
}

fn broken(field: Option<&str>, message: &str) -> Found {
    Found::Broken(Remark { field: field.map(str::to_owned), message: message.to_owned() })
}

/// The types' opinion of a spec; an error says what was expected, and nothing of what is there but
/// its type.
fn parse(spec: &Value) -> Result<TaskDefinitionSpec, String> {
    serde_json::from_value(spec.clone()).map_err(|error| without_value(&error.to_string()))
}

/// The field that an error is about, which serde does not say: the innermost one without which the
/// error is another one or none.
fn culprit(spec: &Value, root: String, message: &str) -> String {
    let mut spec = spec.clone();
    let mut field = root;
    let mut pointer = String::new();
    while let Some((step, key)) = guilty_child(&mut spec, &pointer, message) {
        field.push_str(&step);
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    }
    field
}

/// The child of the value at `pointer` that is to blame: as it stands in a field's name, and its key.
fn guilty_child(spec: &mut Value, pointer: &str, message: &str) -> Option<(String, String)> {
    let keys: Vec<(String, String)> = match spec.pointer(pointer)? {
        Value::Array(items) => {
            (0..items.len()).map(|index| (format!("[{index}]"), index.to_string())).collect()
        }
        Value::Object(fields) => {
            fields.keys().map(|key| (format!(".{key}"), key.clone())).collect()
        }
        _ => return None,
    };
    let mut needed = None;
    for (step, key) in keys {
        let parent = spec.pointer_mut(pointer)?;
        let before = parent.clone();
        match parent {
            Value::Array(items) => drop(items.remove(key.parse().ok()?)),
            Value::Object(fields) => drop(fields.remove(&key)),
            _ => return None,
        }
        let without = parse(spec);
        *spec.pointer_mut(pointer)? = before;
        match without {
            Err(same) if same == message => {}
            // A field that must be there is missed, whether or not it was to blame.
            Err(other) if other.starts_with("missing field") => needed = Some((step, key)),
            Ok(_) | Err(_) => return Some((step, key)),
        }
    }
    needed
}

/// A message of serde without the value that it quotes: `invalid type: string "x", expected a
/// boolean` says no more than the type.
fn without_value(message: &str) -> String {
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", message[..start].trim_end(), &message[end..])
        }
        _ => message.to_owned(),
    }
}

/// The first field of `written` that `known` has lost. Empty values are lost without harm.
fn unknown(written: &Value, known: &Value, field: &str) -> Option<String> {
    match written {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            let field = format!("{field}.{key}");
            match known.get(key) {
                Some(known) => unknown(value, known, &field),
                None => (!is_empty(value)).then_some(field),
            }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            unknown(item, known.get(index)?, &format!("{field}[{index}]"))
        }),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Why a file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("cannot read `{file}`", file = .file.display())]
    Read {
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("it is neither YAML nor JSON: {reason}")]
    Syntax { reason: String },
}

/// Our kinds that are not judged here.
const OTHER_KINDS: [&str; 5] =
    ["SealedRecord", "SecretResolver", "SecretStore", "Space", "TaskRevision"];
