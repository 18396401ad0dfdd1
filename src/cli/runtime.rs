//! The one thread on which everything runs.

use std::future::Future;

use tokio::runtime::Builder;

use super::{complain, exit};

/// Runs `work` to its end, which is an exit code.
pub(super) fn block_on(work: impl Future<Output = u8>) -> u8 {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            complain(&format_args!("cannot start: {problem}"));
            return exit::FAILED;
        }
    };
    let code = runtime.block_on(work);
    // Look-ups of names run on threads of their own, and need not be waited for.
    runtime.shutdown_background();
    code
}
