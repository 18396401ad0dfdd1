//! The result, on standard output; nothing else goes there.

use std::io::{self, ErrorKind, Write as _};

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;
use serde::Serialize;

use super::{complain, exit};

/// For whom the result is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// People
    #[default]
    Table,
    /// Scripts
    Json,
}

impl Output {
    /// Prints `result` as JSON, or what `table` makes of the terminal's width.
    pub(super) fn print(
        self,
        result: &impl Serialize,
        table: impl FnOnce(Option<u16>) -> String,
    ) -> u8 {
        match self {
            Self::Table => print(&table(width())),
            Self::Json => match serde_json::to_string_pretty(result) {
                Ok(json) => print(&(json + "\n")),
                Err(problem) => {
                    complain(&format_args!("the result cannot be shown: {problem}"));
                    exit::FAILED
                }
            },
        }
    }
}

/// The exit code is [`exit::OK`] unless `text` cannot be written; a reader that went away has seen
/// what it wanted.
pub(super) fn print(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(problem) if problem.kind() != ErrorKind::BrokenPipe => {
            complain(&format_args!("cannot write to standard output: {problem}"));
            exit::FAILED
        }
        _ => exit::OK,
    }
}

/// Columns of the terminal; `None` elsewhere, where lines are for `grep` and stay whole.
fn width() -> Option<u16> {
    let columns = tcgetwinsize(io::stdout()).ok()?.ws_col;
    (columns > 0).then_some(columns)
}
