//! The sidecar's loop until each binding has come to a conclusion: no port, no watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::parts::{Assembly, assemble};
use super::signals::Signals;
use super::{complain, found, progress};
use crate::clock::Clock;
use crate::names::BindingName;
use crate::settings::Settings;
use crate::sidecar;
use crate::status::{BindingStatus, Reason, State, Status};
use crate::watch::deaf;

/// How the loop is run.
pub(super) struct Once {
    /// It ends after this long in any case.
    pub(super) timeout: Duration,
    /// Whose files are pushed though Kong's may be right.
    pub(super) forced: BTreeSet<BindingName>,
    /// Whether progress is shown.
    pub(super) shows_progress: bool,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Waiting changes nothing more.
    Concluded,
    TimedOut,
    /// By this signal.
    Signal(&'static str),
}

impl Once {
    /// Returns what is known in the end, or nothing if it could not begin. Tells why, and why some
    /// bindings came to no conclusion.
    pub(super) async fn run(
        self,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Option<Arc<Status>> {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(problem) => {
                complain(&format_args!("cannot start: {problem}"));
                return None;
            }
        };
        let Assembly { parts, status, .. } = assemble(settings, clock, deaf(), self.forced);
        let mut end = End::Concluded;
        let shutdown = async {
            end = tokio::select! {
                biased;
                () = concluded(status.clone()) => End::Concluded,
                signal = signals.next() => End::Signal(signal),
                () = sleep(self.timeout) => End::TimedOut,
            };
        };
        let work = sidecar::run(settings, parts, shutdown);
        if self.shows_progress {
            tokio::select! {
                biased;
                () = work => {}
                never = progress::tell(status.clone()) => match never {},
            }
        } else {
            work.await;
        }
        let known = Arc::clone(&status.borrow());
        if let Some(advice) = advice(end, self.timeout, &known, settings) {
            complain(&advice);
        }
        Some(known)
    }
}

/// Waits until each binding has come to a conclusion, and nothing follows from it at once.
async fn concluded(mut status: watch::Receiver<Arc<Status>>) {
    let is_concluded = |status: &Arc<Status>| {
        // Credentials do not mend themselves while one waits.
        let is_over = |binding: &Arc<BindingStatus>| {
            let is_concluded = binding.is_concluded() || binding.state == State::Unauthorized;
            is_concluded && !binding.is_asking
        };
        status.idle && status.bindings.values().all(is_over)
    };
    // An error: the loop has ended.
    let _ = status.wait_for(is_concluded).await;
}

/// What to do about bindings that came to no conclusion, or about none at all.
fn advice(end: End, timeout: Duration, status: &Status, settings: &Settings) -> Option<String> {
    if status.bindings.is_empty() {
        return Some(found::none_of_the_settings(&settings.certs_dir));
    }
    let all = status.bindings.len();
    let bindings = status.bindings.values().map(|binding| &**binding);
    let open: Vec<&BindingStatus> = bindings.filter(|binding| !binding.is_concluded()).collect();
    let rest = format!("{} of {all} not concluded", open.len());
    match end {
        End::Concluded => None,
        End::Signal(signal) => Some(format!("ended by {signal}: {rest}")),
        End::TimedOut => {
            let waits_for_nginx =
                |binding: &&BindingStatus| matches!(binding.reason, Some(Reason::NoReload { .. }));
            let waits_for_kong = |binding: &&BindingStatus| {
                let is_away = binding.state == State::Unreachable && !waits_for_nginx(binding);
                is_away || binding.reason == Some(Reason::Starting)
            };
            let url = settings.admin.url.as_ref().filter(|_| open.iter().any(waits_for_kong));
            let mend = match url {
                Some(url) => format!(
                    "see whether Kong runs and CERT_RELOADER__ADMIN__URL ({url}) is its Admin API, or take a longer --timeout"
                ),
                None if open.iter().any(waits_for_nginx) => {
                    "see whether Kong's nginx runs beside this, or take a longer --timeout"
                        .to_owned()
                }
                None => "mend what the messages say, or take a longer --timeout".to_owned(),
            };
            let timeout = humantime::format_duration(timeout);
            Some(format!("gave up after {timeout}: {rest}; {mend}"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::Timestamp;
    use crate::nginx::NoReload;

    fn status(states: &[State]) -> Status {
        let bindings = states.iter().enumerate().map(|(number, state)| {
            let starting = BindingStatus::starting(Timestamp(0));
            let name = format!("n{number}").parse().unwrap();
            (name, Arc::new(BindingStatus { state: *state, reason: None, ..starting }))
        });
        let initial = sidecar::initial_status(&Settings::default());
        Status { bindings: bindings.collect(), ..(*initial).clone() }
    }

    #[tokio::test]
    async fn it_ends_when_all_are_concluded_and_nothing_follows_at_once() {
        let (sender, receiver) = watch::channel(Arc::new(status(&[])));
        let ends_now = || concluded(receiver.clone()).now_or_never().is_some();
        // Before the first look nothing is known, not even that there is nothing.
        assert!(!ends_now());
        for (states, idle, ends) in [
            (&[State::InSync, State::Pending][..], true, false),
            (&[State::InSync, State::Unreachable], true, false),
            (&[State::InSync, State::Invalid], false, false),
            (&[State::InSync, State::Invalid], true, true),
            (&[State::InSync, State::Unauthorized], true, true),
        ] {
            sender.send_replace(Arc::new(Status { idle, ..status(states) }));
            assert_eq!(ends_now(), ends, "{states:?}");
        }
    }

    fn without_nginx(problem: &NoReload) -> Status {
        let mut status = status(&[State::Unreachable]);
        let (word, may_pass) = (problem.as_str(), problem.may_pass());
        for binding in status.bindings.values_mut() {
            Arc::make_mut(binding).reason = Some(Reason::NoReload { word, may_pass });
        }
        status
    }

    #[tokio::test]
    async fn it_waits_for_an_nginx_that_may_come_and_for_nobody_who_mends_it() {
        for (problem, ends) in [
            (NoReload::NotRunning, false),
            (NoReload::Gone { pid: 7 }, false),
            (NoReload::Unshared, true),
            (NoReload::Several { pids: vec![7, 8] }, true),
            (NoReload::NoPidfd, true),
        ] {
            let status = Status { idle: true, ..without_nginx(&problem) };
            let (_sender, receiver) = watch::channel(Arc::new(status));
            assert_eq!(concluded(receiver).now_or_never().is_some(), ends, "{problem}");
        }
    }

    #[test]
    fn an_nginx_that_does_not_come_is_told_as_such() {
        let status = without_nginx(&NoReload::NotRunning);
        let timeout = Duration::from_secs(60);
        let told = advice(End::TimedOut, timeout, &status, &Settings::default()).unwrap();
        assert!(told.contains("nginx") && !told.contains("ADMIN__URL"), "{told}");
    }

    #[test]
    fn each_end_is_told_with_what_to_do() {
        let settings = Settings::default();
        let advice = |end, states| {
            advice(end, Duration::from_secs(60), &status(states), &settings).unwrap_or_default()
        };
        assert_eq!(advice(End::Concluded, &[State::Held]), "");
        let told = advice(End::TimedOut, &[State::InSync, State::Unreachable]);
        assert!(told.starts_with("gave up after 1m: 1 of 2 not concluded"), "{told}");
        assert!(told.contains("CERT_RELOADER__ADMIN__URL (http://127.0.0.1:8001)"), "{told}");
        let told = advice(End::TimedOut, &[State::Unauthorized]);
        assert!(!told.contains("ADMIN__URL") && told.contains("--timeout"), "{told}");
        let told = advice(End::Signal("SIGINT"), &[State::Pending]);
        assert_eq!(told, "ended by SIGINT: 1 of 1 not concluded");
        let told = advice(End::Concluded, &[]);
        assert!(told.contains("/etc/kong-certs") && told.contains("CERTS_DIR"), "{told}");
    }
}
