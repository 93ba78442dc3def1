//! The store's OpenAPI document, by which answers of the running store are judged.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use watchword_e2e::cluster::{Answer, Https};

/// The document as the running store gives it.
pub(crate) struct Document(Value);

impl Document {
    /// Asks the store for it.
    pub(crate) async fn of(store: &Https, token: &str) -> Result<Self> {
        let answer = store.ask("GET", "/secrets/v1/openapi.json", Some(token), &Value::Null);
        let answer = answer.await?;
        ensure!(answer.status == 200, "no document: {} {}", answer.status, answer.text());
        Ok(Self(answer.json()))
    }

    /// Every operation: path, method, `operationId`.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.all()
            .filter_map(|(path, method, one)| Some((path, method, one["operationId"].as_str()?)))
    }

    /// The operation of a request whose path has as many parts as the document's, of which it names
    /// some: those of ceremonies and settings.
    #[allow(dead_code, reason = "not every test that includes this file asks for paths")]
    pub(crate) fn operation_at(&self, method: &str, path: &str) -> Option<&str> {
        let path = path.split('?').next().unwrap_or_default();
        let is_it = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template.zip(path).all(|(one, other)| one == other || one.starts_with('{'))
        };
        let mut operations = self.operations();
        operations
            .find(|(template, its, _)| its.eq_ignore_ascii_case(method) && is_it(template))
            .map(|(_, _, id)| id)
    }

    /// Whether the answer is one that the document describes for this operation.
    pub(crate) fn judge(&self, id: &str, method: &str, answer: &Answer) -> Result<()> {
        let Self(document) = self;
        let found = self.all().find(|(_, _, one)| one["operationId"] == id);
        let (_, its, operation) = found.context("the document has no such operation")?;
        ensure!(its.eq_ignore_ascii_case(method), "the document says {its}");
        let responses = &operation["responses"];
        let described = match &responses[answer.status.to_string()] {
            Value::Null => self.resolved(&responses["default"]),
            described => described,
        };
        ensure!(
            answer.status >= 400 || responses.get(answer.status.to_string()).is_some(),
            "the document does not speak of status {}",
            answer.status
        );
        let Some(content) = described["content"].as_object() else {
            ensure!(answer.body.is_empty(), "the document describes no body");
            return Ok(());
        };
        let media = answer.header("Content-Type").unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        let described =
            content.get(media).with_context(|| format!("{media:?} is not described"))?;
        let body = match media {
            "application/json" => serde_json::from_slice(&answer.body).context("no JSON")?,
            "application/octet-stream" => return Ok(()),
            _ => Value::String(answer.text()),
        };
        let schema = json!({"components": document["components"], "allOf": [described["schema"]]});
        let validator = jsonschema::draft202012::new(&schema).context("a broken schema")?;
        let errors: Vec<String> =
            validator.iter_errors(&body).map(|error| error.to_string()).collect();
        ensure!(errors.is_empty(), "{body} is not as described: {errors:?}");
        if let Some(header) = described.get("headers").and_then(|headers| headers.get("ETag")) {
            ensure!(header.is_null() || answer.header("ETag").is_some(), "no ETag");
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            let methods = methods.filter(|(key, _)| *key != "parameters");
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
    }

    /// What a reference within the document points to.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.0.pointer(pointer)).unwrap_or(value)
    }
}
