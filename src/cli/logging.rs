//! Logs: text on a terminal, else JSON lines; what we depend on speaks up from `warn`.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::arguments::Command;
use crate::settings::{Log, LogFormat, LogLevel};

/// What a command logs: the sidecar as configured, others errors alone unless they are to be verbose.
pub(super) fn for_command(command: &Command, log: Log) -> Log {
    let is_verbose = match command {
        Command::Run => true,
        Command::Sync(sync) => sync.manner.verbose,
        Command::Diff(diff) => diff.manner.verbose,
        Command::Check(_) | Command::Probe { .. } | Command::Completions { .. } => false,
    };
    if is_verbose {
        log
    } else {
        Log { level: LogLevel(log.level.0.min(LevelFilter::ERROR)), ..log }
    }
}

/// Sends logs to standard error from now on.
pub(super) fn start(settings: &Log) {
    let level = settings.level.0;
    // TRACE of the HTTP and TLS libraries would print what must not be printed.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("kong_cert_reloader", level);
    let on_terminal = io::stderr().is_terminal();
    let as_text = match settings.format {
        LogFormat::Auto => on_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let layer = if as_text {
        fmt::layer().with_writer(io::stderr).with_ansi(on_terminal).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(io::stderr).with_target(false).boxed()
    };
    // Only a test could have set another before.
    let _ = registry().with(layer.with_filter(filter)).try_init();
}
