//! When each binding is looked at next, and when Kong is asked again. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::BindingName;

/// The first wait after Kong did not answer.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// So many times `DEBOUNCE` is waited for quiet.
const LONGEST_UNREST: u32 = 10;

/// What causes a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// The program started, or the binding was found.
    Start,
    /// Something happened in the files' directory.
    Files,
    /// The safety poll.
    Poll,
    /// A time that a decision named: the end of a hold, a `notBefore`, a second look.
    Timer,
    /// Handshakes show something else than what Kong holds.
    Proof,
    /// A Kong without a database runs another configuration, or takes all of it at once.
    Configuration,
    /// Kong did not answer before.
    Retry,
    /// The time to compare all with Kong.
    Resync,
}

impl Trigger {
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Files => "files",
            Self::Poll => "poll",
            Self::Timer => "timer",
            Self::Proof => "proof",
            Self::Configuration => "configuration",
            Self::Retry => "retry",
            Self::Resync => "resync",
        }
    }

    /// Whether the look is of use even if the files are as they were.
    #[must_use]
    pub const fn ignores_files(self) -> bool {
        !matches!(self, Self::Files | Self::Poll)
    }
}

/// The looks to come.
#[derive(Debug, Default)]
pub struct Schedule {
    files: BTreeMap<BindingName, (Instant, Trigger)>,
    /// The first event since the files were looked at.
    first_events: BTreeMap<BindingName, Instant>,
    timed: BTreeMap<BindingName, (Instant, Trigger)>,
    proofs: BTreeMap<BindingName, Instant>,
    attempts: BTreeMap<BindingName, u32>,
    /// Those that do not need Kong's Admin API.
    independent: BTreeSet<BindingName>,
    breaker: Breaker,
}

/// Keeps calls from a Kong that does not answer.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

/// The looks that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Which, and why.
    pub looks: BTreeMap<BindingName, Trigger>,
    /// Whether Kong may be asked.
    pub ask_kong: bool,
    /// For which handshakes are to be made.
    pub proofs: Vec<BindingName>,
}

impl Schedule {
    /// Something happened to the files of `binding`: it is looked at after `quiet` without another
    /// event, and even if they never cease after ten times that.
    pub fn files(&mut self, binding: &BindingName, now: Instant, quiet: Duration) {
        let first = *self.first_events.entry(binding.clone()).or_insert(now);
        let at = (now + quiet).min(first + quiet * LONGEST_UNREST);
        self.files.insert(binding.clone(), (at, Trigger::Files));
    }

    /// Looks at `binding` at `at` because files may change unheard; a look that is planned waits for
    /// quiet, and stays.
    pub fn poll(&mut self, binding: &BindingName, at: Instant) {
        self.files.entry(binding.clone()).or_insert((at, Trigger::Poll));
    }

    /// Looks at `binding` at `at`, or earlier if that is planned.
    pub fn at(&mut self, binding: &BindingName, at: Instant, trigger: Trigger) {
        let planned = self.timed.entry(binding.clone()).or_insert((at, trigger));
        if at < planned.0 {
            *planned = (at, trigger);
        }
    }

    /// Handshakes are made for `binding` at `at`, and not as planned before.
    pub fn prove(&mut self, binding: &BindingName, at: Instant) {
        self.proofs.insert(binding.clone(), at);
    }

    /// Takes all looks that are due at `now`. While Kong gets a rest, only those at files.
    pub fn take_due(&mut self, now: Instant) -> Due {
        let ask_kong = self.breaker.open_until.is_none_or(|until| until <= now);
        let mut looks = take(&mut self.files, now, |_| true);
        for name in looks.keys() {
            self.first_events.remove(name);
        }
        let timed = take(&mut self.timed, now, |name| ask_kong || self.independent.contains(name));
        // What ignores the files is the wider look.
        looks.extend(timed);
        let is_due = |_: &BindingName, at: &mut Instant| *at <= now;
        let proofs = self.proofs.extract_if(.., is_due).map(|(name, _)| name).collect();
        Due { looks, ask_kong, proofs }
    }

    /// When the next look is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let timed = self.timed.iter().map(|(name, (at, _))| match self.breaker.open_until {
            Some(until) if !self.independent.contains(name) => until.max(*at),
            _ => *at,
        });
        let proofs = self.proofs.values().copied().min();
        self.files.values().map(|(at, _)| *at).chain(timed).chain(proofs).min()
    }

    /// A pass ended in which Kong answered at least once, or never although it was asked.
    pub fn pass_ended(
        &mut self,
        answered: bool,
        now: Instant,
        wish: Option<Duration>,
        jitter: f64,
    ) {
        if answered {
            self.breaker = Breaker::default();
        } else {
            self.breaker.failures = self.breaker.failures.saturating_add(1);
            let wait = backoff(self.breaker.failures, jitter).max(wish.unwrap_or_default());
            self.breaker.open_until = Some(now + wait);
        }
    }

    /// `binding` failed for a reason that may pass: it is looked at again after its own backoff, and
    /// not before Kong had its rest.
    pub fn retry(
        &mut self,
        binding: &BindingName,
        now: Instant,
        wish: Option<Duration>,
        jitter: f64,
    ) {
        let attempts = self.attempts.entry(binding.clone()).or_default();
        *attempts = attempts.saturating_add(1);
        let at = match self.breaker.open_until {
            Some(until) if until > now && !self.independent.contains(binding) => until,
            _ => now + backoff(*attempts, jitter).max(wish.unwrap_or_default()),
        };
        self.at(binding, at, Trigger::Retry);
    }

    /// `binding` was looked at: what was timed before has no meaning any more.
    pub fn concluded(&mut self, binding: &BindingName) {
        self.timed.remove(binding);
    }

    /// There is no such binding any more.
    pub fn forget(&mut self, binding: &BindingName) {
        self.files.remove(binding);
        self.first_events.remove(binding);
        self.timed.remove(binding);
        self.proofs.remove(binding);
        self.attempts.remove(binding);
        self.independent.remove(binding);
    }

    /// `binding` does not need Kong's Admin API: its rests are no rests of this one.
    pub fn be_independent(&mut self, binding: &BindingName) {
        self.independent.insert(binding.clone());
    }

    /// `binding` did not fail: its next failure is its first.
    pub fn succeeded(&mut self, binding: &BindingName) {
        self.attempts.remove(binding);
    }
}

fn take(
    looks: &mut BTreeMap<BindingName, (Instant, Trigger)>,
    now: Instant,
    may: impl Fn(&BindingName) -> bool,
) -> BTreeMap<BindingName, Trigger> {
    let due = looks.extract_if(.., |name, (at, _)| *at <= now && may(name));
    due.map(|(name, (_, trigger))| (name, trigger)).collect()
}

/// 0.2 s, doubled each time up to 30 s; `jitter` from 0 to 1 takes away up to half.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_BACKOFF).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn name(name: &str) -> BindingName {
        name.parse().unwrap()
    }

    fn looks(due: &Due) -> Vec<(&str, Trigger)> {
        due.looks.iter().map(|(name, trigger)| (name.as_ref(), *trigger)).collect()
    }

    #[test]
    fn each_event_puts_off_the_look_at_files_that_are_not_quiet() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.files(&name("a"), start, s(1));
        schedule.files(&name("a"), start + s(1), s(1));
        schedule.poll(&name("a"), start);
        assert_eq!(schedule.next(), Some(start + s(2)));
        assert_eq!(looks(&schedule.take_due(start + s(1))), []);
        assert_eq!(looks(&schedule.take_due(start + s(2))), [("a", Trigger::Files)]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn files_that_are_never_quiet_are_looked_at_all_the_same() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        for tenths in 0..200 {
            schedule.files(&name("a"), start + Duration::from_millis(100) * tenths, s(1));
        }
        assert_eq!(schedule.next(), Some(start + s(10)));
        schedule.take_due(start + s(10));
        schedule.files(&name("a"), start + s(11), s(1));
        assert_eq!(schedule.next(), Some(start + s(12)));
    }

    #[test]
    fn the_earliest_timer_rules() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.at(&name("a"), start + s(5), Trigger::Resync);
        schedule.at(&name("a"), start + s(2), Trigger::Timer);
        schedule.at(&name("a"), start + s(9), Trigger::Retry);
        assert_eq!(schedule.next(), Some(start + s(2)));
        assert_eq!(looks(&schedule.take_due(start + s(2))), [("a", Trigger::Timer)]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn while_kong_rests_only_files_are_looked_at() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.pass_ended(false, start, Some(s(3)), 0.0);
        schedule.retry(&name("a"), start, None, 0.0);
        assert_eq!(schedule.next(), Some(start + s(3)));
        schedule.files(&name("b"), start + s(1), Duration::ZERO);
        let due = schedule.take_due(start + s(1));
        assert_eq!(looks(&due), [("b", Trigger::Files)]);
        assert!(!due.ask_kong);
        let due = schedule.take_due(start + s(3));
        assert_eq!(looks(&due), [("a", Trigger::Retry)]);
        assert!(due.ask_kong);
    }

    #[test]
    fn what_does_not_need_kong_is_looked_at_while_it_rests() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.be_independent(&name("a"));
        schedule.pass_ended(false, start, Some(s(60)), 0.0);
        schedule.at(&name("a"), start + s(1), Trigger::Timer);
        schedule.at(&name("b"), start + s(1), Trigger::Timer);
        assert_eq!(schedule.next(), Some(start + s(1)));
        assert_eq!(looks(&schedule.take_due(start + s(1))), [("a", Trigger::Timer)]);
        schedule.retry(&name("a"), start + s(1), None, 0.0);
        assert_eq!(schedule.next(), Some(start + s(1) + FIRST_BACKOFF));
        schedule.forget(&name("a"));
        schedule.at(&name("a"), start + s(2), Trigger::Timer);
        assert_eq!(schedule.next(), Some(start + s(60)));
    }

    #[test]
    fn backoff_doubles_up_to_thirty_seconds_and_an_answer_ends_it() {
        let waits: Vec<_> = (1..=10).map(|failures| backoff(failures, 0.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff(1, 1.0), FIRST_BACKOFF / 2);
        assert_eq!(backoff(u32::MAX, 0.0), LONGEST_BACKOFF);
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.pass_ended(false, start, None, 0.0);
        schedule.pass_ended(false, start, None, 0.0);
        schedule.retry(&name("a"), start, None, 0.0);
        assert_eq!(schedule.next(), Some(start + FIRST_BACKOFF * 2));
        schedule.pass_ended(true, start, None, 0.0);
        assert!(schedule.take_due(start).ask_kong);
    }

    #[test]
    fn a_look_at_files_that_are_unchanged_leaves_the_retry_in_place() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.retry(&name("a"), start, None, 0.0);
        schedule.files(&name("a"), start, Duration::ZERO);
        assert_eq!(looks(&schedule.take_due(start)), [("a", Trigger::Files)]);
        assert_eq!(schedule.next(), Some(start + FIRST_BACKOFF));
        schedule.concluded(&name("a"));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn handshakes_are_made_at_the_time_that_was_set_last_even_while_kong_rests() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.pass_ended(false, start, Some(s(60)), 0.0);
        schedule.prove(&name("a"), start + s(1));
        schedule.prove(&name("a"), start + s(2));
        schedule.prove(&name("b"), start + s(3));
        schedule.concluded(&name("a"));
        assert_eq!(schedule.next(), Some(start + s(2)));
        assert_eq!(schedule.take_due(start + s(1)).proofs, []);
        assert_eq!(schedule.take_due(start + s(2)).proofs, [name("a")]);
        schedule.forget(&name("b"));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_binding_that_fails_alone_has_a_backoff_of_its_own() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.pass_ended(true, start, None, 0.0);
        schedule.retry(&name("a"), start, None, 0.0);
        assert_eq!(schedule.take_due(start + FIRST_BACKOFF).looks.len(), 1);
        schedule.retry(&name("a"), start, None, 0.0);
        assert_eq!(schedule.next(), Some(start + FIRST_BACKOFF * 2));
        schedule.take_due(start + s(1));
        schedule.succeeded(&name("a"));
        schedule.retry(&name("a"), start, None, 0.0);
        assert_eq!(schedule.next(), Some(start + FIRST_BACKOFF));
    }
}
