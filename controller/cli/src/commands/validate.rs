//! `watchword validate FILE…`: task definitions judged as the webhook judges them, without a
//! cluster.
//!
//! What depends on the cluster stays open: whether the namespace owns the service id, whether its
//! Space allows inline values, whether the secrets exist. A definition may hold values, so that no
//! message shows more of a file than the names of its fields.

mod document;

use serde::Serialize;
use watchword_core::definition::{self, Invalid, Warning, WarningKind};

use self::document::{Document, Found};
use crate::{
    args::{Format, ValidateArgs},
    output::{Output, Told, chain},
};

pub(super) fn run(args: &ValidateArgs, output: &mut Output) -> anyhow::Result<()> {
    let ValidateArgs { files, namespace, output: format } = args;
    let verdicts: Vec<Verdict> = files.iter().flat_map(|file| judge(file, namespace)).collect();
    match format {
        None => print(&verdicts, output)?,
        Some(Format::Json) => output.json(&verdicts)?,
    }
    match verdicts.iter().all(|verdict| verdict.valid) {
        true => Ok(()),
        false => Err(Told.into()),
    }
}

/// What is thought of one definition, or of a file that has none.
#[derive(Debug, Eq, PartialEq, Serialize)]
struct Verdict {
    /// The file as it was named.
    file: String,
    /// `namespace/name`, if it got that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    valid: bool,
    /// Why it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Remark>,
    /// What its author should know all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Remark>,
}

/// Something said about a field; about the whole, if it names none.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Remark {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
}

impl Verdict {
    /// The file and the definition: what a message begins with.
    fn subject(&self) -> String {
        match &self.definition {
            None => format!("`{}`", self.file),
            Some(definition) => format!("`{}`: `{definition}`", self.file),
        }
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            None => f.write_str(&self.message),
            Some(field) => write!(f, "{field}: {}", self.message),
        }
    }
}

impl From<Invalid> for Remark {
    fn from(Invalid { field, message }: Invalid) -> Self {
        Self { field: Some(field), message }
    }
}

impl From<Warning> for Remark {
    fn from(warning: Warning) -> Self {
        match warning.kind {
            // Whether it is refused hangs on the namespace's Space, so its author hears how.
            WarningKind::InlineValue => warning.into_invalid().into(),
            WarningKind::NoEffect | WarningKind::Surprise => {
                Self { field: Some(warning.field), message: warning.message }
            }
        }
    }
}

fn judge(file: &std::path::Path, namespace: &str) -> Vec<Verdict> {
    let name = file.display().to_string();
    let verdict = |definition, result: Result<Vec<Remark>, Remark>| Verdict {
        file: name.clone(),
        definition,
        valid: result.is_ok(),
        error: result.as_ref().err().cloned(),
        warnings: result.unwrap_or_default(),
    };
    match document::read(file) {
        Err(error) => {
            let remark = Remark { field: None, message: chain(&error) };
            vec![verdict(None, Err(remark))]
        }
        Ok(found) => found
            .into_iter()
            .filter_map(|found| match found {
                Found::Broken(remark) => Some(verdict(None, Err(remark))),
                Found::Definition(document) => {
                    let namespace = document.namespace.as_deref().unwrap_or(namespace);
                    let definition = format!("{namespace}/{}", document.name);
                    Some(verdict(Some(definition), judge_document(&document, namespace)))
                }
                Found::Other => None,
            })
            .collect(),
    }
}

fn judge_document(document: &Document, namespace: &str) -> Result<Vec<Remark>, Remark> {
    let spec = document.spec()?;
    let warnings = definition::validate(&spec, namespace, &document.name)?;
    Ok(warnings.into_iter().map(Remark::from).collect())
}

fn print(verdicts: &[Verdict], output: &mut Output) -> anyhow::Result<()> {
    for verdict in verdicts {
        let subject = verdict.subject();
        for warning in &verdict.warnings {
            output.warning(&format!("{subject}: {warning}"));
        }
        match &verdict.error {
            None => output.line(&format!("{subject} is valid"))?,
            Some(error) => output.error(&format!("{subject}: {error}"), None),
        }
    }
    if verdicts.is_empty() {
        output.note("there is no task definition in what was read");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
