//! Keeping values out of core dumps and debuggers while the agent holds them.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

use crate::failure::Failure;

/// A process that can be neither dumped nor traced by others of its user.
///
/// The application must not notice: `execve` makes it dumpable again, and [`Hardened::restore`] has
/// to bring back its limit on core files.
#[must_use]
pub(crate) struct Hardened {
    core: Rlimit,
}

/// Call before the first value arrives.
pub(crate) fn harden() -> Result<Hardened, Failure> {
    let core = getrlimit(Resource::Core);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        // Only the soft limit: lowering the hard one could not be undone.
        .and_then(|()| setrlimit(Resource::Core, Rlimit { current: Some(0), ..core }))
        .map_err(|error| Failure::launch(format!("cannot switch core dumps off: {error}")))?;
    Ok(Hardened { core })
}

impl Hardened {
    /// Gives the limit on core files back, right before `execve`.
    pub(crate) fn restore(self) -> Result<(), Failure> {
        setrlimit(Resource::Core, self.core).map_err(|error| {
            Failure::launch(format!("cannot restore the limit on core files: {error}"))
        })
    }
}
