//! The seal of the store in memory: it counts shares, and cannot tell a right one from a wrong one
//! but by what the test says.

use http::Response;
use kube::client::Body;
use serde_json::{Value, json};
use watchword_store::openpgp::PublicKey;

use crate::fake_store::{Asked, State, refuse, respond, respond_json, status};

/// What opens the store.
pub(crate) struct Seal {
    /// How many shares there are; none before `init`.
    pub(crate) shares: usize,
    pub(crate) threshold: usize,
    /// The shares that open it, as the holders have them.
    pub(crate) plain: Vec<String>,
    /// The encrypted ones, and what they are encrypted to.
    pub(crate) keys: Vec<String>,
    pub(crate) fingerprints: Vec<String>,
    given: Vec<String>,
    rekey: Option<Rekey>,
    /// What GET of the rotation says, one after the other; the last one stays. Null is a refusal
    /// for now.
    pub(crate) rotations: Vec<Value>,
    /// What a backup is, and what was restored.
    pub(crate) archive: Vec<u8>,
}

impl Default for Seal {
    fn default() -> Self {
        Self {
            shares: 3,
            threshold: 2,
            plain: ["11", "22", "33"].map(|pair| pair.repeat(33)).into(),
            keys: Vec::new(),
            fingerprints: Vec::new(),
            given: Vec::new(),
            rekey: None,
            rotations: Vec::new(),
            archive: Vec::new(),
        }
    }
}

struct Rekey {
    wanted: Value,
    given: Vec<String>,
}

impl Seal {
    /// A store that nobody has initialised.
    pub(crate) fn none() -> Self {
        Self { shares: 0, threshold: 0, plain: Vec::new(), ..Self::default() }
    }

    /// Splits a key for the holders that a request names.
    fn entrust(&mut self, wanted: &Value) -> Value {
        let number = |field: &str| usize::try_from(wanted[field].as_u64().unwrap()).unwrap();
        (self.shares, self.threshold) = (number("shares"), number("threshold"));
        let holders = holders(wanted);
        self.plain = (1..=self.shares).map(|n| format!("{n:02x}").repeat(33)).collect();
        let encrypt = |(holder, share): (&PublicKey, &String)| {
            hex(&holder.encrypt(share.as_bytes()).unwrap())
        };
        self.keys = holders.iter().zip(&self.plain).map(encrypt).collect();
        self.fingerprints = fingerprints(&holders);
        self.entrusted()
    }

    fn entrusted(&self) -> Value {
        json!({"keys": self.keys, "pgp_fingerprints": self.fingerprints})
    }

    fn rekey_status(&self) -> Value {
        match &self.rekey {
            None => json!({"started": false, "nonce": "", "shares": 0, "threshold": 0,
                "progress": 0, "required": self.threshold, "complete": false}),
            Some(Rekey { wanted, given }) => json!({"started": true, "nonce": NONCE,
                "shares": wanted["shares"], "threshold": wanted["threshold"],
                "progress": given.len(), "required": self.threshold, "complete": false,
                "pgp_fingerprints": fingerprints(&holders(wanted))}),
        }
    }
}

/// The keys that a request names.
fn holders(wanted: &Value) -> Vec<PublicKey> {
    let keys = wanted["pgp_keys"].as_array().unwrap().iter();
    keys.map(|key| PublicKey::parse(key.as_str().unwrap(), 1_800_000_000).unwrap()).collect()
}

fn fingerprints(holders: &[PublicKey]) -> Vec<String> {
    holders.iter().map(PublicKey::fingerprint).collect()
}

impl State {
    /// The answer to what is asked about the store itself.
    pub(crate) fn answer_ceremony(&mut self, asked: &Asked) -> Option<Response<Body>> {
        let rest = asked.target.strip_prefix("/secrets/v1/")?;
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let seal = &mut self.seal;
        Some(match (asked.method.as_str(), rest) {
            ("GET", "seal-status/default") => self.seal_status(),
            ("GET", "store/default") => respond_json(
                200,
                &json!({"name": "default", "description": "", "driver": "kubernetes",
                    "initialized": seal.shares > 0, "sealed": self.sealed}),
            ),
            ("PUT", "seal/default") => {
                self.sealed = true;
                respond(status(200), "")
            }
            ("PUT", "auto-unseal/default") => {
                self.sealed = false;
                respond(status(204), "")
            }
            ("PUT", "init/default") if seal.shares > 0 => {
                refuse(409, "already_exists", "the store is already initialised")
            }
            ("PUT", "init/default") => {
                self.sealed = true;
                respond_json(200, &seal.entrust(&body))
            }
            ("GET", "init/default") => respond_json(200, &seal.entrusted()),
            ("PUT", "unseal/default") => self.unseal(&body),
            ("GET", "rekey/default") => respond_json(200, &seal.rekey_status()),
            ("PUT", "rekey/default") => {
                seal.rekey = Some(Rekey { wanted: body, given: Vec::new() });
                respond_json(200, &seal.rekey_status())
            }
            ("DELETE", "rekey/default") if seal.rekey.is_some() && body["nonce"] != NONCE => {
                refuse(400, "bad_request", "incorrect nonce supplied")
            }
            ("DELETE", "rekey/default") => {
                seal.rekey = None;
                respond_json(200, &seal.rekey_status())
            }
            ("PUT", "rekey/default/share") => self.give_to_rekey(&body),
            ("GET" | "PUT", "rotate/default") => {
                let more = seal.rotations.len() > 1;
                let state = if more { seal.rotations.remove(0) } else { seal.rotations[0].clone() };
                match state.is_null() {
                    true => refuse(503, "unavailable", "another replica has taken over"),
                    false => respond_json(200, &state),
                }
            }
            ("GET", "backup/default") => respond(status(200), seal.archive.clone()),
            ("PUT", "restore/default") if seal.shares > 0 => {
                refuse(409, "already_exists", "the store is already initialised")
            }
            ("PUT", "restore/default") => {
                seal.archive = asked.body.clone();
                respond(status(204), "")
            }
            _ => return None,
        })
    }

    fn seal_status(&self) -> Response<Body> {
        let Seal { shares, threshold, given, .. } = &self.seal;
        let progress = given.len();
        respond_json(
            200,
            &json!({"sealed": self.sealed, "threshold": threshold, "shares": shares,
                "progress": progress}),
        )
    }

    fn unseal(&mut self, body: &Value) -> Response<Body> {
        let seal = &mut self.seal;
        match body["key"].as_str() {
            None => seal.given.clear(),
            Some(key) if !seal.given.iter().any(|given| given == key) => {
                seal.given.push(key.to_owned());
            }
            Some(_) => {}
        }
        if seal.given.len() == seal.threshold {
            self.sealed = !seal.given.iter().all(|given| seal.plain.contains(given));
            seal.given.clear();
        }
        self.seal_status()
    }

    fn give_to_rekey(&mut self, body: &Value) -> Response<Body> {
        let seal = &mut self.seal;
        let Some(rekey) = seal.rekey.as_mut().filter(|_| body["nonce"] == NONCE) else {
            return refuse(400, "bad_request", "there is no such change");
        };
        rekey.given.push(body["key"].as_str().unwrap().to_owned());
        if rekey.given.len() < seal.threshold {
            return respond_json(200, &seal.rekey_status());
        }
        let Rekey { wanted, .. } = seal.rekey.take().unwrap();
        let mut done = seal.entrust(&wanted);
        done["complete"] = true.into();
        respond_json(200, &done)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the one change of shares that there is.
pub(crate) const NONCE: &str = "a-nonce";
