//! For the fuzz target: the body of a ceremony's request as anybody may send it, read as the routes
//! and the replica that leads read it.

use axum::body::Body;
use axum::http::Request;
use futures::FutureExt;
use watchword_store::Share;

use super::*;

/// Reads a line with the last word of a path, and a body.
pub fn ceremony(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (route, body) = (&bytes[..end], &bytes[end + 1..]);
    match route {
        b"init" | b"rekey" => {
            let Some(split) = read::<Split>(body) else { return };
            let Ok(checked) = split.check(NOW) else { return };
            let (shares, keys) = (usize::from(checked.config.shares()), checked.keys.len());
            assert!(checked.config.threshold() <= checked.config.shares());
            // No share of several is ever given out in the clear.
            assert!(keys == shares || (keys == 0 && shares == 1));
        }
        b"unseal" => share(read::<UnsealRequest>(body).and_then(|body| body.key)),
        b"auto-unseal" => drop(read::<AutoUnsealRequest>(body)),
        b"share" => share(read::<RekeyShareRequest>(body).map(|body| body.key)),
        b"rotate" => drop(read::<RotateRequest>(body)),
        _ => drop(read::<serde::de::IgnoredAny>(body)),
    }
}

/// A body that is there at once, so nothing is waited for.
fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let request = Request::new(Body::from(body.to_vec()));
    parse(request).now_or_never().and_then(Result::ok).flatten()
}

fn share(text: Option<Zeroizing<String>>) {
    if let Some(share) = text.and_then(|text| Share::parse(&text).ok()) {
        let again = Share::parse(&share.to_hex()).map(|again| again.to_hex());
        assert!(again.is_ok_and(|again| *again == *share.to_hex()));
    }
}

/// When OpenPGP keys are looked at: 2026.
const NOW: i64 = 1_790_000_000;
