//! `completions SHELL`.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::arguments::Arguments;
use super::output;

/// Prints what the shell wants to read.
pub(super) fn print(shell: Shell) -> u8 {
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "kong-cert-reloader", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
