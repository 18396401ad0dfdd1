//! Keys pass through our memory: it is for nobody else.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::log::tell;

/// No core dump, and no other process of this user may read our memory.
pub(super) fn keep_to_ourselves() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(problem) = setrlimit(Resource::Core, none) {
        tell!(CORE_DUMPS, %problem);
    }
    if let Err(problem) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tell!(DUMPABLE, %problem);
    }
}
