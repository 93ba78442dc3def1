//! The envelope of a review: `admission.k8s.io/v1`, as plain JSON.
//!
//! It is read once, together with the object inside, as whatever the reader wants of that. The answer
//! changes the object by a patch, and so keeps what nobody here has read.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use watchword_core::injection::Patch;

/// What the API server asks about: an object, read as `T`.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct Request<'a, T> {
    /// Names the review; the answer repeats it.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// The namespace of the object; empty for cluster-scoped ones. The object's own metadata may
    /// lack it.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// The object's name; empty when the API server makes one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// The object; `None` for a deletion.
    pub object: Option<T>,
}

/// What the webhook answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// Why the object is refused, if it is.
    pub denial: Option<Refused>,
    /// How the object is changed.
    pub patch: Patch,
    /// What the user should know; cut at 120 characters each, as Kubernetes asks.
    pub warnings: Vec<String>,
}

/// A refusal: an HTTP status by which clients know whether trying again makes sense, and the text.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Refused {
    /// 403, or 503 where the same request passes in a moment although nobody does anything: some
    /// clients then try again by themselves.
    pub code: u16,
    /// Names the field and the mend.
    pub message: String,
}

impl Answer {
    /// What refusals come to ([`Answer::as_str`]): for good, and for now.
    pub const REFUSALS: [&str; 2] = ["denied", "retry"];

    /// Refuses for good.
    pub fn deny(message: impl Into<String>) -> Self {
        Self { denial: Some(Refused { code: 403, message: message.into() }), ..Self::default() }
    }

    /// What it comes to, for metrics: `denied`, `retry` (refused for now), `patched` or `allowed`.
    pub fn as_str(&self) -> &'static str {
        let [denied, retry] = Self::REFUSALS;
        match &self.denial {
            Some(Refused { code: 503, .. }) => retry,
            Some(_) => denied,
            None if self.patch.is_empty() => "allowed",
            None => "patched",
        }
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
/// The body is no review of a known version, or not of an object that can be read as `T`.
pub fn respond<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    answer: impl FnOnce(Request<'a, T>) -> Answer,
) -> Result<Vec<u8>, ReviewError> {
    let Review { api_version, kind, request } =
        serde_json::from_slice(body).map_err(ReviewError::Parse)?;
    if api_version != API_VERSION || kind != KIND {
        let (kind, api_version) = (kind.into_owned(), api_version.into_owned());
        return Err(ReviewError::Version { kind, api_version });
    }
    let uid = request.uid.clone();
    let Answer { denial, patch, warnings } = answer(request);
    let patch = (denial.is_none() && !patch.is_empty()).then(|| {
        // Operations of a patch are JSON by construction.
        STANDARD.encode(serde_json::to_vec(&patch).unwrap_or_default())
    });
    let response = Response {
        uid: &uid,
        allowed: denial.is_none(),
        audit_annotations: denial
            .as_ref()
            .map(|Refused { message, .. }| Annotations { denied: message }),
        patch_type: patch.is_some().then_some("JSONPatch"),
        patch,
        status: denial.as_ref(),
        warnings: warnings.iter().map(|warning| shorten(warning)).collect(),
    };
    let answered = Answered { api_version: API_VERSION, kind: KIND, response };
    // So is this.
    Ok(serde_json::to_vec(&answered).unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"), rename_all = "camelCase")]
struct Review<'a, T> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Request<'a, T>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<Annotations<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Refused>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
}

/// What the API server writes into its audit log, each key behind the webhook's name. It is what the
/// answer says anyway, which the log has only where it records whole answers.
#[derive(Serialize)]
struct Annotations<'a> {
    denied: &'a str,
}

fn shorten(warning: &str) -> &str {
    let end = warning.char_indices().nth(MAX_WARNING_CHARACTERS).map(|(end, _)| end);
    end.map_or(warning, |end| &warning[..end])
}

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const MAX_WARNING_CHARACTERS: usize = 120;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use watchword_core::injection::PodView;

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
        let mut patch = Patch::default();
        patch.add("/a/0".to_owned(), 0.into());
        patch.add("/b".to_owned(), 1.into());

        let answer = respond(&body("admission.k8s.io/v1"), |_: Request<'_, Value>| Answer {
            patch,
            ..Answer::default()
        })
        .unwrap();

        let answer: Value = serde_json::from_slice(&answer).unwrap();
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
        let mut patch = Patch::default();
        patch.add("/b".to_owned(), 1.into());

        let answer = respond(&body("admission.k8s.io/v1"), |_: Request<'_, Value>| Answer {
            patch,
            ..Answer::deny("no")
        })
        .unwrap();

        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["message"], "no");
        assert!(answer["response"].get("patch").is_none());
    }

    #[test]
    fn a_denial_is_annotated_for_the_audit_log_with_its_own_words_and_nothing_else_is() {
        let answer_to = |answer: Answer| -> Value {
            let json = respond(&body("admission.k8s.io/v1"), |_: Request<'_, Value>| answer);
            serde_json::from_slice(&json.unwrap()).unwrap()
        };

        for denial in [Answer::deny("no"), Answer::retry("no")] {
            let answer = answer_to(denial);
            assert_eq!(answer["response"]["auditAnnotations"], json!({"denied": "no"}));
        }
        let answer = answer_to(Answer { warnings: vec!["w".to_owned()], ..Answer::default() });
        assert!(answer["response"].get("auditAnnotations").is_none());
    }

    #[test]
    fn another_version_is_refused() {
        let body = body("admission.k8s.io/v1beta1");

        let error = respond(&body, |_: Request<'_, Value>| Answer::default()).unwrap_err();

        assert!(matches!(error, ReviewError::Version { .. }));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = respond(&body, |_: Request<'_, Value>| Answer::default());
            let _ = respond(&body, |_: Request<'_, PodView<'_>>| Answer::default());
        }

        #[test]
        fn warnings_are_cut_at_a_character(warning in "\\PC{0,200}") {
            prop_assert!(shorten(&warning).chars().count() <= 120);
        }
    }
}
