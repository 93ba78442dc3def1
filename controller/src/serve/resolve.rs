//! `POST /v1/resolve`: one container asks for its secrets, once per start.
//!
//! The five rules of the design's section 4, in order: the token names pod and container; the live
//! pod is that one; the revision it names is genuine; the pod belongs to the definition; and the
//! space rule, then the resolver's namespaces, allow each reference. One answer, all or nothing,
//! and nothing leaves before the audit log has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time;
use watchword_core::claim::{self, Claim, Refusal};
use watchword_core::definition;
use watchword_core::reference::{Picked, SecretName};
use watchword_core::wanted::{FileWant, SecretSource, secrets_of};
use watchword_crds::mesos::{SecretValue, TaskInfo};
use watchword_protocol::{
    EnvSecret, ErrorCode, FileSecret, MAX_VARIABLE_BYTES, ResolveAnswer, ResolveRequest,
    SecretBytes, VERSION, Want,
};
use zeroize::Zeroizing;

use super::audit::{self, Decision, Entry, Event, Subject};
use super::budget::Share;
use super::evidence::{self, FetchError};
use super::failure::Failure;
use super::lineage::Tenant;
use super::permit::Permit;
use super::throttle::Source;
use super::{Service, authenticate, detached};
use crate::listen::{Peer, TOO_LONG};

/// Answers one container.
///
/// # Errors
///
/// What the agent is told: final where asking again is useless.
pub(super) async fn resolve(
    State(service): State<Arc<Service>>,
    request: Parts,
    body: Bytes,
) -> Result<Response, Failure> {
    let extensions = request.extensions.clone();
    detached(&extensions, answer_container(service, request, body)).await
}

async fn answer_container(
    service: Arc<Service>,
    parts: Parts,
    body: Bytes,
) -> Result<Response, Failure> {
    let request = parse(&body)?;
    let end = Instant::now() + LIMIT;
    let claim = authenticate::container(&service, &parts, &request.container);
    let claim = match within(end, claim).await {
        Ok(claim) => claim,
        Err(failure) => {
            service.record_stranger(Event::Resolve, Some(&request.container), &failure)?;
            return Err(failure);
        }
    };
    // A pod that is refused again and again has no line for each time, nor a look at the cluster.
    let pod = Source::pod(&claim.pod_uid);
    service.throttle.check(pod, Instant::now())?;
    let share = service.budget.share(Peer::host(&parts.extensions));
    match within(end, release(&service, &claim, &request.want, share)).await {
        Ok(response) => Ok(response),
        Err(failure) => {
            service.throttle.spend(pod, Instant::now());
            let path = failure.reference.as_deref();
            record(&service, &claim, path, None, Some(&failure))?;
            Err(failure)
        }
    }
}

/// Does `work`, which is given up at `end`: it goes on when its client has gone, and must not go on
/// for ever. What is given up has given out nothing, since an answer is written down and made in one
/// go.
async fn within<T>(
    end: Instant,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let too_long = || Failure::new(ErrorCode::Timeout, TOO_LONG);
    time::timeout_at(end.into(), work).await.unwrap_or_else(|_| Err(too_long()))
}

fn parse(body: &[u8]) -> Result<ResolveRequest, Failure> {
    let bad = |message: String| Failure::new(ErrorCode::BadRequest, message);
    let request: ResolveRequest = serde_json::from_slice(body)
        .map_err(|error| bad(format!("this is not a resolve request: {error}")))?;
    if request.version != VERSION {
        return Err(bad(format!(
            "version {VERSION} of the protocol is wanted, not {}",
            request.version
        )));
    }
    Ok(request)
}

async fn release(
    service: &Service,
    claim: &Claim,
    want: &[Want],
    mut share: Share,
) -> Result<Response, Failure> {
    service.guarded()?;
    // Between the review of the token and the look at the pod: see `lineage`.
    let tenant = Tenant::of(service, &claim.namespace).await?;
    let fetched = evidence::fetch(&service.client, claim).await.map_err(|error| match error {
        FetchError::Failure(failure) => failure,
        FetchError::Refusal(refusal) => refused(&refusal),
    })?;
    let task = claim::judge(claim, &fetched.evidence()).map_err(|refusal| refused(&refusal))?;
    // The webhook may have been down when the definition was applied: judge it here as well.
    definition::validate_revision(&fetched.revision.spec)
        .map_err(|invalid| Failure::new(ErrorCode::Invalid, invalid.to_string()))?;
    let wanted = Wanted::of(task, want);
    let permit = Permit::of(service, &tenant, &fetched.revision.spec)?;
    let heir = tenant.judge(service).await?;
    // Every reference is judged before the first one is looked up: a denial says nothing of what
    // exists.
    for source in wanted.sources() {
        permit.check(source)?;
    }
    heir.record(service).await?;
    let resolved = resolve_all(service, claim, &permit, &wanted, &mut share).await?;
    Ok(share.respond_json(&answer(&wanted, resolved)?))
}

/// What one container asks for now.
struct Wanted {
    env: Vec<(String, SecretSource)>,
    /// With their position among all files of the container, which is their name.
    files: Vec<(usize, FileWant)>,
}

impl Wanted {
    fn of(task: &TaskInfo, want: &[Want]) -> Self {
        let all = secrets_of(task);
        let env = all.env.into_iter().filter(|_| want.contains(&Want::Env));
        let files = all.files.into_iter().enumerate().filter(|_| want.contains(&Want::Files));
        Self { env: env.map(|one| (one.name, one.secret)).collect(), files: files.collect() }
    }

    fn sources(&self) -> impl Iterator<Item = &SecretSource> {
        let env = self.env.iter().map(|(_, source)| source);
        env.chain(self.files.iter().map(|(_, file)| &file.secret))
    }
}

/// The values of all sources, which have been judged, in order; each release has been written to the
/// audit log.
///
/// However many references there are to one secret, it is read once, and has one line.
async fn resolve_all(
    service: &Service,
    claim: &Claim,
    permit: &Permit,
    wanted: &Wanted,
    share: &mut Share,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Failure> {
    let mut values = Vec::new();
    let mut released = Vec::new();
    let mut references: BTreeMap<&SecretName, Vec<(usize, Option<&str>)>> = BTreeMap::new();
    for (place, source) in wanted.sources().enumerate() {
        values.push(match source {
            SecretSource::Inline(value) => {
                let value = inline(value)?;
                share.take(value.len())?;
                released.push(("(inline)", None));
                value
            }
            SecretSource::Invalid { message } => {
                return Err(Failure::new(ErrorCode::Invalid, message.clone()));
            }
            SecretSource::Reference { name, key } => {
                references.entry(name).or_default().push((place, key.as_deref()));
                Zeroizing::default()
            }
        });
    }
    for (name, places) in references {
        let resolved = permit.resolver.resolve(&service.store, name).await?;
        take_out(name, &resolved.value, places, &mut values, share)?;
        released.push((name.as_str(), resolved.version));
    }
    for (name, version) in released {
        record(service, claim, Some(name), version, None)?;
    }
    Ok(values)
}

/// Takes what is referred to out of a secret, and puts it into its places.
fn take_out(
    name: &SecretName,
    secret: &[u8],
    places: Vec<(usize, Option<&str>)>,
    values: &mut [Zeroizing<Vec<u8>>],
    share: &mut Share,
) -> Result<(), Failure> {
    // A secret is in memory as a whole, however little of it is asked for.
    let mut paid = secret.len();
    share.take(paid)?;
    let picked = Picked::of(secret, places.iter().filter_map(|(_, key)| *key));
    for (place, key) in places {
        let value = picked.get(key).map_err(|error| {
            Failure::new(ErrorCode::Invalid, format!("cannot use secret `{name}`: {error}"))
                .about(name.as_str())
        })?;
        share.take(value.len().saturating_sub(paid))?;
        paid = paid.saturating_sub(value.len());
        values[place] = Zeroizing::new(value.to_vec());
    }
    Ok(())
}

fn inline(value: &SecretValue) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = value.data.as_deref().unwrap_or_default();
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Failure::new(ErrorCode::Invalid, "an inline secret is not base64"))?;
    Ok(Zeroizing::new(bytes))
}

fn answer(wanted: &Wanted, values: Vec<Zeroizing<Vec<u8>>>) -> Result<ResolveAnswer, Failure> {
    let mut values = values.into_iter();
    let mut answer = ResolveAnswer { env: Vec::new(), files: Vec::new() };
    for ((name, source), value) in wanted.env.iter().zip(values.by_ref()) {
        fits_environment(name, &value).map_err(|problem| {
            let failure = Failure::new(
                ErrorCode::Invalid,
                format!("Environment variable '{name}' {problem}"),
            );
            match source {
                SecretSource::Inline(_) | SecretSource::Invalid { .. } => failure,
                SecretSource::Reference { name, .. } => failure.about(name.as_str()),
            }
        })?;
        answer.env.push(EnvSecret { name: name.clone(), value: SecretBytes::from(value) });
    }
    for ((index, _), value) in wanted.files.iter().zip(values) {
        let name = index.to_string();
        answer.files.push(FileSecret { name, value: SecretBytes::from(value) });
    }
    Ok(answer)
}

/// The first half of the words is Mesos' own (`mesos src/common/validation.cpp`).
fn fits_environment(name: &str, value: &[u8]) -> Result<(), String> {
    if value.contains(&0) {
        Err("specifies a secret containing null bytes, which is not allowed in the environment"
            .to_owned())
    } else if std::str::from_utf8(value).is_err() {
        Err("specifies a secret that is not UTF-8; use a file".to_owned())
    } else if name.len() + 1 + value.len() > MAX_VARIABLE_BYTES {
        Err(format!(
            "with its secret takes more than the {MAX_VARIABLE_BYTES} bytes that one variable may \
             have; use a file"
        ))
    } else {
        Ok(())
    }
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::new(ErrorCode::Denied, refusal.to_string())
}

fn record(
    service: &Service,
    claim: &Claim,
    path: Option<&str>,
    version: Option<u64>,
    failure: Option<&Failure>,
) -> Result<(), Failure> {
    let decision = failure.map_or(Decision::Allowed, audit::decision);
    let Claim { namespace, pod, pod_uid, service_account, container } = claim;
    let subject = Subject::Container { namespace, pod, uid: pod_uid, container, service_account };
    let event = Event::Resolve;
    let entry = Entry { event, decision, subject, path, version, cause: None, unwritten: 0 };
    match failure {
        None => service.record(&entry),
        Some(failure) => service.record_failure(entry, failure),
    }
}

/// How long one container may take, from its turn on: as long as the listener has it wait.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::serve::budget::Budget;

    fn share() -> Share {
        Budget::new().share(IpAddr::from([10, 0, 0, 1]))
    }

    fn taken(
        secret: &[u8],
        keys: &[Option<&str>],
        share: &mut Share,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let mut values = vec![Zeroizing::default(); keys.len()];
        let places = keys.iter().copied().enumerate().collect();
        take_out(&"shop/db".parse().unwrap(), secret, places, &mut values, share)?;
        Ok(values.iter().map(|value| value.to_vec()).collect())
    }

    #[test]
    fn references_to_one_secret_each_get_what_they_name() {
        let secret = br#"{"user": "ann", "word": "x"}"#;

        let values = taken(secret, &[Some("word"), None, Some("user")], &mut share()).unwrap();

        assert_eq!(values, [b"x".to_vec(), secret.to_vec(), b"ann".to_vec()]);
    }

    #[test]
    fn a_secret_is_paid_for_as_a_whole_and_no_more_than_once_for_what_is_taken_out_of_it() {
        let mut secret = br#"{"a": "b"}"#.to_vec();
        secret.resize(1 << 20, b' ');
        let mut share = share();

        for _ in 0..15 {
            taken(&secret, &[Some("a"); 40], &mut share).unwrap();
        }
        taken(&secret, &[None], &mut share).unwrap();

        assert_eq!(share.take(1).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn a_secret_that_is_referred_to_too_often_is_refused_before_it_is_copied_too_often() {
        let refused = taken(&[0; 1 << 20], &[None; 640], &mut share()).unwrap_err();

        assert_eq!(refused.code, ErrorCode::Invalid);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up() {
        let end = Instant::now() + LIMIT;

        let outcome = within(end, std::future::pending::<Result<(), _>>()).await;

        assert_eq!(outcome.unwrap_err().code, ErrorCode::Timeout);
    }
}
