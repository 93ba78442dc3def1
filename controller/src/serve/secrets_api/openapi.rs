//! The OpenAPI document of the Secrets API: one file, checked in, served as it is.
//!
//! It and the table of routes are compared here; the end-to-end test `secrets_api` has every
//! operation of it answered by a running store and judges the answers by its schemas.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;

use crate::serve::audit::Event;
use crate::serve::{Failure, Service, authenticate};

/// `GET /secrets/v1/openapi.json`
pub(super) async fn document(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<impl IntoResponse, Failure> {
    authenticate::person(&service, Event::Status, &request.into_parts().0).await?;
    let media = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([media], DOCUMENT))
}

const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::routes::routes;
    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_every_route_that_is_served_and_no_other() {
        let document = parsed();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                let methods = methods.filter(|key| *key != "parameters");
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();

        let served: BTreeSet<(String, String)> = routes()
            .served
            .iter()
            .map(|(method, path)| (method.to_string(), path.replace("{*path}", "{path}")))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_operation_has_a_name_and_answers_and_says_what_errors_look_like() {
        let document = parsed();
        let mut names = BTreeSet::new();

        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let name = operation["operationId"].as_str().unwrap().to_owned();
                assert!(names.insert(name), "{method} {path}: a name that is taken");
                assert!(operation["summary"].is_string(), "{method} {path}: no summary");
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.contains_key("default"), "{method} {path}: no errors");
                assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            }
        }
    }

    #[test]
    fn the_codes_of_errors_are_those_of_the_protocol() {
        let document = parsed();
        let documented: BTreeSet<&str> =
            document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
                .as_array()
                .unwrap()
                .iter()
                .map(|code| code.as_str().unwrap())
                .collect();

        let known = watchword_protocol::ErrorCode::ALL.map(|code| code.as_str());
        assert_eq!(documented, BTreeSet::from(known));
    }
}
