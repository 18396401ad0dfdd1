//! A program that ends by itself, and what it leaves.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Nothing that is waited for takes longer on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A program that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// Runs `program` to its end, with nothing in its environment but `settings` (names without the
/// prefix `CERT_RELOADER__`). Panics where that takes 30 s, or a signal ends it; it is killed where
/// nobody waits for it any more.
pub async fn run_command(
    program: impl AsRef<Path>,
    args: &[&str],
    settings: &[(&str, &str)],
) -> Finished {
    let mut command = with_settings(program.as_ref(), settings);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(PATIENCE, command.output()).await else {
        panic!("no end of {command:?}");
    };
    let output = output.unwrap();
    Finished {
        code: output.status.code().expect("an end of its own"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `program` with nothing but these settings in its environment.
pub(crate) fn with_settings(program: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for (name, value) in settings {
        command.env(format!("CERT_RELOADER__{name}"), value);
    }
    command
}
