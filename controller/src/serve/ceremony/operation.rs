//! What is asked of the replica that runs the ceremonies, and what it answers: both as they travel
//! from the replica that was asked to the one that leads.

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use watchword_protocol::ErrorCode;
use watchword_store::openpgp::PublicKey;
use watchword_store::{SealConfig, SealConfigError};
use zeroize::Zeroizing;

use crate::chain::Chain;
use crate::serve::audit::Event;
use crate::serve::authorize::AdminVerb;
use crate::serve::failure::Failure;

/// A step of a ceremony, whose splits are as they were asked for, or checked. It has no `Debug`: some
/// hold a share.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum Operation<S = Split> {
    /// Open the store with the private key that the settings name: its share in custody, or this
    /// encrypted one.
    AutoUnseal(Option<Zeroizing<String>>),
    /// Give a rekeying up.
    CancelRekey {
        /// Which rekeying is meant.
        nonce: String,
    },
    /// Give a share towards a rekeying.
    GiveRekeyShare {
        /// The share.
        key: Zeroizing<String>,
        /// Which rekeying is meant.
        nonce: String,
    },
    /// Give a share towards unsealing.
    GiveShare(Zeroizing<String>),
    /// Make the first keyring.
    Init(S),
    /// How far a rekeying is.
    RekeyStatus,
    /// Forget the shares given towards unsealing.
    ResetShares,
    /// Add a term, rewrap in the background and, if so, destroy the older terms then.
    Rotate {
        /// Whether to destroy them.
        #[serde(default)]
        retire: bool,
    },
    /// How far that is.
    RotateStatus,
    /// Have every replica drop the key.
    Seal,
    /// Begin to change shares, threshold and keys.
    StartRekey(S),
}

impl Operation {
    /// Checks what is asked for, at `now` (seconds since 1970 UTC).
    ///
    /// # Errors
    ///
    /// As for [`Split::check`]; `Unavailable` if the process is ending.
    pub(in crate::serve) async fn checked(
        self,
        now: i64,
    ) -> Result<Operation<CheckedSplit>, Failure> {
        Ok(match self {
            Self::AutoUnseal(key) => Operation::AutoUnseal(key),
            Self::CancelRekey { nonce } => Operation::CancelRekey { nonce },
            Self::GiveRekeyShare { key, nonce } => Operation::GiveRekeyShare { key, nonce },
            Self::GiveShare(key) => Operation::GiveShare(key),
            Self::Init(split) => Operation::Init(split.check_aside(now).await?),
            Self::RekeyStatus => Operation::RekeyStatus,
            Self::ResetShares => Operation::ResetShares,
            Self::Rotate { retire } => Operation::Rotate { retire },
            Self::RotateStatus => Operation::RotateStatus,
            Self::Seal => Operation::Seal,
            Self::StartRekey(split) => Operation::StartRekey(split.check_aside(now).await?),
        })
    }
}

impl<S> Operation<S> {
    /// The right that it takes.
    pub(in crate::serve) fn verb(&self) -> AdminVerb {
        match self {
            Self::AutoUnseal(_) | Self::GiveShare(_) | Self::ResetShares => AdminVerb::Unseal,
            Self::CancelRekey { .. }
            | Self::GiveRekeyShare { .. }
            | Self::RekeyStatus
            | Self::StartRekey(_) => AdminVerb::Rekey,
            Self::Init(_) => AdminVerb::Init,
            Self::Rotate { .. } | Self::RotateStatus => AdminVerb::Rotate,
            Self::Seal => AdminVerb::Seal,
        }
    }

    /// As the audit log has it.
    pub(in crate::serve) fn event(&self) -> Event {
        match self {
            Self::AutoUnseal(_) | Self::GiveShare(_) | Self::ResetShares => Event::Unseal,
            Self::CancelRekey { .. }
            | Self::GiveRekeyShare { .. }
            | Self::RekeyStatus
            | Self::StartRekey(_) => Event::Rekey,
            Self::Init(_) => Event::Init,
            Self::Rotate { .. } | Self::RotateStatus => Event::Rotate,
            Self::Seal => Event::Seal,
        }
    }
}

/// How a root key is to be split, as it is asked for; all may be absent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(in crate::serve) struct Split {
    /// How many shares.
    #[serde(default)]
    pub shares: Option<i64>,
    /// How many of them open the store.
    #[serde(default)]
    pub threshold: Option<i64>,
    /// OpenPGP public keys, one for each share: base64 of the binary form, or armour.
    #[serde(default)]
    pub pgp_keys: Option<Vec<String>>,
}

/// How a root key is to be split, checked.
pub(in crate::serve) struct CheckedSplit {
    /// Shares and threshold.
    pub config: SealConfig,
    /// Whom the shares are for; none: one share, for a pair that is yet to be made or is kept.
    pub keys: Vec<PublicKey>,
}

impl Split {
    /// [`Split::check`], on a thread that may take as long as hostile keys need: those of one request
    /// keep a processor busy for a minute.
    ///
    /// # Errors
    ///
    /// As there; `Unavailable` if the process is ending.
    pub(in crate::serve) async fn check_aside(self, now: i64) -> Result<CheckedSplit, Failure> {
        tokio::task::spawn_blocking(move || self.check(now))
            .await
            .unwrap_or_else(|error| Err(Failure::unavailable("cannot check the keys", &error)))
    }

    /// Checks it at `now` (seconds since 1970 UTC), in Vault's order and with Vault's texts. One share needs no key; several do,
    /// because no share is ever given out in the clear.
    ///
    /// # Errors
    ///
    /// `BadRequest` with the first thing that is wrong.
    pub(in crate::serve) fn check(&self, now: i64) -> Result<CheckedSplit, Failure> {
        let bad = |error: &dyn std::error::Error| {
            Failure::new(ErrorCode::BadRequest, Chain(error).to_string())
        };
        let texts = self.pgp_keys.as_deref().unwrap_or_default();
        // Nothing at all is DC/OS' default. Half of it is what Vault says about zero.
        let absent = match (self.shares, self.threshold, texts) {
            (None, None, []) => 1,
            _ => 0,
        };
        let [shares, threshold] = [self.shares, self.threshold].map(|one| one.unwrap_or(absent));
        let config =
            SealConfig::new(shares, threshold, texts.len()).map_err(|error| bad(&error))?;
        if texts.is_empty() && config.shares() > 1 {
            return Err(bad(&SealConfigError::PgpKeys));
        }
        let keys = texts.iter().map(|text| PublicKey::parse(text, now));
        let keys = keys.collect::<Result<_, _>>().map_err(|error| bad(&error))?;
        Ok(CheckedSplit { config, keys })
    }
}

/// What the leader answers. It has no `Debug`: the answer to `init` may hold a private key.
pub(in crate::serve) struct Reply {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// 200 and JSON.
    pub(in crate::serve) fn ok(body: &impl Serialize) -> Self {
        // The types of answers serialise always: their keys are strings.
        Self {
            status: StatusCode::OK,
            body: Zeroizing::new(serde_json::to_vec(body).unwrap_or_default()),
        }
    }

    /// 204.
    pub(in crate::serve) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Zeroizing::default() }
    }

    /// The form in which it travels between replicas.
    pub(in crate::serve) fn to_wire(&self) -> WireReply {
        WireReply {
            status: self.status.as_u16(),
            body: Zeroizing::new(String::from_utf8_lossy(&self.body).into_owned()),
        }
    }

    /// Back from that form.
    pub(in crate::serve) fn from_wire(mut reply: WireReply) -> Self {
        let body = Zeroizing::new(std::mem::take(&mut *reply.body).into_bytes());
        Self { status: StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY), body }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let body = serde_json::to_vec(&failure.answer()).unwrap_or_default();
        let of_code = StatusCode::from_u16(failure.code.http_status());
        let status = failure.status.or(of_code.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: Zeroizing::new(body) }
    }
}

impl IntoResponse for Reply {
    fn into_response(mut self) -> Response {
        if self.body.is_empty() {
            return self.status.into_response();
        }
        let headers = [
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        (self.status, headers, Bytes::from(std::mem::take(&mut *self.body))).into_response()
    }
}

/// A [`Reply`] between replicas.
#[derive(Deserialize, Serialize)]
pub(in crate::serve) struct WireReply {
    status: u16,
    body: Zeroizing<String>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"shares":0,"threshold":1}"#, "shares must be at least one")]
    #[case(r#"{"threshold":1}"#, "shares must be at least one")]
    #[case(r#"{"shares":1}"#, "threshold must be at least one")]
    #[case(
        r#"{"shares":2,"threshold":1}"#,
        "threshold must be greater than one for multiple shares"
    )]
    #[case(r#"{"shares":256,"threshold":2}"#, "shares must be less than 256")]
    #[case(r#"{"shares":3,"threshold":4}"#, "threshold cannot be larger than shares")]
    #[case(r#"{"shares":2,"threshold":2,"pgp_keys":["a"]}"#, "count mismatch between number of")]
    #[case(r#"{"shares":2,"threshold":2}"#, "count mismatch between number of")]
    #[case(r#"{"shares":1,"threshold":1,"pgp_keys":["%"]}"#, "decoding given PGP key")]
    #[case(r#"{"shares":1,"threshold":1,"pgp_keys":["AAAA"]}"#, "parsing given PGP key")]
    fn a_wrong_split_is_refused_in_vaults_words(#[case] json: &str, #[case] text: &str) {
        let split: Split = serde_json::from_str(json).unwrap();

        let failure = split.check(0).err().unwrap();

        assert_eq!(failure.code, ErrorCode::BadRequest);
        assert!(failure.message.contains(text), "{}", failure.message);
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"shares":1,"threshold":1}"#)]
    #[case(r#"{"shares":1,"threshold":1,"pgp_keys":[],"stored_shares":0}"#)]
    fn one_share_needs_no_key(#[case] json: &str) {
        let split: Split = serde_json::from_str(json).unwrap();

        let CheckedSplit { config, keys } = split.check(0).ok().unwrap();

        assert_eq!((config.shares(), config.threshold(), keys.len()), (1, 1, 0));
    }
}
