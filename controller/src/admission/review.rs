//! The envelope of a review: `admission.k8s.io/v1`, read and answered as plain JSON.
//!
//! The object inside stays raw, because a typed one would drop what this build does not know.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server asks about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names the review; the answer repeats it.
    pub uid: String,
    /// The namespace of the object; empty for cluster-scoped ones. The object's own metadata may
    /// lack it.
    #[serde(default)]
    pub namespace: String,
    /// The object's name; empty when the API server makes one up.
    #[serde(default)]
    pub name: String,
    /// `CREATE`, `UPDATE`, …
    #[serde(default)]
    pub operation: String,
    /// The object, raw; null for a deletion.
    #[serde(default)]
    pub object: Value,
}

/// What the webhook answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// Why the object is refused, if it is.
    pub denial: Option<Refused>,
    /// The object as it shall be, if it is changed.
    pub object: Option<Value>,
    /// What the user should know; cut at 120 characters each, as Kubernetes asks.
    pub warnings: Vec<String>,
}

/// A refusal: an HTTP status by which clients know whether trying again makes sense, and the text.
#[derive(Debug, Eq, PartialEq)]
pub struct Refused {
    /// 403, or 503 where the same request passes in a moment although nobody does anything: some
    /// clients then try again by themselves.
    pub code: u16,
    /// Names the field and the mend.
    pub message: String,
}

impl Answer {
    /// Refuses for good.
    pub fn deny(message: impl Into<String>) -> Self {
        Self { denial: Some(Refused { code: 403, message: message.into() }), ..Self::default() }
    }

    /// Refuses for now.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { denial: Some(Refused { code: 503, message: message.into() }), ..Self::default() }
    }
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is not JSON, or not of a review's shape.
    #[error("the body is not an AdmissionReview")]
    Parse(#[source] serde_json::Error),
    /// It is a review of another version.
    #[error("an AdmissionReview of admission.k8s.io/v1 is wanted, not {kind} of {api_version}")]
    Version {
        /// What it says it is.
        kind: String,
        /// Of which group and version.
        api_version: String,
    },
}

/// Reads a review, asks `answer`, and writes the review that answers it.
///
/// # Errors
///
/// The body is no review of a known version.
pub fn respond(
    body: &[u8],
    answer: impl FnOnce(&Request) -> Answer,
) -> Result<String, ReviewError> {
    let Review { api_version, kind, request } =
        serde_json::from_slice(body).map_err(ReviewError::Parse)?;
    if api_version != API_VERSION || kind != KIND {
        return Err(ReviewError::Version { kind, api_version });
    }
    let Answer { denial, object, warnings } = answer(&request);
    let mut response = json!({"uid": request.uid, "allowed": denial.is_none()});
    if let Some(Refused { code, message }) = denial {
        response["status"] = json!({"code": code, "message": message});
    } else if let Some(object) = object {
        let patch = json_patch::diff(&request.object, &object);
        // Operations of a patch are JSON by construction.
        let patch = serde_json::to_vec(&patch).unwrap_or_default();
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(patch).into();
    }
    if !warnings.is_empty() {
        let warnings = warnings.iter().map(|warning| shorten(warning));
        response["warnings"] = warnings.collect();
    }
    Ok(json!({"apiVersion": API_VERSION, "kind": KIND, "response": response}).to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

fn shorten(warning: &str) -> Value {
    let end = warning.char_indices().nth(MAX_WARNING_CHARACTERS).map(|(end, _)| end);
    end.map_or(warning, |end| &warning[..end]).into()
}

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const MAX_WARNING_CHARACTERS: usize = 120;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(api_version: &str) -> Vec<u8> {
        json!({
            "apiVersion": api_version,
            "kind": "AdmissionReview",
            "request": {"uid": "u1", "object": {"a": [1, 2], "unknown": {"kept": true}}},
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_changed_object_becomes_a_patch_that_makes_it() {
        let changed = json!({"a": [0, 1, 2], "unknown": {"kept": true}, "b": 1});

        let answer = respond(&body("admission.k8s.io/v1"), |_| Answer {
            object: Some(changed.clone()),
            ..Answer::default()
        })
        .unwrap();

        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["response"]["uid"], "u1");
        assert_eq!(answer["response"]["allowed"], true);
        let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut object = json!({"a": [1, 2], "unknown": {"kept": true}});
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(object, changed);
    }

    #[test]
    fn a_denial_has_no_patch() {
        let answer = respond(&body("admission.k8s.io/v1"), |_| Answer::deny("no")).unwrap();

        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["message"], "no");
        assert!(answer["response"].get("patch").is_none());
    }

    #[test]
    fn another_version_is_refused() {
        let error = respond(&body("admission.k8s.io/v1beta1"), |_| Answer::default()).unwrap_err();

        assert!(matches!(error, ReviewError::Version { .. }));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = respond(&body, |_| Answer::default());
        }

        #[test]
        fn warnings_are_cut_at_a_character(warning in "\\PC{0,200}") {
            prop_assert!(shorten(&warning).as_str().unwrap().chars().count() <= 120);
        }
    }
}
