//! The real world: the system's clock, and exit codes.

use std::alloc::System;
use std::process::ExitCode;
use std::time::SystemTime;

use kong_cert_reloader::cli;
use kong_cert_reloader::clock::Timestamp;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: keys pass through buffers of libraries, which do not. (AWS-LC has memory of
/// its own, and wipes it.)
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn main() -> ExitCode {
    cli::main(|| Timestamp::from(SystemTime::now()))
}
