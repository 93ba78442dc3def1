//! Asking until there is an answer or a refusal, and saying why it takes so long.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::backoff::Backoff;
use crate::failure::{Failure, one_line};
use crate::fetch::Setback;

/// Calls `ask` until it succeeds or fails for good. There is no limit: a pod that gave up would be
/// restarted, only to ask again. A signal ends the process in the middle of it.
pub(crate) fn until_answered<T>(
    container: &str,
    mut ask: impl FnMut() -> Result<T, Setback>,
) -> Result<T, Failure> {
    let mut backoff = Backoff::new();
    let mut said = Said::default();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(Setback::Final(message)) => return Err(Failure::launch(message)),
            Err(Setback::Later(cause)) => {
                if said.is_due(&cause, Instant::now()) {
                    let cause = one_line(&cause);
                    _ = writeln!(
                        io::stderr(),
                        "watchword-agent: waiting for the secrets of container `{container}`: {cause}"
                    );
                }
                thread::sleep(backoff.next(random()));
            }
        }
    }
}

/// What has been said last, and when.
#[derive(Default)]
struct Said {
    last: Option<(String, Instant)>,
}

impl Said {
    /// Whether to say `cause`: the first one, another one, or the same after a while.
    fn is_due(&mut self, cause: &str, now: Instant) -> bool {
        let is_due = match &self.last {
            None => true,
            Some((last, at)) => last != cause || now.duration_since(*at) >= REPEAT_AFTER,
        };
        if is_due {
            self.last = Some((cause.to_owned(), now));
        }
        is_due
    }
}

/// Often enough for someone who looks at the log, rarely enough for a night.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Jitter needs to differ between pods, not to be secret; a kernel that has none gets long waits.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(count) if count == bytes.len() => u64::from_ne_bytes(bytes),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Said;

    #[test]
    fn a_cause_is_said_first_when_it_changes_and_every_half_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut said = Said::default();

        let due = [
            said.is_due("refused", at(0)),
            said.is_due("refused", at(1)),
            said.is_due("sealed", at(2)),
            said.is_due("sealed", at(31)),
            said.is_due("sealed", at(32)),
            said.is_due("sealed", at(61)),
        ];

        assert_eq!(due, [true, false, true, false, true, false]);
    }
}
