//! The two forms of a secret on the wire: JSON, and bytes as they are.
//!
//! A value is bytes. What is written as JSON is text and comes back as JSON unless bytes are asked
//! for; what is written as bytes comes back as bytes unless JSON is asked for, which works as long as
//! it is UTF-8. What is not cannot be read as JSON, as in DC/OS. Nothing is decoded on the way, not
//! even for names that begin with `__dcos_base64__`: that work-around of DC/OS 1.10 concerned files.
//!
//! Of the fields that clients of DC/OS send beside `value`, `description` and `labels` are kept, until
//! another write says something else. `path`, `author` and `created` are not: the path is the URL's,
//! author and time are what the store knows for sure. Unknown ones are ignored too.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use watchword_protocol::ErrorCode;
use watchword_store::{About, ContentType, Secret, Value};
use zeroize::Zeroizing;

use super::condition::etag;
use crate::serve::Failure;
use crate::serve::budget::{JSON, Share};

/// A form in which values come and go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Media {
    /// `application/octet-stream`.
    Bytes,
    /// `application/json`.
    Json,
}

impl Media {
    /// The form that the body of a request says it has.
    ///
    /// # Errors
    ///
    /// `BadRequest` for any other form, or none.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Self, Failure> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
        match essence {
            Some(media) if media.eq_ignore_ascii_case(BYTES) => Ok(Self::Bytes),
            Some(media) if media.eq_ignore_ascii_case(JSON) => Ok(Self::Json),
            _ => Err(bad(format!("the Content-Type must be {JSON} or {BYTES}"))),
        }
    }

    /// How a value that came in this form is remembered.
    pub(super) fn content_type(self) -> ContentType {
        match self {
            Self::Bytes => ContentType::Binary,
            Self::Json => ContentType::Text,
        }
    }
}

/// Which forms a client takes, and how gladly: in thousandths, 0 for not at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Accept {
    bytes: u16,
    json: u16,
}

impl Accept {
    /// Reads the header `Accept`; without one, anything is welcome.
    ///
    /// # Errors
    ///
    /// `BadRequest` if neither form is.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut ranges = Vec::new();
        for value in headers.get_all(header::ACCEPT) {
            let text = value.to_str().map_err(|_| unacceptable())?;
            ranges.extend(text.split(',').map(str::trim).filter(|range| !range.is_empty()));
        }
        if ranges.is_empty() {
            return Ok(Self { bytes: 1000, json: 1000 });
        }
        let accept = Self { bytes: quality(&ranges, BYTES), json: quality(&ranges, JSON) };
        match accept {
            Self { bytes: 0, json: 0 } => Err(unacceptable()),
            accept => Ok(accept),
        }
    }

    /// The form of the answer: what the client prefers, else the one in which the value came.
    fn choose(self, own: ContentType, is_text: bool) -> Result<Media, Failure> {
        let Self { bytes, json } = self;
        let wants_json = json > bytes || (json == bytes && own == ContentType::Text);
        match (wants_json, is_text) {
            (false, _) => Ok(Media::Bytes),
            (true, true) => Ok(Media::Json),
            (true, false) if bytes > 0 => Ok(Media::Bytes),
            (true, false) => {
                Err(bad(format!("the secret is binary: ask for it with `Accept: {BYTES}`")))
            }
        }
    }
}

/// How gladly a client takes a form: the most specific range that covers it says so.
fn quality(ranges: &[&str], form: &str) -> u16 {
    let covering = ranges.iter().filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let rank = match media {
            "*/*" => 0,
            media if media.eq_ignore_ascii_case("application/*") => 1,
            media if media.eq_ignore_ascii_case(form) => 2,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        // What is no weight weighs nothing either way; the cast of a number from 0 to 1000 is exact.
        let quality = quality.filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        let quality = (quality * 1000.0).round() as u16;
        Some((rank, quality))
    });
    // Of ranges that are alike the first one counts.
    covering.reduce(|a, b| if b.0 > a.0 { b } else { a }).map_or(0, |(_, quality)| quality)
}

/// A secret as an answer, in a form that the client takes.
///
/// # Errors
///
/// `BadRequest` when it takes JSON only, and the value is not UTF-8; those of [`Share::take`].
pub(super) fn answer(
    secret: &Secret,
    accept: Accept,
    mut share: Share,
) -> Result<Response, Failure> {
    let bytes = secret.value.expose_secret();
    share.take(bytes.len())?;
    let text = std::str::from_utf8(bytes).ok();
    let (media, body) = match (accept.choose(secret.meta.content_type, text.is_some())?, text) {
        (Media::Json, Some(value)) => {
            let created = Timestamp::from_second(secret.meta.created).unwrap_or_default();
            let about = secret.meta.about.as_deref();
            let answer = Answer { value, author: &secret.meta.author, created, about };
            (JSON, Bytes::from(serde_json::to_vec(&answer).unwrap_or_default()))
        }
        (Media::Bytes | Media::Json, _) => (BYTES, Bytes::copy_from_slice(bytes)),
    };
    // What is no plain character takes up to six times as much in JSON.
    share.take(body.len().saturating_sub(bytes.len()))?;
    Ok((etag(secret.version), share.respond(media, body)).into_response())
}

/// The answer's form of a text value: besides `/v1/resolve`, the one place where a value is written
/// out. `author` and `created` are as in DC/OS 2.1, and the store's own knowledge; `description` and
/// `labels` are what whoever wrote it said.
#[derive(Serialize)]
struct Answer<'a> {
    value: &'a str,
    author: &'a str,
    created: Timestamp,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    about: Option<&'a About>,
}

/// What a request brings. It has no `Debug`, because it holds a value.
pub(super) struct Given {
    /// The value.
    pub(super) value: Value,
    /// What is said of it, if anything is.
    pub(super) about: Option<Box<About>>,
}

/// The value in a request's body, and what is said of it.
///
/// # Errors
///
/// `BadRequest` for a body that is cut off or not of its form, `TooLarge` for more than `limit`
/// bytes of value, or a body that could hold no less.
pub(super) async fn given(
    body: Body,
    headers: &HeaderMap,
    media: Media,
    limit: usize,
) -> Result<Given, Failure> {
    let most = match media {
        Media::Bytes => limit,
        Media::Json => MAX_JSON_BYTES,
    };
    let body = read(body, headers, most).await?;
    let given = match media {
        Media::Bytes => Given { value: Value::from(body), about: None },
        Media::Json => parse_json(&body)?,
    };
    match given.value.len() {
        bytes if bytes > limit => Err(Failure::new(
            ErrorCode::TooLarge,
            format!("the secret has {bytes} bytes; at most {limit} are allowed"),
        )),
        _ => Ok(given),
    }
}

/// What a body of JSON brings. The parser's own message could quote the value, so it is dropped.
///
/// # Errors
///
/// `BadRequest`.
pub(super) fn parse_json(body: &[u8]) -> Result<Given, Failure> {
    let JsonSecret { mut value, description, labels } = serde_json::from_slice(body)
        .map_err(|_| bad("the body is not JSON like {\"value\": \"…\"}".to_owned()))?;
    let said = [description.as_deref().map_or(0, str::len)];
    let words = labels.iter().flatten().map(|label| label.len() + LABEL_BYTES);
    if said.into_iter().chain(words).sum::<usize>() > MAX_ABOUT_BYTES {
        return Err(bad(format!(
            "`description` and `labels` have more than {MAX_ABOUT_BYTES} bytes, counting \
             {LABEL_BYTES} more for each label: say less of the secret"
        )));
    }
    let is_said = description.is_some() || labels.is_some();
    let about = is_said.then(|| Box::new(About { description, labels }));
    Ok(Given { value: Value::new(std::mem::take(&mut *value).into_bytes()), about })
}

/// A request's body of JSON. It has no `Debug`, because it holds a value.
#[derive(Deserialize)]
struct JsonSecret {
    value: Zeroizing<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    labels: Option<Vec<String>>,
}

/// A whole body of at most `limit` bytes, in memory that is wiped.
async fn read(
    body: Body,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large =
        || Failure::new(ErrorCode::TooLarge, format!("the body has more than {limit} bytes"));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared: usize = declared.and_then(|length| length.parse().ok()).unwrap_or_default();
    if declared > limit {
        discard(body).await;
        return Err(too_large());
    }
    // As long as it says it is, so that it need not grow, which would leave copies behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(declared));
    let mut pieces = body.into_data_stream();
    while let Some(piece) =
        pieces.try_next().await.map_err(|_| bad("the body was cut off".to_owned()))?
    {
        if whole.len() + piece.len() > limit {
            discard(Body::from_stream(pieces)).await;
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// Takes in the rest of a body that nobody wants, up to a limit. Some clients of HTTP/2 do not look
/// at an answer that comes before they have sent everything: they would take a refusal for a lost
/// connection.
pub(in crate::serve) async fn discard(body: Body) {
    let mut left = MAX_DISCARDED_BYTES;
    let mut pieces = body.into_data_stream();
    while let Ok(Some(piece)) = pieces.try_next().await {
        match left.checked_sub(piece.len()) {
            None => return,
            Some(less) => left = less,
        }
    }
}

fn unacceptable() -> Failure {
    bad(format!("the Accept header must allow {JSON} or {BYTES}"))
}

fn bad(message: String) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

/// What is said of secrets stays with whom it was said to.
pub(super) const NO_STORE: (header::HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

const BYTES: &str = "application/octet-stream";

/// The largest body of JSON: 1 MiB of text may take several times as much, and what takes more than
/// this goes as bytes.
const MAX_JSON_BYTES: usize = 3 << 20;

/// How long what is said of a secret may be: it is read with every list, ten times if there are ten
/// versions.
const MAX_ABOUT_BYTES: usize = 1024;

/// What a label takes beside its text.
const LABEL_BYTES: usize = 8;

/// How much of an unwanted body is taken in: more than any body that could have been wanted.
const MAX_DISCARDED_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests;
