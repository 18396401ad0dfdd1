//! Keys pass through our memory: it is for nobody else.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::warn;

/// No core dump, and no other process of this user may read our memory.
pub(super) fn keep_to_ourselves() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(problem) = setrlimit(Resource::Core, none) {
        warn!(%problem, "core dumps cannot be switched off");
    }
    if let Err(problem) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%problem, "memory cannot be closed to other processes");
    }
}
