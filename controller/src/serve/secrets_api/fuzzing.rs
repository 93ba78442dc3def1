//! For the fuzz target: a request as anybody may send it, read by all that reads requests.

use axum::http::Request;

use super::operation::{Action, Endpoint, Operation};
use super::representation::parse_json;

/// Reads `METHOD URI`, lines of headers, an empty line and a body.
pub fn request(bytes: &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((bytes, [].as_slice()), |end| (&bytes[..end], &bytes[end + 2..]));
    let _ = parse_json(body);

    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let Some(space) = first.iter().position(|byte| *byte == b' ') else { return };
    let mut request = Request::builder().method(&first[..space]).uri(&first[space + 1..]);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    for endpoint in [Endpoint::Renew, Endpoint::Revoke, Endpoint::Secret] {
        if let Ok(operation) = Operation::parse(endpoint, &parts) {
            let (path, _) = operation.path();
            let is_folder = matches!(operation.action, Action::List { .. });
            // What is asked permission for is what is done, and nothing else can be meant by it.
            let text = path.map(|path| path.as_str().to_owned()).unwrap_or_default();
            let slash = if is_folder && !text.is_empty() { "/" } else { "" };
            assert_eq!(operation.text, text + slash);
            assert!(!operation.verbs().is_empty());
        }
    }
}
