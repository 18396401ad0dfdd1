//! How far it is, on standard error: a bar on a terminal, elsewhere a line now and then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use super::complain;
use crate::status::{State, Status};

/// Work that ends sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two pictures of the bar.
const FRAME: Duration = Duration::from_millis(100);

/// Tells how far it is until it is dropped.
pub(super) async fn tell(status: watch::Receiver<Arc<Status>>) -> Infallible {
    sleep(PATIENCE).await;
    if io::stderr().is_terminal() { draw(status).await } else { write(status).await }
}

async fn draw(status: watch::Receiver<Arc<Status>>) -> Infallible {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(0), target).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:20}] {msg} ({elapsed})") {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut frames = interval(FRAME);
    loop {
        frames.tick().await;
        let known = Arc::clone(&status.borrow());
        let (done, all) = share(&known);
        bar.set_length(all);
        bar.set_position(done);
        bar.set_message(line(&known));
        bar.tick();
    }
}

async fn write(status: watch::Receiver<Arc<Status>>) -> Infallible {
    let mut lines = interval(PAUSE);
    loop {
        lines.tick().await;
        let known = Arc::clone(&status.borrow());
        complain(&line(&known));
    }
}

/// How many are concluded, and how many there are.
fn share(status: &Status) -> (u64, u64) {
    let concluded = status.bindings.values().filter(|binding| binding.is_concluded()).count();
    (concluded as u64, status.bindings.len() as u64)
}

/// Such as `3/120 in place, 2 pending`.
fn line(status: &Status) -> String {
    let mut others: BTreeMap<State, usize> = BTreeMap::new();
    let mut in_place = 0;
    for binding in status.bindings.values() {
        if binding.state.is_in_place() {
            in_place += 1;
        } else {
            *others.entry(binding.state).or_default() += 1;
        }
    }
    let others: Vec<String> =
        others.iter().map(|(state, count)| format!(", {count} {state}")).collect();
    format!("{in_place}/{} in place{}", status.bindings.len(), others.concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::clock::Timestamp;
    use crate::settings::Settings;
    use crate::sidecar::initial_status;
    use crate::status::BindingStatus;

    #[test]
    fn a_line_counts_what_is_in_place_and_what_is_not() {
        let states = [
            State::InSync,
            State::Unsupported,
            State::Held,
            State::Unreachable,
            State::Pending,
            State::Pending,
        ];
        let bindings = states.iter().enumerate().map(|(number, state)| {
            let starting = BindingStatus::starting(Timestamp(0));
            let name = format!("n{number}").parse().unwrap();
            (name, Arc::new(BindingStatus { state: *state, ..starting }))
        });
        let initial = initial_status(&Settings::default());
        let status = Status { bindings: bindings.collect(), ..(*initial).clone() };
        assert_eq!(line(&status), "2/6 in place, 2 pending, 1 held, 1 unreachable");
        assert_eq!(share(&status), (3, 6));
        assert_eq!(line(&initial), "0/0 in place");
    }
}
