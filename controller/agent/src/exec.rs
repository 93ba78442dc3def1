//! `exec`: the secret variables of this container, and then the application in the agent's place.
//!
//! The application gets everything as if the agent had not been there: arguments, working directory,
//! user, limits, open files, signal mask, and its process id. Of the environment only the agent's
//! own variables are missing. One difference is known: SIGPIPE, if the runtime had it ignored, has
//! its default again.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::execve;
use rustix::io::Errno;
use watchword_protocol::{ResolveAnswer, Want, env_names};

use crate::cache;
use crate::environment::{Environment, Variable};
use crate::failure::Failure;
use crate::fetch::Client;
use crate::harden::{Hardened, harden};
use crate::program;
use crate::settings;
use crate::wait;

/// Fetches the variables, leaves them for probes where there are any, and becomes `argv`.
pub(crate) fn run(argv: &[OsString]) -> Result<Infallible, Failure> {
    let hardened = harden()?;
    let cache = settings::env_cache();
    cache.as_deref().map_or(Ok(()), cache::forget)?;
    let identity = settings::identity()?;
    let client = Client::new(&settings::store()?)?;

    let answer = wait::until_answered(&identity.container, || {
        client.resolve(&identity, Want::Env, MAX_ANSWER_BYTES)
    })?;
    let secrets = variables(&answer)?;
    // Held until the program is there.
    let _latch = cache.map(|path| cache::write(&path, &secrets)).transpose()?;
    become_program(argv, secrets, hardened)
}

/// Takes the variables that the container's own agent has left, and becomes `argv`. Makes no call.
pub(crate) fn run_cached(argv: &[OsString]) -> Result<Infallible, Failure> {
    let run = || {
        let hardened = harden()?;
        let path = settings::env_cache().ok_or_else(|| {
            Failure::launch(format!("{} is not set", env_names::WATCHWORD_ENV_CACHE))
        })?;
        become_program(argv, cache::read(&path)?, hardened)
    };
    run().map_err(Failure::of_a_probe)
}

fn variables(answer: &ResolveAnswer) -> Result<Vec<Variable>, Failure> {
    answer.env.iter().map(Variable::secret).collect()
}

fn become_program(
    argv: &[OsString],
    secrets: Vec<Variable>,
    hardened: Hardened,
) -> Result<Infallible, Failure> {
    let environment = Environment::merge(std::env::vars_os(), secrets)?;
    let arguments: Vec<CString> = argv
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::launch("an argument holds a NUL byte"))?;
    let name = argv.first().ok_or_else(|| Failure::launch("no program given"))?;
    let program = program::find(name, environment.path())?;
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| Failure::launch("PATH holds a NUL byte"))?;

    hardened.restore()?;
    // The standard library's `exec` would sort the environment, empty the signal mask, and try a
    // shell on files that are no programs.
    let Err(error) = execve(&path, &arguments, environment.variables());
    Err(program::cannot_start(&program, Errno::from_raw_os_error(error as i32)))
}

/// All arguments and variables of a program fit into 2 MiB (a quarter of the usual stack limit);
/// base64 adds a third, names and JSON a little.
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;
