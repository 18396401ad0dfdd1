//! The commands, and their exit codes.

mod logging;
mod probe;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::probe::Probe;
use crate::clock::Clock;
use crate::settings::Settings;

/// Everything is in place, or was asked to end.
const OK: u8 = 0;
/// It did not succeed.
const FAILED: u8 = 1;
/// The command line or the settings are wrong.
const USAGE: u8 = 2;

/// Makes Kong serve what is in mounted certificate files: no restart, no Kubernetes rights.
///
/// Settings come from the environment (CERT_RELOADER__…) and from the YAML file that
/// CERT_RELOADER__CONFIG names; the README lists them.
#[derive(Debug, Parser)]
#[command(version, about, long_about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch and reload until SIGTERM (this is what happens without a command)
    Run,
    /// Ask the sidecar beside us for its health: an exec probe that needs no shell
    Probe {
        /// What to ask
        #[arg(value_enum)]
        probe: Probe,
    },
}

/// Does what the command line says. `clock` tells the wall-clock time.
#[must_use]
pub fn main(clock: impl Clock + 'static) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => {
            // Help and version go to standard output, misuse to standard error.
            let _ = problem.print();
            return ExitCode::from(if problem.use_stderr() { USAGE } else { OK });
        }
    };
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(mistakes) => {
            complain(&mistakes);
            return ExitCode::from(USAGE);
        }
    };
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&settings, clock),
        Command::Probe { probe } => probe::probe(probe, settings.listen),
    }
}

/// Says on standard error why the command came to nothing.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn complain(problem: &dyn std::fmt::Display) {
    eprintln!("kong-cert-reloader: {problem}");
}
