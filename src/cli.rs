//! The commands, and their exit codes.

mod arguments;
mod cells;
mod check;
mod completions;
mod diff;
mod exit;
mod found;
mod logging;
mod memory;
mod once;
mod output;
mod parts;
mod probe;
mod progress;
mod run;
mod runtime;
mod signals;
mod sync;
mod table;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use self::arguments::{Arguments, Command};
use crate::clock::Clock;
use crate::settings::Settings;

/// Does what the command line says. `clock` tells the wall-clock time.
#[must_use]
pub fn main(clock: impl Clock + 'static) -> ExitCode {
    let refused = memory::keep_to_ourselves();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(problem) => return ExitCode::from(tell_usage(&problem)),
    };
    let command = arguments.command.unwrap_or(Command::Run);
    if let Command::Completions { shell } = command {
        return ExitCode::from(completions::print(shell));
    }
    let clock: Arc<dyn Clock> = Arc::new(clock);
    // What is to be checked is named: the settings have nothing to add.
    let needs_settings =
        !matches!(&command, Command::Check(asked) if !asked.directories.is_empty());
    let settings = if needs_settings { Settings::load() } else { Ok(Settings::default()) };
    match settings {
        Ok(settings) => {
            logging::start(&logging::for_command(&command, settings.log));
            refused.tell();
            ExitCode::from(obey(&command, &settings, &clock))
        }
        Err(mistakes) => {
            complain(&mistakes);
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Help and version go to standard output, misuse to standard error.
fn tell_usage(problem: &clap::Error) -> u8 {
    if !problem.use_stderr() {
        return output::print(&problem.to_string());
    }
    if problem.to_string().contains("-----BEGIN") {
        complain(&"an argument holds PEM; name the file that it is in");
    } else {
        let _ = problem.print();
    }
    exit::USAGE
}

fn obey(command: &Command, settings: &Settings, clock: &Arc<dyn Clock>) -> u8 {
    match command {
        Command::Run => run::run(settings, clock),
        Command::Sync(asked) => sync::sync(settings, asked, clock),
        Command::Diff(asked) => diff::diff(settings, asked, clock),
        Command::Check(asked) => check::check(settings, asked, clock.now()),
        Command::Probe { probe } => probe::probe(*probe, settings.listen),
        Command::Completions { shell } => completions::print(*shell),
    }
}

/// Says on standard error why the command came to nothing, or not to all that was asked for.
fn complain(problem: &dyn Display) {
    // Where nobody listens, the exit code has to do.
    let _ = writeln!(io::stderr(), "kong-cert-reloader: {problem}");
}
