//! Keys pass through our memory: it is for nobody else.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::log::tell;

/// What the kernel would not do.
#[derive(Debug)]
pub(super) struct Refused {
    core_limit: Option<Errno>,
    dumpable: Option<Errno>,
}

/// No core dump, and no other process of this user may read our memory. To be called before a file
/// is read that may hold a secret.
pub(super) fn keep_to_ourselves() -> Refused {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Refused {
        core_limit: setrlimit(Resource::Core, none).err(),
        dumpable: set_dumpable_behavior(DumpableBehavior::NotDumpable).err(),
    }
}

impl Refused {
    /// Once there is a log.
    pub(super) fn tell(&self) {
        if let Some(problem) = self.core_limit {
            tell!(CORE_DUMPS, %problem);
        }
        if let Some(problem) = self.dumpable {
            tell!(DUMPABLE, %problem);
        }
    }
}
