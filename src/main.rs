//! The real world: the system's clock, and exit codes.

use std::process::ExitCode;
use std::time::SystemTime;

use kong_cert_reloader::cli;
use kong_cert_reloader::clock::Timestamp;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn main() -> ExitCode {
    cli::main(|| Timestamp::from(SystemTime::now()))
}
